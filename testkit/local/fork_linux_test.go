package local_test

import (
	"net"
	"os/exec"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/testkit/local"
)

// TestFreePortWhileProgramsStart checks that a port can be listened on at once although this process starts programs: a child
// has a copy of each descriptor until it runs its program.
func TestFreePortWhileProgramsStart(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("true")
	if err != nil {
		t.Skip("no program true")
	}
	var starters sync.WaitGroup
	end := make(chan struct{})
	for range 4 {
		starters.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
				}
				if err := exec.Command(program).Run(); err != nil {
					t.Errorf("true: %v", err)
					return
				}
			}
		})
	}
	defer starters.Wait()
	defer close(end)
	for range 400 {
		address, err := local.FreeAddress()
		require.NoError(t, err)
		l, err := net.Listen("tcp", address)
		require.NoError(t, err)
		require.NoError(t, l.Close())
	}
}
