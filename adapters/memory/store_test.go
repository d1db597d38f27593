package memory_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/user"
)

var start = time.Date(2026, 3, 4, 5, 6, 7, 8000, time.UTC)

func ended(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func TestAnEndedContextChangesNothing(t *testing.T) {
	t.Parallel()
	s, ctx := memory.NewStore(), ended(t)
	tokens, limiter, cache, box := memory.NewTokens(memory.TokensConfig{}), memory.NewLimiter(memory.LimiterConfig{}),
		memory.NewRecentCache(memory.RecentCacheConfig{}), memory.NewMailbox(memory.MailboxConfig{})
	presence, node, bus := memory.NewPresence(), memory.NewFanout().Node(), memory.NewBus(memory.BusConfig{})
	hasher, authenticator := memory.NewHasher(), memory.NewAuthenticator()
	calls := map[string]func() error{
		"Users.Create":       func() error { return s.Users.Create(ctx, user.User{ID: "u"}, event.Event{ID: "e"}) },
		"Users.ByID":         func() error { _, err := s.Users.ByID(ctx, "u"); return err },
		"Users.ByEmail":      func() error { _, err := s.Users.ByEmail(ctx, "u"); return err },
		"Users.Update":       func() error { _, err := s.Users.Update(ctx, "u", nil); return err },
		"Sessions.Create":    func() error { return s.Sessions.Create(ctx, auth.Session{ID: "s"}) },
		"Sessions.ByID":      func() error { _, err := s.Sessions.ByID(ctx, "s"); return err },
		"Sessions.Update":    func() error { _, err := s.Sessions.Update(ctx, "s", nil); return err },
		"Sessions.ByUser":    func() error { _, err := s.Sessions.ByUser(ctx, "u", time.Time{}, 10); return err },
		"Sessions.Delete":    func() error { _, err := s.Sessions.DeleteExpired(ctx, start); return err },
		"Codes.Put":          func() error { return s.Codes.Put(ctx, auth.Code{}) },
		"Codes.Use":          func() error { _, err := s.Codes.Use(ctx, "", start); return err },
		"Codes.Delete":       func() error { _, err := s.Codes.DeleteExpired(ctx, start); return err },
		"Nonces.Spend":       func() error { _, err := s.Nonces.Spend(ctx, "n", start); return err },
		"Nonces.Delete":      func() error { _, err := s.Nonces.DeleteExpired(ctx, start); return err },
		"Outbox.Pending":     func() error { _, err := s.Outbox.Pending(ctx, 1); return err },
		"Outbox.Published":   func() error { return s.Outbox.Published(ctx, "e") },
		"MailQueue.Enqueue":  func() error { return s.MailQueue.Enqueue(ctx, mail.Job{ID: "j"}) },
		"MailQueue.Claim":    func() error { _, _, err := s.MailQueue.Claim(ctx, start, time.Second); return err },
		"MailQueue.Settle":   func() error { return s.MailQueue.Settle(ctx, mail.Job{}, mail.Outcome{State: mail.Sent}) },
		"MailQueue.Prune":    func() error { _, err := s.MailQueue.Prune(ctx, start); return err },
		"MailQueue.List":     func() error { _, err := s.MailQueue.List(ctx, mail.Filter{Limit: 1}); return err },
		"MailQueue.Get":      func() error { _, err := s.MailQueue.Get(ctx, "j"); return err },
		"MailQueue.Requeue":  func() error { return s.MailQueue.Requeue(ctx, "j", start, nil) },
		"MailQueue.Discard":  func() error { return s.MailQueue.Discard(ctx, "j") },
		"MailQueue.Stats":    func() error { _, err := s.MailQueue.Stats(ctx); return err },
		"Messages.Append":    func() error { _, err := s.Messages.Append(ctx, []chat.Message{{Room: "r"}}); return err },
		"Messages.Change":    func() error { _, err := s.Messages.Change(ctx, []chat.Change{{Room: "r"}}); return err },
		"Messages.List":      func() error { _, err := s.Messages.List(ctx, "r", chat.Range{Limit: 1}); return err },
		"Messages.Bounds":    func() error { _, err := s.Messages.Bounds(ctx, "r"); return err },
		"Messages.Delete":    func() error { _, err := s.Messages.Prune(ctx, "r", 1); return err },
		"Rooms.Ensure":       func() error { _, err := s.Rooms.Ensure(ctx, chat.Room{Name: "r"}); return err },
		"Rooms.ByName":       func() error { _, err := s.Rooms.ByName(ctx, "r"); return err },
		"Rooms.List":         func() error { _, err := s.Rooms.List(ctx, "", 1); return err },
		"Members.Add":        func() error { _, err := s.Members.Add(ctx, chat.Membership{Room: "r", UserID: "u"}); return err },
		"Members.Mark":       func() error { _, err := s.Members.Mark(ctx, []chat.Mark{{Room: "r"}}); return err },
		"Members.Mine":       func() error { _, err := s.Members.Mine(ctx, "u", chat.Place{}, 1); return err },
		"Members.Remove":     func() error { return s.Members.Remove(ctx, "r", "u") },
		"Members.Has":        func() error { _, err := s.Members.Has(ctx, "r", "u"); return err },
		"Members.RoomsOf":    func() error { _, err := s.Members.RoomsOf(ctx, "u", "", 1); return err },
		"Tokens.Issue":       func() error { _, err := tokens.Issue(ctx, auth.Claims{}); return err },
		"Tokens.Verify":      func() error { _, err := tokens.Verify(ctx, "", ""); return err },
		"Tokens.Delete":      func() error { _, err := tokens.DeleteExpired(ctx, start); return err },
		"Hasher.Hash":        func() error { _, err := hasher.Hash(ctx, "p"); return err },
		"Hasher.Verify":      func() error { _, _, err := hasher.Verify(ctx, "h", "p"); return err },
		"Limiter.Allow":      func() error { _, err := limiter.Allow(ctx, "k", auth.Rate{}, start); return err },
		"Limiter.Delete":     func() error { _, err := limiter.DeleteExpired(ctx, start); return err },
		"RecentCache.Get":    func() error { _, _, err := cache.Get(ctx, "r"); return err },
		"RecentCache.Add":    func() error { return cache.Add(ctx, chat.Message{Room: "r", Seq: 1}) },
		"RecentCache.Change": func() error { return cache.Change(ctx, chat.Message{Room: "r", Seq: 1, Rev: 1}) },
		"RecentCache.Fill":   func() error { return cache.Fill(ctx, "r", chat.Recent{}) },
		"Mailbox.Send":       func() error { return box.Send(ctx, mail.Message{}) },
		"Presence.Enter":     func() error { _, err := presence.Enter(ctx, start, "n", "r", chat.Author{}); return err },
		"Presence.Exit":      func() error { _, err := presence.Exit(ctx, start, "n", "r", chat.Author{}); return err },
		"Presence.List":      func() error { _, _, err := presence.List(ctx, start, "r", 1); return err },
		"Presence.Renew":     func() error { _, err := presence.Renew(ctx, realtime.Renewal{Node: "n", Until: start}); return err },
		"FanoutNode.Publish": func() error { return node.Publish(ctx, signal("r", 1)) },
		"FanoutNode.Follow":  func() error { return node.Follow(ctx, "r") },
		"FanoutNode.Unfolow": func() error { return node.Unfollow(ctx, "r") },
		"Bus.Publish":        func() error { return bus.Publish(ctx, event.Event{}) },
		"Authenticator.Tok":  func() error { _, err := authenticator.Token(ctx, "t"); return err },
		"Authenticator.Tick": func() error { _, err := authenticator.Ticket(ctx, "t"); return err },
	}
	for name, call := range calls {
		err := call()
		assert.ErrorIs(t, err, context.Canceled, name)
		assert.ErrorIs(t, err, fault.Unavailable, name)
	}
	events, err := s.Outbox.Pending(t.Context(), 10)
	require.NoError(t, err)
	assert.Empty(t, events)
	assert.Empty(t, box.All())
	users, count, err := presence.List(t.Context(), start, "r", 10)
	require.NoError(t, err)
	assert.Empty(t, users)
	assert.Zero(t, count)
}

func TestAnUpdateWhoseContextEndsMeanwhileChangesNothing(t *testing.T) {
	t.Parallel()
	s := memory.NewStore()
	require.NoError(t, s.Users.Create(t.Context(), user.User{ID: "u", FullName: "before"}))
	require.NoError(t, s.Sessions.Create(t.Context(), auth.Session{ID: "s", TokenHash: "before"}))

	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.Users.Update(ctx, "u", func(u *user.User) error { u.FullName = "after"; cancel(); return nil }, event.Event{ID: "e"})
	require.ErrorIs(t, err, context.Canceled)
	ctx, cancel = context.WithCancel(t.Context())
	_, err = s.Sessions.Update(ctx, "s", func(s *auth.Session) error { s.TokenHash = "after"; cancel(); return nil }, event.Event{ID: "e"})
	require.ErrorIs(t, err, context.Canceled)

	u, err := s.Users.ByID(t.Context(), "u")
	require.NoError(t, err)
	assert.Equal(t, "before", u.FullName)
	session, err := s.Sessions.ByID(t.Context(), "s")
	require.NoError(t, err)
	assert.Equal(t, "before", session.TokenHash)
	events, err := s.Outbox.Pending(t.Context(), 10)
	require.NoError(t, err)
	assert.Empty(t, events)
}

func TestIdentityCannotChange(t *testing.T) {
	t.Parallel()
	s := memory.NewStore()
	require.NoError(t, s.Users.Create(t.Context(), user.User{ID: "u"}))
	require.NoError(t, s.Sessions.Create(t.Context(), auth.Session{ID: "s", UserID: "u"}))
	_, err := s.Users.Update(t.Context(), "u", func(u *user.User) error { u.ID = "v"; return nil })
	assert.ErrorIs(t, err, fault.Invalid)
	_, err = s.Sessions.Update(t.Context(), "s", func(s *auth.Session) error { s.ID = "z"; return nil })
	assert.ErrorIs(t, err, fault.Invalid)
	_, err = s.Sessions.Update(t.Context(), "s", func(s *auth.Session) error { s.UserID = "v"; return nil })
	assert.ErrorIs(t, err, fault.Invalid)
}

func TestTimesAreKeptInUTCToTheMicrosecond(t *testing.T) {
	t.Parallel()
	s := memory.NewStore()
	local := time.FixedZone("elsewhere", 3600)
	given := time.Date(2026, 3, 4, 6, 6, 7, 8999, local)
	require.NoError(t, s.Users.Create(t.Context(), user.User{ID: "u", CreatedAt: given}))
	u, err := s.Users.ByID(t.Context(), "u")
	require.NoError(t, err)
	assert.Equal(t, start, u.CreatedAt)
	assert.True(t, u.VerifiedAt.IsZero())
	stored, err := s.Messages.Append(t.Context(), []chat.Message{{Room: "r", At: given}})
	require.NoError(t, err)
	assert.Equal(t, start, stored[0].At)

	node := memory.NewFanout().Node()
	require.NoError(t, node.Follow(t.Context(), "r"))
	require.NoError(t, node.Publish(t.Context(), realtime.Signal{Room: "r", Message: chat.Message{At: given}}))
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, node.Run(ctx, func(s realtime.Signal) { assert.Equal(t, start, s.Message.At); cancel() }))
}

