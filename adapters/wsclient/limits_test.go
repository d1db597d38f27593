package wsclient

import (
	"net/http"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBucket(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	c := &Client{cfg: Config{Rate: 10, Burst: 3}}
	for _, step := range []struct {
		at   time.Duration
		wait time.Duration
	}{
		{0, 0}, {0, 0}, {0, 0}, // the burst
		{0, 100 * time.Millisecond},
		{60 * time.Millisecond, 40 * time.Millisecond},
		{100 * time.Millisecond, 0},
		{100 * time.Millisecond, 100 * time.Millisecond},
		{10 * time.Second, 0}, {10 * time.Second, 0}, {10 * time.Second, 0}, // full again, and no fuller
		{10 * time.Second, 100 * time.Millisecond},
	} {
		assert.Equal(t, step.wait, c.bucket(begin.Add(step.at)), "at %v", step.at)
	}
	c.cfg.Rate = -1
	assert.Zero(t, c.bucket(begin))
}

func TestWindow(t *testing.T) {
	t.Parallel()
	c := &Client{
		cfg: Config{Rate: -1, Window: 2, AckTimeout: time.Hour}, ws: &websocket.Conn{},
		calls: map[uint64]*call{}, sent: map[uint64]time.Time{},
	}
	t.Cleanup(c.stopTimers)
	for id := range uint64(5) {
		k := &call{id: id + 1, unanswered: id == 2}
		c.calls[k.id] = k
		c.enqueue(k)
	}
	next := func() uint64 {
		if k := c.next(time.Now()); k != nil {
			return k.id
		}
		return 0
	}
	require.EqualValues(t, 1, next())
	require.EqualValues(t, 2, next())
	require.Zero(t, next(), "two are unanswered")
	delete(c.sent, 1) // an answer
	delete(c.calls, 4)
	require.EqualValues(t, 3, next())
	require.EqualValues(t, 5, next(), "3 has no answer, and the caller of 4 has stopped waiting")
	require.Zero(t, next())
	require.Empty(t, c.queue)
	c.ws = nil
	c.enqueue(&call{id: 9})
	require.Empty(t, c.queue, "without a connection there is nothing to write")
}

func TestPause(t *testing.T) {
	t.Parallel()
	c := &Client{cfg: Config{MinPause: 100 * time.Millisecond, MaxPause: 10 * time.Second, Jitter: func() float64 { return 1 }}}
	pauses := func(later bool) []time.Duration {
		c.brief = 0
		var all []time.Duration
		for range 6 {
			all = append(all, c.pause(later).Round(time.Millisecond))
		}
		c.brief = 1_000_000
		return append(all, c.pause(later))
	}
	const ms = time.Millisecond
	assert.Equal(t, []time.Duration{100 * ms, 200 * ms, 400 * ms, 800 * ms, 1000 * ms, 1000 * ms, 1000 * ms}, pauses(false))
	assert.Equal(t, []time.Duration{1000 * ms, 2000 * ms, 4000 * ms, 8000 * ms, 10000 * ms, 10000 * ms, 10000 * ms}, pauses(true))
	c.cfg.MinPause, c.cfg.MaxPause = time.Hour, time.Hour
	assert.Equal(t, time.Hour, pauses(false)[6])
	assert.Equal(t, time.Hour, pauses(true)[6])
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		header, date string
		want         time.Duration
	}{
		{"", "", 0},
		{"7", "", 7 * time.Second},
		{"-7", "", 0},
		{"soon", "", 0},
		{"99999999", "", 24 * time.Hour},
		{"Fri, 02 Jan 2026 13:05:05 GMT", "Fri, 02 Jan 2026 13:04:45 GMT", 20 * time.Second},
		{"Fri, 02 Jan 2026 13:04:05 GMT", "Fri, 02 Jan 2026 13:04:45 GMT", 0},
		{"Fri, 02 Jan 2026 13:04:05 GMT", "", 0}, // which has passed
	} {
		h := http.Header{"Retry-After": {c.header}, "Date": {c.date}}
		assert.Equal(t, c.want, retryAfter(h), "%q at %q", c.header, c.date)
	}
}
