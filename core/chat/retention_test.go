package chat_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/chat"
)

func TestARetentionIsWrittenAsItIsRead(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"0s": 0, "1m": chat.MinRetention, "90s": 90 * time.Second, "1m30s": 90 * time.Second, "10m": 10 * time.Minute, "1h": time.Hour, "1h0m5s": time.Hour + 5*time.Second,
		"1h30m": 90 * time.Minute, "20h": 20 * time.Hour, "720h": 720 * time.Hour, "876000h": chat.MaxRetention, "1m0.9s": time.Minute,
	} {
		d, err := chat.ParseRetention(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, d, text)
		again, err := chat.ParseRetention(chat.RetentionText(d))
		require.NoError(t, err, text)
		assert.Equal(t, d, again, text)
	}
	for d, want := range map[time.Duration]string{
		0: "0s", time.Minute: "1m", 90 * time.Second: "1m30s", 10 * time.Minute: "10m", 20 * time.Hour: "20h", time.Hour + 5*time.Second: "1h0m5s",
		90*time.Minute + 300*time.Millisecond: "1h30m", chat.MaxRetention: "876000h",
	} {
		assert.Equal(t, want, chat.RetentionText(d))
	}
	for _, text := range []string{"", "1", "-1m", "59.9s", "59s", "876000h0.1s", "30d", "P30D", "1m\n", "1m" + strings.Repeat("0s", 16)} {
		_, err := chat.ParseRetention(text)
		require.ErrorIs(t, err, chat.ErrRetentionInvalid, "%q", text)
	}
}

// What the server keeps has the bounds of what a room keeps.
func TestTheServersRetentionHasTheBoundsOfARooms(t *testing.T) {
	t.Parallel()
	for _, d := range []time.Duration{0, chat.MinRetention, chat.MaxRetention} {
		require.NoError(t, chat.CheckRetention(d))
	}
	for _, d := range []time.Duration{-1, 1, math.MinInt64, -time.Hour, chat.MinRetention - 1, chat.MaxRetention + 1, math.MaxInt64} {
		require.ErrorIs(t, chat.CheckRetention(d), chat.ErrRetentionInvalid, d)
	}
}
