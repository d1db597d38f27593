//go:build unix

package nbiows_test

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/contract"
)

// TestAProcessThatIsStartedKeepsNoConnection starts a process while a connection is open. If it
// inherited the descriptor, the kernel would go on telling the poller about the old connection
// after its end, and the next one, which has its number, would be closed in its place.
func TestAProcessThatIsStartedKeepsNoConnection(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	acceptor := contract.NewAcceptor()
	url := start(t, acceptor, nil)
	for range 20 {
		first := openPipe(t, url, nil, acceptor, 500*time.Millisecond)
		child := exec.Command("cat")
		stdin, err := child.StdinPipe()
		require.NoError(t, err)
		require.NoError(t, child.Start())
		require.NoError(t, first.Client.Cut())
		require.NoError(t, first.Receiver.Gone(ctx))
		second := openPipe(t, url, nil, acceptor, 500*time.Millisecond)
		require.NoError(t, second.Client.Write(ctx, false, []byte("still here")))
		m, err := second.Receiver.Next(ctx)
		require.NoError(t, err)
		require.Equal(t, "still here", string(m.Payload))
		require.NoError(t, stdin.Close())
		require.NoError(t, child.Wait())
	}
}
