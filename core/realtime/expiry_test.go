package realtime_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
)

// as connects with an identity.
func (n *node) as(who user.Identity) *end {
	n.t.Helper()
	c := newConn()
	in, err := n.Accept(c, socket.Hello{Identity: who})
	require.NoError(n.t, err)
	c.onEnd = in.Disconnected
	return &end{conn: c, t: n.t, in: in}
}

// open reports whether the connection is not closed.
func (e *end) open() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.closed
}

// often makes the hub look for what has expired a hundred times a second.
func often(cfg *realtime.HubConfig) { cfg.TypingTTL = 40 * time.Millisecond }

func TestASocketEndsWithItsToken(t *testing.T) {
	c := newClock()
	n := start(t, func(cfg *realtime.HubConfig) { often(cfg); cfg.Now = c.now; cfg.ClockLeeway = 5 * time.Second })
	ada := user.Identity{UserID: "u-ada", Name: "ada", SessionID: "s"}
	until := func(d time.Duration) user.Identity {
		who := ada
		who.ExpiresAt = c.now().Truncate(time.Second).Add(d)
		return who
	}
	never := n.as(ada)
	sooner, later := n.as(until(time.Minute)), n.as(until(2*time.Minute))
	same := n.as(until(time.Minute))
	left := n.as(until(time.Minute))
	left.gone()
	c.advance(64 * time.Second)
	sooner.join("hall") // within the leeway, and the hub has looked
	require.True(t, sooner.open())
	c.advance(time.Second)
	assert.Equal(t, "the token has expired", sooner.closedWith(socket.CloseUnauthenticated))
	same.closedWith(socket.CloseUnauthenticated)
	require.True(t, later.open())
	c.advance(time.Minute)
	later.closedWith(socket.CloseUnauthenticated)
	require.True(t, never.open())
	_, err := n.Accept(newConn(), socket.Hello{Identity: until(-5 * time.Second)})
	assert.ErrorIs(t, err, realtime.ErrExpired)
	assert.ErrorIs(t, err, fault.Unauthenticated)
	n.as(until(-4 * time.Second)) // within the leeway
}

func TestRenew(t *testing.T) {
	c := newClock()
	tokens := memory.NewAuthenticator()
	n := start(t, func(cfg *realtime.HubConfig) { often(cfg); cfg.Now = c.now; cfg.Authenticator = tokens })
	who := user.Identity{UserID: "u-ada", Name: "ada", SessionID: "s-ada", ExpiresAt: c.now().Truncate(time.Second).Add(time.Minute)}
	ada := n.as(who)
	allow := func(token string, change func(*user.Identity)) string {
		id := who
		id.ExpiresAt = c.now().Truncate(time.Second).Add(10 * time.Minute)
		change(&id)
		tokens.AllowToken(token, id)
		return token
	}
	renew := func(token string) envelope { return ada.ask("renew", map[string]any{"token": token}) }
	refused := map[string]string{
		allow("of-another", func(id *user.Identity) { id.UserID = "u-bob" }):         "other_session",
		allow("of-another-session", func(id *user.Identity) { id.SessionID = "s2" }): "other_session",
		allow("late", func(id *user.Identity) { id.ExpiresAt = c.now() }):            "token_expired",
		"unknown": "credentials_unknown",
	}
	for token, code := range refused {
		v := renew(token)
		require.Equal(t, "error", v.Event, token)
		assert.Equal(t, code, v.Error.Code, token)
	}
	var got struct{ ExpiresIn int }
	v := renew(allow("sooner", func(id *user.Identity) { id.ExpiresAt = c.now().Add(5 * time.Second) }))
	require.NoError(t, json.Unmarshal(v.Data, &got))
	assert.Equal(t, 60, got.ExpiresIn, "it takes nothing away")
	v = renew(allow("good", func(*user.Identity) {}))
	require.Equal(t, "ack", v.Event)
	require.NoError(t, json.Unmarshal(v.Data, &got))
	assert.Equal(t, 600, got.ExpiresIn)
	c.advance(9 * time.Minute)
	ada.join("hall")
	require.True(t, ada.open())
	c.advance(time.Minute)
	ada.closedWith(socket.CloseUnauthenticated)

	bad := n.as(user.Identity{UserID: "u-bob", SessionID: "s-bob"})
	bad.emit("renew", map[string]any{"token": "with space"})
	bad.closedWith(socket.CloseBadEvent)

	none := start(t, nil).connect("eve")
	v = none.ask("renew", map[string]any{"token": "x"})
	assert.Equal(t, "renewal_not_supported", v.Error.Code)
}