func TestSlicesAreCopied(t *testing.T) {
	t.Parallel()
	s := memory.NewStore()
	given := []byte("given")
	require.NoError(t, s.Users.Create(t.Context(), user.User{ID: "u"}, event.Event{ID: "e", Data: given}))
	require.NoError(t, s.MailQueue.Enqueue(t.Context(), mail.Job{ID: "j", Key: "k", Data: given}))
	copy(given, "spoil")
	for range 2 {
		events, err := s.Outbox.Pending(t.Context(), 1)
		require.NoError(t, err)
		assert.Equal(t, "given", string(events[0].Data))
		copy(events[0].Data, "spoil")
		j, err := s.MailQueue.Get(t.Context(), "j")
		require.NoError(t, err)
		assert.Equal(t, "given", string(j.Data))
		copy(j.Data, "spoil")
	}
}

func TestLimitsThatChooseNothingAreRefused(t *testing.T) {
	t.Parallel()
	s := memory.NewStore()
	_, err := s.Messages.List(t.Context(), "r", chat.Range{})
	assert.ErrorIs(t, err, fault.Invalid)
	for _, limit := range []int{-1, 0, 1001} {
		_, err = s.MailQueue.List(t.Context(), mail.Filter{Limit: limit})
		assert.ErrorIs(t, err, fault.Invalid)
	}
	err = s.MailQueue.Settle(t.Context(), mail.Job{}, mail.Outcome{State: mail.Running})
	assert.ErrorIs(t, err, fault.Invalid)
}

