package memory_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
)

func TestNoncesRefuseWhenFull(t *testing.T) {
	t.Parallel()
	ns := memory.NewNonces(memory.NoncesConfig{Max: 2})
	for _, name := range []string{"a", "b"} {
		first, err := ns.Spend(t.Context(), name, start)
		require.NoError(t, err)
		assert.True(t, first)
	}
	_, err := ns.Spend(t.Context(), "c", start)
	assert.ErrorIs(t, err, fault.Exhausted)
	first, err := ns.Spend(t.Context(), "a", start)
	require.NoError(t, err, "a known name needs no room")
	assert.False(t, first)

	n, err := ns.DeleteExpired(t.Context(), start)
	require.NoError(t, err)
	assert.Zero(t, n)
	n, err = ns.DeleteExpired(t.Context(), start.Add(1))
	require.NoError(t, err)
	assert.Equal(t, 2, n)
	first, err = ns.Spend(t.Context(), "c", start)
	require.NoError(t, err)
	assert.True(t, first)
}

func TestLimiterForgetsWholeKeysFirst(t *testing.T) {
	t.Parallel()
	l := memory.NewLimiter(memory.LimiterConfig{MaxKeys: 4})
	rate := auth.Rate{Burst: 1, Per: time.Minute}
	wait := func(key string, at time.Time) time.Duration {
		w, err := l.Allow(t.Context(), key, rate, at)
		require.NoError(t, err)
		return w
	}
	for i := range 4 {
		assert.Zero(t, wait(strconv.Itoa(i), start.Add(time.Duration(i)*time.Second)))
	}
	// At one minute key 0 is whole again; 1, 2 and 3 are not.
	at := start.Add(time.Minute)
	assert.Zero(t, wait("new", at))
	for i := 1; i < 4; i++ {
		assert.Equal(t, time.Duration(i)*time.Second, wait(strconv.Itoa(i), at), i)
	}
	// Now none is: the one that would be whole soonest, 1, makes room.
	assert.Zero(t, wait("another", at))
	assert.Positive(t, wait("2", at))
	assert.Positive(t, wait("3", at))
	assert.Positive(t, wait("new", at))
	assert.Zero(t, wait("1", at))

	n, err := l.DeleteExpired(t.Context(), at.Add(2*time.Minute))
	require.NoError(t, err)
	assert.Equal(t, 4, n)
	assert.Zero(t, wait("another", at))
}

func TestLimiterMakesRoomForMany(t *testing.T) {
	t.Parallel()
	l := memory.NewLimiter(memory.LimiterConfig{MaxKeys: 4})
	rate := auth.Rate{Burst: 1, Per: time.Minute}
	for i, at := range []time.Duration{0, 1, 2, time.Second, time.Minute + 2} {
		_, err := l.Allow(t.Context(), strconv.Itoa(i), rate, start.Add(at))
		require.NoError(t, err)
	}
	n, err := l.DeleteExpired(t.Context(), start.Add(time.Hour))
	require.NoError(t, err)
	assert.Equal(t, 2, n, "the three that were whole again have made room for the last")
}

func TestLimiterKeepsItsRateWhereItDoesNotDivide(t *testing.T) {
	t.Parallel()
	l := memory.NewLimiter(memory.LimiterConfig{})
	for _, rate := range []auth.Rate{{Burst: 3, Per: 10}, {Burst: 7, Per: time.Second}, {Burst: 10, Per: 3}} {
		key := strconv.Itoa(rate.Burst)
		for i := range rate.Burst {
			wait, err := l.Allow(t.Context(), key, rate, start)
			require.NoError(t, err)
			assert.Zero(t, wait, "%v, attempt %d", rate, i)
		}
		wait, err := l.Allow(t.Context(), key, rate, start)
		require.NoError(t, err)
		require.Positive(t, wait, "%v", rate)
		wait, err = l.Allow(t.Context(), key, rate, start.Add(wait))
		require.NoError(t, err)
		assert.Zero(t, wait, "%v after the wait it asked for", rate)
	}
}

