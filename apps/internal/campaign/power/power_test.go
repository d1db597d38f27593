package power_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/apps/internal/campaign/journal"
	"github.com/parley-chat/parley/apps/internal/campaign/power"
)

func TestEveryStoreBeginsWithASettingThatPromises(t *testing.T) {
	t.Parallel()
	for _, store := range power.Stores {
		require.NotEmpty(t, power.Settings(store), store)
	}
	assert.Empty(t, power.Settings("paper"))
}

// TestWhatIsABrokenPromise checks that a loss is an error where the store promises to keep, and there alone.
func TestWhatIsABrokenPromise(t *testing.T) {
	t.Parallel()
	wrong, err := journal.Check(strings.NewReader(`{"kind":"sent","client":"a","room":"r","clientId":"1"}
{"kind":"acknowledged","client":"a","room":"r","clientId":"1","seq":1}
{"kind":"complete","what":"log","room":"r"}
`))
	require.NoError(t, err)
	require.Equal(t, 1, wrong.Count(journal.Lost))
	for _, c := range []struct {
		name   string
		result power.Result
		want   string
	}{
		{"nothing is lost", power.Result{Promised: true, Acknowledged: 10}, ""},
		{"a loss that is not promised against", power.Result{Lost: 3, Acknowledged: 10, Journal: &wrong}, ""},
		{"a loss", power.Result{Promised: true, Lost: 3, Acknowledged: 10, Seed: 7, Store: "redis", Setting: "appendfsync=always"}, "3 of 10 with appendfsync=always of redis, seed 7"},
		{"a journal that is wrong", power.Result{Promised: true, Journal: &wrong, Seed: 7}, "lost: 1, seed 7"},
	} {
		err := c.result.Err()
		if c.want == "" {
			require.NoError(t, err, c.name)
		} else {
			require.ErrorContains(t, err, c.want, c.name)
		}
		if c.result.Lost > 0 && c.result.Promised {
			require.ErrorIs(t, err, power.ErrLost)
		}
		var out strings.Builder
		require.NoError(t, c.result.Print(&out))
		assert.Regexp(t, `(?m)^acknowledged +10$|^acknowledged +0$`, out.String())
		if c.result.Journal != nil {
			assert.Contains(t, out.String(), "  lost: room r: 1 of a was acknowledged")
		}
	}
}
