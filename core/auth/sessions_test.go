package auth_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

// What clients are.
var (
	firefox = auth.Client{Address: "192.0.2.77", UserAgent: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}
	phone   = auth.Client{Address: "2001:db8:1:2:3:4:5:6", UserAgent: "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1"}
)

// signInFrom opens a session of a client.
func (w *world) signInFrom(from auth.Client, email, password string) (auth.Grant, user.Identity) {
	w.t.Helper()
	g, err := w.SignIn(context.Background(), from, email, password)
	require.NoError(w.t, err)
	who, err := w.Authenticate(context.Background(), g.AccessToken)
	require.NoError(w.t, err)
	return g, who
}

// told counts the mails about new devices.
func (w *world) told() int {
	n := 0
	for _, kind := range w.types() {
		if kind == mail.TypeDeviceSignedIn {
			n++
		}
	}
	return n
}

func TestMySessions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.account(ada)
	w.account("bob@example.com")
	w.signIn("bob@example.com", password)
	opened := w.clock.Now().UTC().Truncate(time.Microsecond)
	g, who := w.signInFrom(firefox, ada, password)
	w.clock.Advance(time.Minute)
	_, other := w.signInFrom(phone, ada, password)
	w.clock.Advance(time.Minute)
	_, err := w.Refresh(t.Context(), g.RefreshToken)
	require.NoError(t, err)

	mine, err := w.MySessions(t.Context(), who)
	require.NoError(t, err)
	require.Len(t, mine, 2)
	assert.Equal(t, other.SessionID, mine[0].ID, "the newest comes first")
	assert.Equal(t, "Safari on iPhone", mine[0].Device)
	assert.Equal(t, "2001:db8:1::/48", mine[0].Network)
	assert.Equal(t, opened.Add(time.Minute), mine[0].LastSeen())
	assert.Equal(t, who.SessionID, mine[1].ID)
	assert.Equal(t, "Firefox on Linux", mine[1].Device)
	assert.Equal(t, "192.0.2.0/24", mine[1].Network)
	assert.Equal(t, opened, mine[1].CreatedAt)
	assert.Equal(t, opened.Add(2*time.Minute), mine[1].LastSeen(), "it was refreshed")
	for _, s := range mine {
		for _, address := range []string{firefox.Address, phone.Address} {
			assert.NotContains(t, fmt.Sprintf("%+v", s), address, "the whole address is not stored")
		}
	}
	_, err = w.MySessions(t.Context(), user.Identity{UserID: "nobody", SessionID: "x"})
	require.ErrorIs(t, err, user.ErrNotFound)
}

// TestMySessionsHasTheOneThatAsks has more sessions than may go on before it in the store, all of which have ended.
func TestMySessionsHasTheOneThatAsks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *auth.Config) { c.MaxSessions = 3 })
	w.account(ada)
	_, who := w.signInFrom(phone, ada, password)
	for range 2 {
		w.clock.Advance(time.Second)
		w.signIn(ada, password)
	}
	w.clock.Advance(time.Second)
	require.NoError(t, w.ChangePassword(t.Context(), who, password, newPassword))
	for range 2 {
		w.clock.Advance(time.Second)
		w.signIn(ada, newPassword)
	}
	mine, err := w.MySessions(t.Context(), who)
	require.NoError(t, err)
	require.Len(t, mine, 3)
	require.Equal(t, who.SessionID, mine[2].ID)
	require.True(t, slices.IsSortedFunc(mine, func(a, b auth.Session) int { return b.CreatedAt.Compare(a.CreatedAt) }))
}

func TestEndSession(t *testing.T) {
	t.Parallel()
	var reasons []auth.RevokeReason
	w := newWorld(t, func(c *auth.Config) { c.Revoked = func(r auth.RevokeReason) { reasons = append(reasons, r) } })
	w.account(ada)
	w.account("bob@example.com")
	_, bob := w.signIn("bob@example.com", password)
	mine, who := w.signInFrom(firefox, ada, password)
	lost, other := w.signInFrom(phone, ada, password)

	before := len(w.events())
	require.NoError(t, w.EndSession(t.Context(), who, other.SessionID))
	require.Len(t, w.events(), before+1)
	var data auth.SessionRevoked
	e := w.last(auth.TypeSessionRevoked, &data)
	require.Equal(t, auth.Topic, e.Topic)
	require.Equal(t, other.SessionID, data.SessionID)
	require.Equal(t, string(who.UserID), data.UserID)
	_, err := w.Refresh(t.Context(), lost.RefreshToken)
	require.ErrorIs(t, err, auth.ErrSessionEnded)
	_, err = w.Authenticate(t.Context(), lost.AccessToken)
	require.ErrorIs(t, err, auth.ErrSessionEnded)
	_, err = w.Authenticate(t.Context(), mine.AccessToken)
	require.NoError(t, err)

	for name, id := range map[string]string{
		"another's": bob.SessionID, "unknown": "nobody", "ended": other.SessionID, "empty": "", "no identifier": "a\x00b", "huge": strings.Repeat("x", 1<<20),
	} {
		err := w.EndSession(t.Context(), who, id)
		require.ErrorIs(t, err, auth.ErrSessionNotFound, name)
		require.Equal(t, fault.Public(auth.ErrSessionNotFound), fault.Public(err), name)
	}
	require.Len(t, w.events(), before+1)
	_, err = w.MySessions(t.Context(), bob)
	require.NoError(t, err, "the other's session goes on")

	require.NoError(t, w.EndSession(t.Context(), who, who.SessionID), "which is a sign-out")
	_, err = w.Authenticate(t.Context(), mine.AccessToken)
	require.ErrorIs(t, err, auth.ErrSessionEnded)
	require.Equal(t, []auth.RevokeReason{auth.RevokedSignOut, auth.RevokedSignOut}, reasons)
}