// mistaken is an authenticator of an application with a mistake in it.
type mistaken struct{ socket.Authenticator }

func (mistaken) Token(context.Context, string) (user.Identity, error) { panic("a mistake") }

func TestAnAuthenticatorThatPanicsRenewsNothing(t *testing.T) {
	n := start(t, func(cfg *realtime.HubConfig) { cfg.Authenticator = mistaken{} })
	ada := n.as(user.Identity{UserID: "u-ada", Name: "ada"})
	v := ada.ask("renew", map[string]any{"token": "x"})
	require.Equal(t, "error", v.Event)
	assert.Equal(t, "internal", v.Error.Code)
	ada.join("hall")
}

// TestManyEnds lets thousands come, renew, leave and end in any order; each ends in its second.
func TestManyEnds(t *testing.T) {
	c := newClock()
	n := start(t, func(cfg *realtime.HubConfig) { often(cfg); cfg.Now = c.now })
	base := c.now().Truncate(time.Second)
	type one struct {
		*end
		second int
	}
	random := rand.New(rand.NewPCG(1, 2))
	var all []one
	for i := range 3000 {
		second := 1 + random.IntN(20)
		e := n.as(user.Identity{UserID: user.ID(fmt.Sprint(i % 700)), SessionID: "s", ExpiresAt: base.Add(time.Duration(second) * time.Second)})
		if random.IntN(3) == 0 {
			e.gone()
			continue
		}
		all = append(all, one{e, second})
	}
	for second := 1; second <= 20; second++ {
		c.advance(base.Add(time.Duration(second) * time.Second).Sub(c.now()))
		for _, o := range all {
			if o.second == second {
				o.closedWith(socket.CloseUnauthenticated)
			} else if o.second > second {
				require.True(t, o.open())
			}
		}
	}
}

func TestRevokeBefore(t *testing.T) {
	c := newClock()
	tokens := memory.NewAuthenticator()
	n := start(t, func(cfg *realtime.HubConfig) { cfg.Now = c.now; cfg.Authenticator = tokens })
	base := c.now()
	at := func(session string, opened time.Time) user.Identity {
		return user.Identity{UserID: "u-ada", SessionID: session, SessionAt: opened}
	}
	var old []*end
	for i := range 5 {
		old = append(old, n.as(at(fmt.Sprint("old", i), base.Add(-time.Duration(i)*time.Second))))
	}
	kept, fresh := n.as(at("kept", base)), n.as(at("new", base.Add(time.Microsecond)))
	unknown := n.as(at("of an older program", time.Time{}))
	other := n.as(user.Identity{UserID: "u-bob", SessionID: "bob", SessionAt: base})
	plain := n.as(user.Identity{UserID: "u-ada"})
	n.RevokeBefore("u-ada", base.Add(time.Microsecond), "kept", base.Add(time.Minute))
	for _, e := range append(old, unknown) {
		assert.Equal(t, "the session has ended", e.closedWith(socket.CloseUnauthenticated))
	}
	for _, e := range []*end{kept, fresh, other, plain} {
		require.True(t, e.open())
	}
	n.RevokeBefore("u-ada", base, "", base.Add(time.Hour)) // an event that comes late, or again
	_, err := n.Accept(newConn(), socket.Hello{Identity: at("old9", base)})
	require.ErrorIs(t, err, realtime.ErrRevoked)
	n.as(at("kept", base))
	n.as(at("new", base.Add(time.Microsecond)))

	tokens.AllowToken("kept", at("kept", base))
	require.Equal(t, "ack", kept.ask("renew", map[string]any{"token": "kept"}).Event)
	n.RevokeBefore("u-ada", base.Add(2*time.Second), "", base.Add(time.Minute))
	kept.closedWith(socket.CloseUnauthenticated)
	fresh.closedWith(socket.CloseUnauthenticated)
	require.True(t, other.open())
	c.advance(61 * time.Second)
	n.as(at("old9", base)) // its tokens have expired by themselves
}

