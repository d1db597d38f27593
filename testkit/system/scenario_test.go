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
	cfg.Hub.TypingTTL = 4 * time.Second
	s := Start(t, cfg)
	return scenario.Tell(t, scenario.Stage{
		URL: s.URL, Sockets: [2]string{s.SocketURLs[0], s.SocketURLs[len(s.SocketURLs)-1]}, Mails: s.Mailbox,
		TypingExpires: func() { s.Advance(5 * time.Second) }, Secret: secret,
	})
}