// TestNewDevicesAreTold signs in from devices, known and not, and counts the mails.
func TestNewDevicesAreTold(t *testing.T) {
	t.Parallel()
	elsewhere := firefox
	elsewhere.Address = "198.51.100.1"
	next := firefox
	next.Address = "192.0.2.200"
	for name, tc := range map[string]struct {
		do   func(w *world, first auth.Grant, who user.Identity)
		want int
	}{
		"the first sign-in":             {func(*world, auth.Grant, user.Identity) {}, 0},
		"again":                         {func(w *world, _ auth.Grant, _ user.Identity) { w.signInFrom(firefox, ada, password) }, 0},
		"again, from the same network":  {func(w *world, _ auth.Grant, _ user.Identity) { w.signInFrom(next, ada, password) }, 0},
		"another device":                {func(w *world, _ auth.Grant, _ user.Identity) { w.signInFrom(phone, ada, password) }, 1},
		"a device of that kind, abroad": {func(w *world, _ auth.Grant, _ user.Identity) { w.signInFrom(elsewhere, ada, password) }, 1},
		"the device abroad, with its token": {func(w *world, first auth.Grant, _ user.Identity) {
			from := elsewhere
			from.Device = first.DeviceToken
			w.signInFrom(from, ada, password)
		}, 0},
		"another device, twice": {func(w *world, _ auth.Grant, _ user.Identity) {
			w.signInFrom(phone, ada, password)
			w.signInFrom(phone, ada, password)
		}, 1},
		"a wrong password": {func(w *world, _ auth.Grant, _ user.Identity) {
			_, err := w.SignIn(context.Background(), phone, ada, "wrong horse")
			require.ErrorIs(w.t, err, auth.ErrInvalidCredentials)
		}, 0},
		"another device, after all sessions ended": {func(w *world, _ auth.Grant, who user.Identity) {
			require.NoError(w.t, w.SignOut(context.Background(), who))
			w.signInFrom(phone, ada, password)
		}, 1},
		"another device, after all sessions are forgotten": {func(w *world, _ auth.Grant, who user.Identity) {
			_, err := w.store.Sessions.DeleteOf(context.Background(), who.UserID)
			require.NoError(w.t, err)
			w.signInFrom(phone, ada, password)
		}, 1},
		"the device with its token, after its sign-out": {func(w *world, first auth.Grant, who user.Identity) {
			require.NoError(w.t, w.SignOut(context.Background(), who))
			from := elsewhere
			from.Device = first.DeviceToken
			w.signInFrom(from, ada, password)
		}, 0},
		"the device with its token, after another has ended its session": {func(w *world, first auth.Grant, who user.Identity) {
			_, other := w.signInFrom(phone, ada, password) // one
			require.NoError(w.t, w.EndSession(context.Background(), other, who.SessionID))
			from := elsewhere
			from.Device = first.DeviceToken
			w.signInFrom(from, ada, password)
		}, 2},
		"the device with its token, after all were signed out": {func(w *world, first auth.Grant, who user.Identity) {
			w.clock.Advance(time.Second)
			require.NoError(w.t, w.SignOutAll(context.Background(), who))
			from := firefox
			from.Device = first.DeviceToken
			w.signInFrom(from, ada, password)
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, silent := range []bool{false, true} {
				w := newWorld(t, func(c *auth.Config) { c.NoDeviceMail = silent })
				w.account(ada)
				first, who := w.signInFrom(firefox, ada, password)
				committed := w.committed.Load()
				tc.do(w, first, who)
				if silent {
					require.Zero(t, w.told(), "it is switched off")
					continue
				}
				require.Equal(t, tc.want, w.told())
				if tc.want > 0 {
					require.Greater(t, w.committed.Load(), committed, "the relay is woken")
				}
			}
		})
	}
}