func TestARequeuedJobTakesItsOldPlace(t *testing.T) {
	t.Parallel()
	q := memory.NewMailQueue()
	for _, id := range []string{"c", "b", "a"} {
		require.NoError(t, q.Enqueue(t.Context(), mail.Job{ID: id, Key: id, RunAt: start}))
	}
	claim := func() mail.Job {
		j, ok, err := q.Claim(t.Context(), start, time.Minute)
		require.NoError(t, err)
		require.True(t, ok)
		return j
	}
	first := claim()
	assert.Equal(t, "c", first.ID)
	require.NoError(t, q.Settle(t.Context(), first, mail.Outcome{State: mail.Dead, At: start, Error: "refused"}))
	second := claim()
	assert.Equal(t, "b", second.ID)
	require.NoError(t, q.Requeue(t.Context(), "c", start, nil))
	again := claim()
	assert.Equal(t, "c", again.ID)
	assert.Equal(t, 1, again.Attempts)
	assert.EqualValues(t, 2, again.Claims)
	assert.Equal(t, "refused", again.LastError)
	assert.Equal(t, "a", claim().ID)
	_, ok, err := q.Claim(t.Context(), start, time.Minute)
	require.NoError(t, err)
	assert.False(t, ok)
}

func TestDeletedMessagesLeaveTheirNumbersBehind(t *testing.T) {
	t.Parallel()
	ms := memory.NewMessages()
	send := func(text string) chat.Stored {
		stored, err := ms.Append(t.Context(), []chat.Message{{Room: "r", Author: chat.Author{ID: "u"}, ClientID: text, Text: text}})
		require.NoError(t, err)
		return stored[0]
	}
	bounds := func() [2]uint64 {
		b, err := ms.Bounds(t.Context(), "r")
		require.NoError(t, err)
		return [2]uint64{b.First, b.Last}
	}
	seqs := func(r chat.Range) []uint64 {
		messages, err := ms.List(t.Context(), "r", r)
		require.NoError(t, err)
		got := []uint64{}
		for _, m := range messages {
			got = append(got, m.Seq)
		}
		return got
	}
	for _, text := range []string{"one", "two", "three", "four"} {
		send(text)
	}
	n, err := ms.Prune(t.Context(), "r", 3)
	require.NoError(t, err)
	assert.Equal(t, 2, n)
	n, err = ms.Prune(t.Context(), "r", 2)
	require.NoError(t, err)
	assert.Zero(t, n)
	assert.Equal(t, [2]uint64{3, 4}, bounds())
	assert.True(t, send("four").Repeated)
	assert.EqualValues(t, 5, send("one").Seq)

	const most = ^uint64(0)
	for _, c := range []struct {
		r    chat.Range
		want []uint64
	}{
		{chat.Range{Limit: 10}, []uint64{3, 4, 5}},
		{chat.Range{After: 1, Limit: 10}, []uint64{3, 4, 5}},
		{chat.Range{After: 3, Limit: 1}, []uint64{4}},
		{chat.Range{After: 3, Before: 5, Limit: 10}, []uint64{4}},
		{chat.Range{Before: 5, Limit: 1, Newest: true}, []uint64{4}},
		{chat.Range{Before: 2, Limit: 10}, []uint64{}},
		{chat.Range{After: 5, Limit: 10}, []uint64{}},
		{chat.Range{After: most, Limit: 10}, []uint64{}},
		{chat.Range{After: 4, Before: 4, Limit: 10}, []uint64{}},
		{chat.Range{Before: most, Limit: 2, Newest: true}, []uint64{4, 5}},
	} {
		assert.Equal(t, c.want, seqs(c.r), "%+v", c.r)
	}

	n, err = ms.Prune(t.Context(), "r", most)
	require.NoError(t, err)
	assert.Equal(t, 3, n)
	assert.Equal(t, [2]uint64{6, 5}, bounds())
	assert.EqualValues(t, 6, send("six").Seq)
	n, err = ms.Prune(t.Context(), "unknown", most)
	require.NoError(t, err)
	assert.Zero(t, n)
}

