package system

import (
	"flag"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/testkit/scenario"
)

var update = flag.Bool("update", false, "rewrite the transcript that testkit/scenario keeps")

// TestScenario tells one whole story on each store with each transport. Nobody outside can
// tell them apart: the transcripts are equal, byte for byte, to the one that is kept.
func TestScenario(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, cfg Config) {
		told := story(t, cfg, nil)
		if *update && cfg.Store == Memory && cfg.Transport == NBIO {
			require.NoError(t, os.WriteFile("../scenario/testdata/scenario.txt", []byte(told), 0o644))
		}
		require.Equal(t, scenario.Golden(), told, "if the protocol was meant to change, run: go test ./testkit/system -run TestScenario -update, and then without it")
	})
}

func story(t *testing.T, cfg Config, secret func(string)) string {
	cfg.Hub.TypingTTL = 4 * time.Second
	s := Start(t, cfg)
	return scenario.Tell(t, scenario.Stage{
		URL: s.URL, Sockets: [2]string{s.SocketURL, s.SocketURL}, Mails: s.Mailbox,
		TypingExpires: func() { s.Advance(5 * time.Second) }, Secret: secret,
	})
}