func TestMailboxKeepsTheNewest(t *testing.T) {
	t.Parallel()
	now := start
	box := memory.NewMailbox(memory.MailboxConfig{Max: 2, Now: func() time.Time { now = now.Add(time.Second); return now }})
	for _, id := range []string{"1", "2", "3"} {
		require.NoError(t, box.Send(t.Context(), mail.Message{ID: id}))
	}
	assert.Equal(t, []memory.Mail{
		{Message: mail.Message{ID: "3"}, At: start.Add(3 * time.Second)},
		{Message: mail.Message{ID: "2"}, At: start.Add(2 * time.Second)},
	}, box.All())
}

func TestTokensRefuseWhenFull(t *testing.T) {
	t.Parallel()
	now := start
	ts := memory.NewTokens(memory.TokensConfig{Max: 1, Now: func() time.Time { return now }})
	token, err := ts.Issue(t.Context(), auth.Claims{ID: "1", Audience: auth.AudienceAPI, IssuedAt: start, ExpiresAt: start.Add(time.Minute)})
	require.NoError(t, err)
	_, err = ts.Issue(t.Context(), auth.Claims{ID: "2"})
	require.ErrorIs(t, err, fault.Exhausted)

	c, err := ts.Verify(t.Context(), token, auth.AudienceAPI)
	require.NoError(t, err)
	assert.Equal(t, start.Truncate(time.Second), c.IssuedAt)
	_, err = ts.Verify(t.Context(), token, auth.AudienceTicket)
	assert.ErrorIs(t, err, auth.ErrTokenInvalid)

	now = start.Add(time.Minute)
	_, err = ts.Verify(t.Context(), token, auth.AudienceAPI)
	assert.ErrorIs(t, err, auth.ErrTokenInvalid)
	_, err = ts.Issue(t.Context(), auth.Claims{ID: "2"})
	assert.NoError(t, err, "an expired token makes room")
}

func TestHasherRefusesWhatItCannotRead(t *testing.T) {
	t.Parallel()
	h := memory.NewHasher()
	for _, hash := range []string{"", "x", "$$", "sha256-for-tests$zz$00", "sha256-for-tests$00$zz", "sha256-for-tests$00$00", "sha256-for-tests$00"} {
		_, _, err := h.Verify(t.Context(), hash, "password")
		assert.Error(t, err, hash)
	}
}

func messages(room string, from, to uint64) []chat.Message {
	var ms []chat.Message
	for seq := from; seq <= to; seq++ {
		ms = append(ms, chat.Message{Room: room, Seq: seq})
	}
	return ms
}

func held(t *testing.T, c *memory.RecentCache, room string) [2]uint64 {
	t.Helper()
	r, _, err := c.Get(t.Context(), room)
	require.NoError(t, err)
	ms := r.Messages
	if len(ms) == 0 {
		return [2]uint64{}
	}
	require.Equal(t, messages(room, ms[0].Seq, ms[len(ms)-1].Seq), ms)
	return [2]uint64{ms[0].Seq, ms[len(ms)-1].Seq}
}

func TestRecentCacheForgetsTheRoomNotUsedForLongest(t *testing.T) {
	t.Parallel()
	c := memory.NewRecentCache(memory.RecentCacheConfig{Rooms: 2})
	require.NoError(t, c.Add(t.Context(), chat.Message{Room: "a", Seq: 1}, chat.Message{Room: "b", Seq: 1}))
	held(t, c, "a")
	require.NoError(t, c.Fill(t.Context(), "c", chat.Recent{Messages: messages("c", 1, 3)}))
	assert.Equal(t, [2]uint64{1, 1}, held(t, c, "a"))
	assert.Equal(t, [2]uint64{}, held(t, c, "b"))
	assert.Equal(t, [2]uint64{1, 3}, held(t, c, "c"))
	require.NoError(t, c.Fill(t.Context(), "d", chat.Recent{}))
	assert.Equal(t, [2]uint64{1, 3}, held(t, c, "c"), "nothing to fill makes no room")
}

