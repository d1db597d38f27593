package bunstore_test

import (
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/bunstore"
)

// A connection that leads to a machine that is gone without a word ends by itself, since the system was told to.
func TestSilenceIsLimited(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, l.Close()) })
	for silence, want := range map[time.Duration][4]int{
		10 * time.Second: {10_000, 2, 2, 4}, 1500 * time.Millisecond: {1500, 1, 1, 4}, 30 * time.Second: {30_000, 6, 6, 4},
	} {
		conn, err := bunstore.Dialer(silence)(t.Context(), "tcp", l.Addr().String())
		require.NoError(t, err)
		raw, err := conn.(*net.TCPConn).SyscallConn()
		require.NoError(t, err)
		var got [4]int
		require.NoError(t, raw.Control(func(fd uintptr) {
			for i, option := range []int{18, syscall.TCP_KEEPIDLE, syscall.TCP_KEEPINTVL, syscall.TCP_KEEPCNT} {
				value, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, option)
				assert.NoError(t, err)
				got[i] = value
			}
		}))
		assert.Equal(t, want, got, silence)
		require.NoError(t, conn.Close())
	}
	conn, err := bunstore.Dialer(-1)(t.Context(), "tcp", l.Addr().String())
	require.NoError(t, err)
	require.NoError(t, conn.Close())
}