func TestConnectionsOfAUserAreBounded(t *testing.T) {
	n := start(t, func(cfg *realtime.HubConfig) { cfg.MaxUserConnections = 3 })
	one := n.connect("ada")
	n.connect("ada")
	n.connect("ada")
	_, err := n.Accept(newConn(), socket.Hello{Identity: user.Identity{UserID: "u-ada", SessionID: "s2"}})
	require.ErrorIs(t, err, realtime.ErrManySockets)
	code, _ := socket.Refusal(err)
	require.Equal(t, socket.CloseTooFast, code)
	n.connect("bob")
	one.gone()
	n.connect("ada")
}

// TestRenewalsRace renews, revokes and ends at the same time.
func TestRenewalsRace(t *testing.T) {
	c := newClock()
	tokens := memory.NewAuthenticator()
	n := start(t, func(cfg *realtime.HubConfig) { often(cfg); cfg.Now = c.now; cfg.Authenticator = tokens })
	who := user.Identity{UserID: "u-ada", SessionID: "s", SessionAt: c.now(), ExpiresAt: c.now().Add(time.Second)}
	var all []*end
	for range 50 {
		all = append(all, n.as(who))
	}
	later := who
	later.ExpiresAt = c.now().Add(time.Hour)
	tokens.AllowToken("later", later)
	var wg sync.WaitGroup
	for _, e := range all {
		wg.Go(func() { e.in.Receive([]byte(`{"event":"renew","data":{"token":"later"}}`), false) })
	}
	wg.Go(func() { c.advance(2 * time.Second) })
	wg.Wait()
	n.RevokeBefore("u-ada", who.SessionAt.Add(time.Second), "", c.now().Add(time.Hour))
	for _, e := range all {
		e.closedWith(socket.CloseUnauthenticated)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, n.Drain(ctx))
}

// TestCallsBesideTheSocketAreAdmittedAsConnectionsAre: whom Accept refuses because of a token or a session, Admits refuses too.
func TestCallsBesideTheSocketAreAdmittedAsConnectionsAre(t *testing.T) {
	c := newClock()
	n := start(t, func(cfg *realtime.HubConfig) { cfg.Now = c.now; cfg.ClockLeeway = 5 * time.Second })
	now := c.now().Truncate(time.Second)
	n.Revoke("u-ada", "s-ended", now.Add(time.Minute))
	n.RevokeBefore("u-bob", now, "s-kept", now.Add(time.Minute))
	for name, tc := range map[string]struct {
		who  user.Identity
		want error
	}{
		"good":                    {user.Identity{UserID: "u-ada", SessionID: "s-good", ExpiresAt: now.Add(time.Minute)}, nil},
		"without a session":       {user.Identity{UserID: "u-ada"}, nil},
		"ended":                   {user.Identity{UserID: "u-ada", SessionID: "s-ended"}, realtime.ErrRevoked},
		"expired":                 {user.Identity{UserID: "u-ada", SessionID: "s-good", ExpiresAt: now.Add(-5 * time.Second)}, realtime.ErrExpired},
		"expired, in the leeway":  {user.Identity{UserID: "u-ada", SessionID: "s-good", ExpiresAt: now.Add(-4 * time.Second)}, nil},
		"older":                   {user.Identity{UserID: "u-bob", SessionID: "s-old", SessionAt: now.Add(-time.Second)}, realtime.ErrRevoked},
		"of an unknown age":       {user.Identity{UserID: "u-bob", SessionID: "s-old"}, realtime.ErrRevoked},
		"kept":                    {user.Identity{UserID: "u-bob", SessionID: "s-kept", SessionAt: now.Add(-time.Second)}, nil},
		"newer":                   {user.Identity{UserID: "u-bob", SessionID: "s-new", SessionAt: now}, nil},
		"another's older session": {user.Identity{UserID: "u-eve", SessionID: "s-old", SessionAt: now.Add(-time.Second)}, nil},
	} {
		_, accepted := n.Accept(newConn(), socket.Hello{Identity: tc.who})
		for _, err := range []error{n.Admits(tc.who), accepted} {
			if tc.want == nil {
				assert.NoError(t, err, name)
			} else {
				assert.ErrorIs(t, err, tc.want, name)
			}
		}
	}
	c.advance(time.Minute + time.Second)
	assert.NoError(t, n.Admits(user.Identity{UserID: "u-ada", SessionID: "s-ended"}), "by then no token of it is good")
}