// A Rev that is remembered takes the place of a room.
func TestRecentCacheForgetsRevs(t *testing.T) {
	t.Parallel()
	c := memory.NewRecentCache(memory.RecentCacheConfig{Rooms: 2})
	for _, room := range []string{"a", "b", "a", "c"} {
		require.NoError(t, c.Change(t.Context(), chat.Message{Room: room, Seq: 1, Rev: 5}))
	}
	require.NoError(t, c.Fill(t.Context(), "a", chat.Recent{Messages: messages("a", 1, 3), Rev: 4}))
	assert.Equal(t, [2]uint64{}, held(t, c, "a"), "what is older is not taken")
	require.NoError(t, c.Fill(t.Context(), "b", chat.Recent{Messages: messages("b", 1, 3), Rev: 4}))
	assert.Equal(t, [2]uint64{1, 3}, held(t, c, "b"), "its Rev made room")
	require.NoError(t, c.Fill(t.Context(), "c", chat.Recent{Messages: messages("c", 1, 3), Rev: 4}))
	assert.Equal(t, [2]uint64{1, 3}, held(t, c, "c"), "its Rev made room")
}

func TestRecentCacheKeepsTheLastMessages(t *testing.T) {
	t.Parallel()
	c := memory.NewRecentCache(memory.RecentCacheConfig{Messages: 3})
	for seq := uint64(1); seq <= 20; seq++ {
		require.NoError(t, c.Add(t.Context(), chat.Message{Room: "r", Seq: seq}))
		assert.Equal(t, [2]uint64{max(3, seq) - 2, seq}, held(t, c, "r"))
	}
	require.NoError(t, c.Fill(t.Context(), "r", chat.Recent{Messages: messages("r", 5, 22)}))
	assert.Equal(t, [2]uint64{20, 22}, held(t, c, "r"))
	require.NoError(t, c.Fill(t.Context(), "s", chat.Recent{Messages: messages("s", 5, 22)}))
	assert.Equal(t, [2]uint64{20, 22}, held(t, c, "s"))
}

func TestRecentCacheHasNoHoles(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		from, to uint64
		add      [2]uint64 // what 10 to 12 become by Add of from to to
		fill     [2]uint64 // and by Fill
	}{
		{"far behind", 1, 3, [2]uint64{10, 12}, [2]uint64{10, 12}},
		{"just before", 7, 9, [2]uint64{10, 12}, [2]uint64{7, 12}},
		{"overlaps before", 8, 11, [2]uint64{10, 12}, [2]uint64{8, 12}},
		{"inside", 11, 11, [2]uint64{10, 12}, [2]uint64{10, 12}},
		{"around", 8, 14, [2]uint64{10, 14}, [2]uint64{8, 14}},
		{"overlaps after", 12, 14, [2]uint64{10, 14}, [2]uint64{10, 14}},
		{"just after", 13, 14, [2]uint64{10, 14}, [2]uint64{10, 14}},
		{"far ahead", 14, 15, [2]uint64{14, 15}, [2]uint64{10, 12}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			open := func() *memory.RecentCache {
				c := memory.NewRecentCache(memory.RecentCacheConfig{})
				require.NoError(t, c.Add(t.Context(), messages("r", 10, 12)...))
				return c
			}
			c := open()
			require.NoError(t, c.Add(t.Context(), messages("r", test.from, test.to)...))
			assert.Equal(t, test.add, held(t, c, "r"))
			c = open()
			require.NoError(t, c.Fill(t.Context(), "r", chat.Recent{Messages: messages("r", test.from, test.to)}))
			assert.Equal(t, test.fill, held(t, c, "r"))
		})
	}
	c := memory.NewRecentCache(memory.RecentCacheConfig{})
	err := c.Fill(t.Context(), "r", chat.Recent{Messages: append(messages("r", 1, 2), messages("r", 4, 5)...)})
	assert.ErrorIs(t, err, fault.Invalid)
	assert.Equal(t, [2]uint64{}, held(t, c, "r"))
}