func TestWhatIsToldOfANewDevice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	u := w.account(ada)
	w.signIn(ada, password)
	w.clock.Advance(time.Minute)
	g, _ := w.signInFrom(phone, ada, password)
	var data mail.DeviceSignedIn
	e := w.last(mail.TypeDeviceSignedIn, &data)
	require.Equal(t, mail.Topic, e.Topic)
	require.Equal(t, string(u.ID), e.Key)
	require.Equal(t, mail.DeviceSignedIn{
		UserID: string(u.ID), FullName: u.FullName, Email: ada, At: w.clock.Now().UTC().Truncate(time.Microsecond),
		Device: "Safari on iPhone", Network: "2001:db8:1::/48",
	}, data)
	text := string(e.Data)
	for _, secret := range slices.Concat([]string{phone.Address, phone.UserAgent, g.AccessToken}, strings.Split(g.RefreshToken, "."), strings.Split(g.DeviceToken, ".")) {
		require.NotContains(t, text, secret)
	}
}

// TestADeviceIsToldWithItsSession fails the write that stores the session: neither it nor the mail is there.
func TestADeviceIsToldWithItsSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.account(ada)
	w.signIn(ada, password)
	w.steps.arm(1, false)
	_, err := w.SignIn(t.Context(), phone, ada, password)
	require.ErrorIs(t, err, fault.Unavailable)
	require.True(t, w.steps.disarm())
	require.Zero(t, w.told())
	w.signInFrom(phone, ada, password)
	require.Equal(t, 1, w.told())
}

func TestPasswordMailsCanBeSwitchedOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *auth.Config) { c.NoPasswordMail = true })
	w.account(ada)
	_, who := w.signIn(ada, password)
	require.NoError(t, w.ChangePassword(t.Context(), who, password, newPassword))
	require.NotContains(t, w.types(), mail.TypePasswordChanged)
	require.Contains(t, w.types(), auth.TypeSessionsRevoked, "the others end all the same")
}

// countedUpdates counts writes of sessions.
type countedUpdates struct {
	auth.SessionStore
	n   *int
	err error
}

func (c countedUpdates) Update(ctx context.Context, id string, change func(*auth.Session) error, events ...event.Event) (auth.Session, error) {
	s, err := c.SessionStore.Update(ctx, id, change, events...)
	if err == nil {
		*c.n++
		err = c.err
	}
	return s, err
}

// TestSocketTicketsNoteTheSession asks for tickets: one in five minutes is written.
func TestSocketTicketsNoteTheSession(t *testing.T) {
	t.Parallel()
	writes := 0
	w := newWorld(t, func(c *auth.Config) { c.Sessions = countedUpdates{c.Sessions, &writes, nil}; c.AccessTTL = time.Hour })
	w.account(ada)
	g, who := w.signIn(ada, password)
	seen := func() time.Time {
		s, err := w.store.Sessions.ByID(t.Context(), who.SessionID)
		require.NoError(t, err)
		return s.LastSeen()
	}
	opened := seen()
	ticket := func() {
		_, _, err := w.SocketTicket(t.Context(), who)
		require.NoError(t, err)
	}
	w.clock.Advance(5*time.Minute - time.Microsecond)
	ticket()
	require.Equal(t, opened, seen())
	require.Zero(t, writes)
	w.clock.Advance(time.Microsecond)
	ticket()
	ticket()
	require.Equal(t, opened.Add(5*time.Minute), seen())
	require.Equal(t, 1, writes)
	w.clock.Advance(4 * time.Minute)
	_, err := w.Refresh(t.Context(), g.RefreshToken)
	require.NoError(t, err)
	require.Equal(t, opened.Add(9*time.Minute), seen())
	w.clock.Advance(4 * time.Minute)
	ticket()
	require.Equal(t, opened.Add(9*time.Minute), seen(), "the refresh counts")
	require.Equal(t, 2, writes)
}

// TestATicketNeedsNoNote fails the note: the ticket is there all the same.
func TestATicketNeedsNoNote(t *testing.T) {
	t.Parallel()
	writes := 0
	w := newWorld(t, func(c *auth.Config) {
		c.Sessions, c.AccessTTL = countedUpdates{c.Sessions, &writes, errors.New("broken")}, time.Hour
	})
	w.account(ada)
	_, who := w.signIn(ada, password)
	w.clock.Advance(10 * time.Minute)
	_, _, err := w.SocketTicket(t.Context(), who)
	require.NoError(t, err)
	require.Equal(t, 1, writes)
}