func TestDeletedMessagesLeaveTheirRevsBehind(t *testing.T) {
	t.Parallel()
	ms := memory.NewMessages()
	for range 4 {
		_, err := ms.Append(t.Context(), []chat.Message{{Room: "r", Author: chat.Author{ID: "u"}, Text: "x"}})
		require.NoError(t, err)
	}
	change := func(c chat.Change) chat.Changed {
		c.Room, c.By.ID = "r", "u"
		changed, err := ms.Change(t.Context(), []chat.Change{c})
		require.NoError(t, err)
		return changed[0]
	}
	changed := func() (seqs []uint64) {
		all, err := ms.List(t.Context(), "r", chat.Range{Changed: true, Limit: 10})
		require.NoError(t, err)
		for _, m := range all {
			seqs = append(seqs, m.Seq)
		}
		return seqs
	}
	require.NoError(t, change(chat.Change{Kind: chat.React, Seq: 1, Key: "+1"}).Err)
	require.NoError(t, change(chat.Change{Kind: chat.Edit, Seq: 3, Text: "y", At: time.Unix(1, 0)}).Err)
	for n := range uint64(5000) { // many more than there are messages
		require.Equal(t, n+3, change(chat.Change{Kind: chat.Edit, Seq: 2 + n%2*2, Text: fmt.Sprint(n), At: time.Unix(1, 0)}).Rev)
	}
	assert.Equal(t, []uint64{1, 3, 2, 4}, changed())
	_, err := ms.Prune(t.Context(), "r", 3)
	require.NoError(t, err)
	assert.Equal(t, []uint64{3, 4}, changed())
	require.ErrorIs(t, change(chat.Change{Kind: chat.Edit, Seq: 2, Text: "z", At: time.Unix(1, 0)}).Err, chat.ErrMessageNotFound)
	assert.EqualValues(t, 5003, change(chat.Change{Kind: chat.Edit, Seq: 3, Text: "z", At: time.Unix(1, 0)}).Rev)
	_, err = ms.Prune(t.Context(), "r", 5)
	require.NoError(t, err)
	assert.Empty(t, changed())
	b, err := ms.Bounds(t.Context(), "r")
	require.NoError(t, err)
	assert.Equal(t, chat.Bounds{First: 5, Last: 4, Rev: 5003}, b)
}
