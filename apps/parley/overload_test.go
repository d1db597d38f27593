package main_test

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestCampaignOverload runs each part at a small size. Rules about time are for the campaign itself, and are not judged here.
func TestCampaignOverload(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped by -short: it computes for seconds")
	}
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("it reads what the kernel of Linux knows of a process")
	}
	for part, args := range map[string][]string{
		"descriptors":  nil,
		"reconnects":   {"--connections", "300", "--storms", "2"},
		"hostile":      {"--hostile", "120"},
		"slow-readers": {"--connections", "90", "--stalled", "40", "--rooms", "1", "--published", "10"},
		"half-open":    {"--half-open", "90"}, // a minute, which is how long a silent member may stay
	} {
		t.Run(part, func(t *testing.T) {
			t.Parallel()
			o := executeWithin(t, 5*time.Minute, nil, append([]string{"campaign", "overload", "--json", "--only", part, "--rooms", "4", "--duration", "500ms"}, args...)...)
			line, _, _ := strings.Cut(o.stdout, "\n")
			var seen []struct {
				Part, Rule, Seen string
				Broken           bool
			}
			require.NoError(t, json.Unmarshal([]byte(line), &seen), "%s%s", o.stdout, o.stderr)
			assert.GreaterOrEqual(t, len(seen), 3)
			for _, v := range seen {
				assert.Equal(t, part, v.Part)
				if strings.Contains(v.Rule, "99th percentile") || strings.Contains(v.Rule, "spin") || strings.Contains(v.Rule, "5 seconds after") {
					continue
				}
				assert.False(t, v.Broken, "%s: %s", v.Rule, v.Seen)
			}
		})
	}
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"--only", "slow-readers", "--stalled", "10", "--connections", "10"}, "they are too few"},
		{[]string{"--hostile", "0"}, "must be at least 1"},
		{[]string{"--only", "everything"}, `there is no "everything", but descriptors, half-open, hostile, reconnects, slow-readers`},
	} {
		assert.Contains(t, execute(t, nil, append([]string{"campaign", "overload"}, c.args...)...).refused(t), c.says)
	}
}
