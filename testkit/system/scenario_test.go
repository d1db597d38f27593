package system

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/testkit/scenario"
)

var update = flag.Bool("update", false, "rewrite the transcript that testkit/scenario keeps")

// TestScenario tells one whole story on each store with each transport, on one node and on
// two. Nobody outside can tell them apart: the transcripts are equal, byte for byte, to the one
// that is kept.
func TestScenario(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, cfg Config) {
		for nodes := range 3 { // none said is one
			cfg := cfg // the subtests run when the loop is over
			cfg.Nodes = nodes
			t.Run(fmt.Sprint(nodes), func(t *testing.T) {
				t.Parallel()
				compare(t, cfg)
			})
		}
	})
}

func compare(t *testing.T, cfg Config) {
	told := story(t, cfg, nil)
	if *update && cfg.Store == Memory && cfg.Transport == NBIO && cfg.Nodes == 1 {
		require.NoError(t, os.WriteFile("../scenario/testdata/scenario.txt", []byte(told), 0o644))
	}
	require.Equal(t, scenario.Golden(), told, "if the protocol was meant to change, run: go test ./testkit/system -run TestScenario -update, and then without it")
}

func story(t *testing.T, cfg Config, secret func(string)) string {
	return tell(t, cfg, scenario.Stage{Secret: secret})
}

// tell tells the story to a system that it starts, on a stage that is otherwise as it is given.
func tell(t *testing.T, cfg Config, stage scenario.Stage) string {
	cfg.Hub.TypingTTL = 4 * time.Second
	s := Start(t, cfg)
	stage.URL, stage.Sockets, stage.Mails = s.URL, [2]string{s.SocketURLs[0], s.SocketURLs[len(s.SocketURLs)-1]}, s.Mailbox
	stage.TypingExpires = func() { s.Advance(5 * time.Second) }
	return scenario.Tell(t, stage)
}
