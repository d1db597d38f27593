package wsclient_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
	"github.com/parley-chat/parley/testkit"
	"github.com/parley-chat/parley/testkit/system"
)

// recorder notes what was asked of a server.
type recorder struct {
	transport http.RoundTripper
	mu        sync.Mutex
	asked     []string // "PUT /rooms/a%2Fb/read"
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	r.mu.Lock()
	r.asked = append(r.asked, req.Method+" "+req.URL.EscapedPath())
	r.mu.Unlock()
	return r.transport.RoundTrip(req)
}

func (r *recorder) calls() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.asked...)
}

func (r *recorder) count(call string) (n int) {
	for _, c := range r.calls() {
		if c == call {
			n++
		}
	}
	return n
}

// recording returns a client that notes what it asks.
func recording(t *testing.T) (*recorder, *http.Client) {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	r := &recorder{transport: transport}
	return r, &http.Client{Transport: r}
}

// within bounds what a test waits for.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// of returns the calls of somebody who has signed in.
func of(t *testing.T, s *system.System, name string, client *http.Client) (*wsclient.REST, *wsclient.Session) {
	t.Helper()
	u := s.User(t, name)
	session, err := wsclient.SignIn(within(t), wsclient.SessionConfig{Server: s.URL, HTTP: client}, u.Email, u.Password)
	require.NoError(t, err)
	return session.REST(), session
}

// whole collects a list.
func whole[T any](t *testing.T, items iter.Seq2[T, error]) []T {
	t.Helper()
	var all []T
	for item, err := range items {
		require.NoError(t, err)
		all = append(all, item)
	}
	return all
}

// operations are those of the printed document by method and path.
func operations(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/openapi.yaml")
	require.NoError(t, err)
	var doc struct {
		Paths map[string]map[string]struct {
			OperationID string `yaml:"operationId"`
			Tags        []string
		}
	}
	require.NoError(t, yaml.Unmarshal(text, &doc))
	found := map[string]string{}
	for path, methods := range doc.Paths {
		for method, op := range methods {
			switch {
			case op.OperationID == "":
			case op.OperationID == "jwks": // jwtauth.RemoteKeys reads it
			case strings.Join(op.Tags, "") == "pages": // for browsers
			case strings.Join(op.Tags, "") == "health": // for who runs the server
			default:
				found[strings.ToUpper(method)+" "+path] = op.OperationID
			}
		}
	}
	return found
}

// operation returns the operation that a call is, the one with the most fixed parts.
func operation(ops map[string]string, call string) (id string) {
	most := -1
	asked := strings.Split(call, "/")
	for op, name := range ops {
		parts := strings.Split(op, "/")
		fixed := 0
		for i, part := range parts {
			switch {
			case len(parts) != len(asked):
				fixed = -1
			case fixed < 0, strings.HasPrefix(part, "{"):
			case part != asked[i]:
				fixed = -1
			default:
				fixed++
			}
		}
		if fixed > most {
			most, id = fixed, name
		}
	}
	return id
}

// secondFactor makes every call about second factors, as a user of their own.
func secondFactor(t *testing.T, s *system.System, client *http.Client) {
	t.Helper()
	ctx := within(t)
	u := s.User(t, "Grace")
	cfg := wsclient.SessionConfig{Server: s.URL, HTTP: client}
	session, err := wsclient.SignIn(ctx, cfg, u.Email, u.Password)
	require.NoError(t, err)
	grace := session.REST()
	require.NoError(t, grace.Reauthenticate(ctx, u.Password, ""))
	none, err := grace.Factor(ctx)
	require.NoError(t, err)
	require.False(t, none.Enabled)
	app, err := grace.AddTOTP(ctx)
	require.NoError(t, err)
	require.Contains(t, app.URI, app.Secret)
	_, err = grace.ConfirmTOTP(ctx, "12345")
	require.ErrorIs(t, err, auth.ErrFactorCode)
	codes, err := grace.ConfirmTOTP(ctx, testkit.TOTPCode(app.Secret, time.Now()))
	require.NoError(t, err)
	require.Len(t, codes, auth.RecoveryCodes)
	_, err = wsclient.SignIn(ctx, cfg, u.Email, u.Password)
	require.ErrorIs(t, err, auth.ErrFactorRequired)
	asked, ok := errors.AsType[*wsclient.Problem](err)
	require.True(t, ok)
	require.Equal(t, 5*time.Minute, asked.ExpiresIn)
	_, err = wsclient.SignInFactor(ctx, cfg, asked.Challenge, "12345")
	require.ErrorIs(t, err, auth.ErrFactorCode)
	again, err := wsclient.SignInFactor(ctx, cfg, asked.Challenge, codes[0])
	require.NoError(t, err)
	require.Equal(t, session.Account(), again.Account())
	_, err = wsclient.SignInFactor(ctx, cfg, asked.Challenge, codes[1])
	require.ErrorIs(t, err, auth.ErrChallengeGone)
	require.NoError(t, grace.Reauthenticate(ctx, "", codes[1]))
	some, err := grace.Factor(ctx)
	require.NoError(t, err)
	require.True(t, some.Enabled)
	require.Equal(t, 8, *some.RecoveryCodes)
	fresh, err := grace.NewRecoveryCodes(ctx)
	require.NoError(t, err)
	require.NotEqual(t, codes, fresh)
	require.NoError(t, grace.RemoveFactor(ctx))
}

// TestRESTHasEveryOperation makes every call, and wants each operation of docs/openapi.yaml that a user can ask for to be among them.
func TestRESTHasEveryOperation(t *testing.T) {
	t.Parallel()
	s := system.Start(t, system.Config{Auth: auth.Config{Links: true, FactorKeys: [][]byte{auth.NewFactorKey()}}})
	ctx := within(t)
	asked, client := recording(t)
	anybody, err := wsclient.NewREST(wsclient.RESTConfig{Server: s.URL + "/", HTTP: client})
	require.NoError(t, err)

	const email, first, second, third = "ada@parley.test", "a first pass phrase", "a second pass phrase", "a third pass phrase"
	require.NoError(t, anybody.SignUp(ctx, "Ada Lovelace", email, first))
	s.Code(t, email, 1)
	require.NoError(t, anybody.ResendVerification(ctx, email))
	require.NoError(t, anybody.Verify(ctx, s.Code(t, email, 2)))
	require.ErrorIs(t, anybody.Verify(ctx, "wrong-wrong-wrong"), fault.Invalid)
	require.NoError(t, anybody.ForgotPassword(ctx, email))
	require.NoError(t, anybody.ResetPassword(ctx, s.Code(t, email, 3), second))
	_, err = anybody.Me(ctx)
	require.ErrorIs(t, err, fault.Unauthenticated)

	cfg := wsclient.SessionConfig{Server: s.URL, HTTP: client}
	_, err = wsclient.SignIn(ctx, cfg, email, first)
	require.ErrorIs(t, err, auth.ErrInvalidCredentials)
	session, err := wsclient.SignIn(ctx, cfg, email, second)
	require.NoError(t, err)
	methods, err := anybody.Methods(ctx)
	require.NoError(t, err)
	require.Equal(t, wsclient.Methods{Password: true, Link: true, TOTP: true}, methods)
	require.NoError(t, anybody.RequestLink(ctx, email))
	byLink, err := wsclient.SignInByLink(ctx, cfg, s.Code(t, email, 6))
	require.NoError(t, err)
	require.Equal(t, session.Account(), byLink.Account())
	require.NoError(t, byLink.SignOut(ctx, false))
	_, err = wsclient.SignInByLink(ctx, cfg, "wrong-wrong-wrong")
	require.ErrorIs(t, err, auth.ErrCodeUnknown)
	secondFactor(t, s, client)
	cfg.DeviceToken = session.DeviceToken()
	require.NotEmpty(t, cfg.DeviceToken)
	ada := session.REST()
	me, err := ada.Me(ctx)
	require.NoError(t, err)
	require.Equal(t, session.Account(), me)
	require.Equal(t, wsclient.Account{ID: me.ID, FullName: "Ada Lovelace", Email: email, Verified: true}, me)
	name, language, picture := "Ada King", "EN-gb", "https://example.com/ada.png"
	said, err := ada.ChangeMe(ctx, &name, &language, &picture)
	require.NoError(t, err)
	require.Equal(t, wsclient.Account{ID: me.ID, FullName: name, Email: email, Verified: true, Language: "en-GB", AvatarURL: picture}, said)
	none := ""
	said, err = ada.ChangeMe(ctx, &me.FullName, &none, &none)
	require.NoError(t, err)
	require.Equal(t, me, said)
	_, err = ada.ChangeMe(ctx, &none, nil, nil)
	require.ErrorIs(t, err, user.ErrFullNameInvalid)
	require.ErrorIs(t, ada.RequestEmail(ctx, "ada@example.com", first), auth.ErrInvalidCredentials)
	_, err = ada.ConfirmEmail(ctx, "wrong-wrong-wrong")
	require.ErrorIs(t, err, auth.ErrCodeUnknown)
	require.ErrorIs(t, ada.EraseMe(ctx, first), auth.ErrInvalidCredentials)
	require.ErrorIs(t, ada.ChangePassword(ctx, first, third), auth.ErrInvalidCredentials)
	require.Zero(t, asked.count("POST /auth/refresh"), "it was about the password and not about the token")
	require.NoError(t, ada.ChangePassword(ctx, second, third))
	used, err := session.Token(ctx, "")
	require.NoError(t, err)
	_, err = session.Token(ctx, used)
	require.NoError(t, err)
	ticket, lasts, err := ada.SocketTicket(ctx)
	require.NoError(t, err)
	require.NotEmpty(t, ticket)
	require.Positive(t, lasts)

	bob, bobs := of(t, s, "Bob", client)
	carol, carols := of(t, s, "Carol", client)
	bobID, carolID := bobs.Account().ID, carols.Account().ID

	made, err := ada.CreateRoom(ctx, wsclient.NewRoom{
		Name: "kitchen", Kind: chat.Private, Title: "The kitchen", Topic: "Pots", Data: map[string]string{"icon": "pot"},
	})
	require.NoError(t, err)
	assert.WithinDuration(t, time.Now(), made.CreatedAt, time.Minute)
	assert.Equal(t, wsclient.RoomInfo{
		Name: "kitchen", Kind: chat.Private, Title: "The kitchen", Topic: "Pots", Data: json.RawMessage(`{"icon":"pot"}`), CreatedBy: me.ID, CreatedAt: made.CreatedAt,
	}, made)
	_, err = ada.CreateRoom(ctx, wsclient.NewRoom{Name: "kitchen"})
	require.ErrorIs(t, err, chat.ErrRoomTaken)
	require.ErrorIs(t, err, fault.Conflict)
	_, err = bob.Room(ctx, "kitchen")
	require.ErrorIs(t, err, chat.ErrRoomNotFound)
	hall, err := bob.CreateRoom(ctx, wsclient.NewRoom{Name: "hall"})
	require.NoError(t, err)
	public := whole(t, ada.PublicRooms(ctx))
	require.Len(t, public, 1)
	assert.Equal(t, hall, public[0])

	month := 720*time.Hour + 30*time.Second
	changed, err := ada.UpdateRoom(ctx, "kitchen", wsclient.RoomChange{Title: new(""), Retention: &month})
	require.NoError(t, err)
	made.Title, made.Retention = "", month
	assert.Equal(t, made, changed)
	again, err := ada.Room(ctx, "kitchen")
	require.NoError(t, err)
	assert.Equal(t, made, again)

	m, err := ada.SetRole(ctx, "kitchen", bobID, chat.Reader)
	require.NoError(t, err)
	assert.Equal(t, wsclient.Member{User: wsclient.User{ID: bobID, Name: "Bob"}, Role: chat.Reader, Since: m.Since}, m)
	_, err = ada.SetRole(ctx, "kitchen", bobID, "king")
	require.ErrorIs(t, err, chat.ErrRoleInvalid)
	_, err = ada.SetRole(ctx, "kitchen", bobID, chat.Regular)
	require.NoError(t, err)
	members := whole(t, ada.Members(ctx, "kitchen"))
	require.Len(t, members, 2)

	sent, err := ada.SendDraft(ctx, "kitchen", wsclient.Draft{Text: "Tea?", Data: map[string]int{"cups": 2}})
	require.NoError(t, err)
	reply, err := bob.SendDraft(ctx, "kitchen", wsclient.Draft{Text: "Yes", ReplyTo: sent.Seq, ClientID: "yes-1"})
	require.NoError(t, err)
	same, err := bob.SendDraft(ctx, "kitchen", wsclient.Draft{Text: "Yes", ReplyTo: sent.Seq, ClientID: "yes-1"})
	require.NoError(t, err)
	assert.Equal(t, reply, same)
	_, err = bob.Edit(ctx, "kitchen", sent.Seq, "No tea")
	require.ErrorIs(t, err, fault.Forbidden)
	_, err = ada.Edit(ctx, "kitchen", 77, "No tea")
	require.ErrorIs(t, err, chat.ErrMessageNotFound)
	rev, err := ada.EditData(ctx, "kitchen", sent.Seq, "Green tea?", map[string]int{"cups": 3})
	require.NoError(t, err)
	assert.EqualValues(t, 1, rev)
	_, err = bob.React(ctx, "kitchen", sent.Seq, "a/b %?#👍")
	require.NoError(t, err)
	_, err = bob.React(ctx, "kitchen", sent.Seq, ".")
	require.NoError(t, err)
	_, err = bob.Unreact(ctx, "kitchen", sent.Seq, ".")
	require.NoError(t, err)
	rev, err = bob.Delete(ctx, "kitchen", reply.Seq)
	require.NoError(t, err)
	assert.EqualValues(t, 5, rev)
	page, err := ada.History(ctx, "kitchen", wsclient.Range{Limit: 1})
	require.NoError(t, err)
	require.Len(t, page.Messages, 1)
	assert.True(t, page.More)
	assert.False(t, page.Messages[0].DeletedAt.IsZero())
	page, err = ada.History(ctx, "kitchen", wsclient.Range{Before: reply.Seq})
	require.NoError(t, err)
	require.Len(t, page.Messages, 1)
	assert.Equal(t, "Green tea?", page.Messages[0].Text)
	assert.Equal(t, []wsclient.Reaction{{Key: "a/b %?#👍", Count: 1, Users: []string{bobID}}}, page.Messages[0].Reactions)
	page, err = ada.History(ctx, "kitchen", wsclient.Range{Changed: true})
	require.NoError(t, err)
	require.Len(t, page.Messages, 2)
	page, err = ada.History(ctx, "kitchen", wsclient.Range{After: reply.Seq})
	require.NoError(t, err)
	require.Empty(t, page.Messages)
	marked, err := ada.Mark(ctx, "kitchen", 1<<63)
	require.NoError(t, err)
	assert.Equal(t, wsclient.Marked{Read: 2}, marked)
	mine := whole(t, ada.MyRooms(ctx))
	require.Len(t, mine, 1)
	assert.Equal(t, reply.ID, mine[0].Last.ID)
	assert.Equal(t, wsclient.MyRoom{Room: "kitchen", Role: chat.Owner, Seq: 2, Rev: 5, Read: 2, Last: mine[0].Last}, mine[0])

	end := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	require.NoError(t, ada.Mute(ctx, "kitchen", bobID, end, "shouting"))
	_, err = bob.Send(ctx, "kitchen", "AND?")
	require.ErrorIs(t, err, chat.ErrMuted)
	mutes := whole(t, ada.Mutes(ctx, "kitchen"))
	require.Len(t, mutes, 1)
	assert.Equal(t, wsclient.Restriction{User: bobID, By: me.ID, At: mutes[0].At, Until: end, Reason: "shouting"}, mutes[0])
	require.True(t, whole(t, bob.MyRooms(ctx))[1].MutedUntil.Equal(end) || whole(t, bob.MyRooms(ctx))[0].MutedUntil.Equal(end))
	require.NoError(t, ada.Unmute(ctx, "kitchen", bobID))
	require.NoError(t, ada.Ban(ctx, "kitchen", carolID, time.Time{}, ""))
	bans := whole(t, ada.Bans(ctx, "kitchen"))
	require.Len(t, bans, 1)
	assert.Equal(t, wsclient.Restriction{User: carolID, By: me.ID, At: bans[0].At}, bans[0])
	require.NoError(t, ada.Unban(ctx, "kitchen", carolID))
	require.NoError(t, ada.RemoveMember(ctx, "kitchen", bobID))
	require.ErrorIs(t, bob.RemoveMember(ctx, "kitchen", bobID), fault.NotFound)

	direct, err := ada.Direct(ctx, carolID)
	require.NoError(t, err)
	assert.Equal(t, chat.Direct, direct.Kind)
	again, err = carol.Direct(ctx, me.ID)
	require.NoError(t, err)
	assert.Equal(t, direct.Name, again.Name)
	require.NoError(t, ada.Block(ctx, carolID))
	blocks := whole(t, ada.Blocks(ctx))
	require.Len(t, blocks, 1)
	assert.Equal(t, wsclient.User{ID: carolID, Name: "Carol"}, blocks[0].User)
	_, err = carol.Send(ctx, direct.Name, "Hello")
	require.ErrorIs(t, err, fault.Forbidden)
	require.NoError(t, ada.Unblock(ctx, carolID))
	set, err := ada.Settings(ctx)
	require.NoError(t, err)
	assert.Equal(t, wsclient.UserSettings{ReadReceipts: true}, set)
	for _, c := range []wsclient.SettingsChange{{ReadReceipts: new(false)}, {}} {
		set, err = ada.UpdateSettings(ctx, c)
		require.NoError(t, err)
		assert.Equal(t, wsclient.UserSettings{}, set)
	}
	require.NoError(t, ada.DeleteRoom(ctx, "kitchen"))
	require.ErrorIs(t, ada.DeleteRoom(ctx, "kitchen"), chat.ErrRoomNotFound)

	other, err := wsclient.SignIn(ctx, cfg, email, third)
	require.NoError(t, err)
	lost, err := wsclient.SignIn(ctx, cfg, email, third)
	require.NoError(t, err)
	sessions, err := ada.Sessions(ctx)
	require.NoError(t, err)
	require.Len(t, sessions, 3)
	own := sessions[2]
	assert.Equal(t, wsclient.SessionInfo{
		ID: own.ID, Device: "Go-http-client", Network: "127.0.0.0/24", CreatedAt: own.CreatedAt, LastSeenAt: own.LastSeenAt, Current: true,
	}, own)
	assert.WithinDuration(t, time.Now(), own.LastSeenAt, time.Minute)
	require.NoError(t, ada.EndSession(ctx, sessions[0].ID))
	_, err = lost.REST().Me(ctx)
	require.ErrorIs(t, err, fault.Unauthenticated)
	require.ErrorIs(t, ada.EndSession(ctx, sessions[0].ID), auth.ErrSessionNotFound)
	require.ErrorIs(t, bob.EndSession(ctx, own.ID), auth.ErrSessionNotFound)
	require.NoError(t, other.SignOut(ctx, false))
	require.NoError(t, session.SignOut(ctx, true))
	_, err = ada.Me(ctx)
	require.ErrorIs(t, err, fault.Unauthenticated)

	ops := operations(t)
	require.Greater(t, len(ops), 30)
	called := map[string]bool{}
	for _, call := range asked.calls() {
		id := operation(ops, call)
		require.NotEmpty(t, id, "no operation of the document is %s", call)
		called[id] = true
	}
	for op, id := range ops {
		assert.True(t, called[id], "no call of this client is %s (%s): give it a method, and call it here", op, id)
	}
}

// TestRESTReachesEveryName has rooms, users and reactions whose names look like parts of an address.
func TestRESTReachesEveryName(t *testing.T) {
	t.Parallel()
	s := system.Start(t, system.Config{})
	ctx := within(t)
	ada, _ := of(t, s, "Ada", nil)
	names := []string{
		".", "..", "...", "a/b", "a//b", "/", "../..", "100%", "%2F", "%", "mine", "read", "direct", "members", "messages", "a b+c", "?x=1#y", `back\slash`, "semi;colon",
		"a&b=c", "ä", "日本", "a:b@c", "~-_.!*'()", strings.Repeat("👩‍🚀", 20), strings.Repeat("🙂", 100),
	}
	for _, name := range names {
		made, err := ada.CreateRoom(ctx, wsclient.NewRoom{Name: name})
		require.NoError(t, err, name)
		require.Equal(t, name, made.Name)
	}
	for _, name := range names {
		got, err := ada.Room(ctx, name)
		require.NoError(t, err, name)
		require.Equal(t, name, got.Name)
		sent, err := ada.Send(ctx, name, "in "+name)
		require.NoError(t, err, name)
		_, err = ada.React(ctx, name, sent.Seq, string([]rune(name)[:min(10, len([]rune(name)))]))
		require.NoError(t, err, name)
		page, err := ada.History(ctx, name, wsclient.Range{})
		require.NoError(t, err, name)
		require.Equal(t, name, page.Messages[0].Room)
		require.Len(t, page.Messages[0].Reactions, 1)
		marked, err := ada.Mark(ctx, name, sent.Seq)
		require.NoError(t, err, name)
		require.Equal(t, wsclient.Marked{Read: 1}, marked)
		m, err := ada.SetRole(ctx, name, name, chat.Regular) // the server does not ask whether there is such a user
		require.NoError(t, err, name)
		require.Equal(t, name, m.User.ID)
		require.NoError(t, ada.RemoveMember(ctx, name, name), name)
		_, err = ada.Direct(ctx, name)
		require.ErrorIs(t, err, fault.NotFound, name)
	}
	require.Len(t, whole(t, ada.MyRooms(ctx)), len(names))
	for _, name := range names {
		require.NoError(t, ada.DeleteRoom(ctx, name), name)
	}
	require.Empty(t, whole(t, ada.MyRooms(ctx)))
	for _, bad := range []string{"a\x00b", "\xff", "\n", strings.Repeat("x", 101)} {
		_, err := ada.Room(ctx, bad)
		require.ErrorIs(t, err, fault.Invalid, "%q", bad)
	}
	_, err := ada.CreateRoom(ctx, wsclient.NewRoom{Name: "a\nb"})
	var p *wsclient.Problem
	require.ErrorAs(t, err, &p)
	require.Equal(t, "body.name", p.Errors[0].Location)
	require.ErrorContains(t, err, "body.name: "+p.Errors[0].Message)
	for _, err := range []error{
		ada.DeleteRoom(ctx, ""), ada.RemoveMember(ctx, "a", ""), ada.Block(ctx, ""), func() error { _, err := ada.Unreact(ctx, "a", 1, ""); return err }(),
	} {
		require.ErrorIs(t, err, fault.Invalid)
		require.ErrorContains(t, err, "is empty")
	}
}

// TestRESTReadsListsPageByPage has lists of several pages, and pages that are large.
func TestRESTReadsListsPageByPage(t *testing.T) {
	t.Parallel()
	s := system.Start(t, system.Config{})
	ctx := within(t)
	u := s.User(t, "Ada")
	asked, client := recording(t)
	ada, err := wsclient.NewREST(wsclient.RESTConfig{
		Server: s.URL, HTTP: client, Token: func(context.Context) (string, error) { return u.AccessToken, nil },
	})
	require.NoError(t, err)
	const rooms, members = 201, 230
	for i := range rooms {
		_, err := ada.CreateRoom(ctx, wsclient.NewRoom{Name: fmt.Sprintf("room-%03d", i)})
		require.NoError(t, err)
	}
	for i := range members {
		_, err := ada.SetRole(ctx, "room-000", fmt.Sprintf("somebody-%03d", i), chat.Reader)
		require.NoError(t, err)
		require.NoError(t, ada.Ban(ctx, "room-001", fmt.Sprintf("somebody-%03d", i), time.Time{}, ""))
	}
	before := len(asked.calls())
	for range ada.PublicRooms(ctx) {
		break
	}
	require.Len(t, asked.calls(), before+1, "a page that nobody wants is not asked for")
	public := whole(t, ada.PublicRooms(ctx))
	require.Len(t, public, rooms)
	for i, r := range public {
		require.Equal(t, fmt.Sprintf("room-%03d", i), r.Name)
	}
	mine := map[string]bool{}
	for _, r := range whole(t, ada.MyRooms(ctx)) {
		mine[r.Room] = true
	}
	require.Len(t, mine, rooms)
	require.Len(t, whole(t, ada.Members(ctx, "room-000")), members+1)
	require.Len(t, whole(t, ada.Bans(ctx, "room-001")), members)
	n := 0
	for _, err := range ada.Members(ctx, "nowhere") {
		require.ErrorIs(t, err, chat.ErrRoomNotFound)
		n++
	}
	require.Equal(t, 1, n)

	long := strings.Repeat("<", chat.MaxText) // which JSON makes six times as long
	blob := map[string]string{"blob": strings.Repeat("x", chat.MaxData-20)}
	for range 100 {
		_, err := ada.SendDraft(ctx, "room-000", wsclient.Draft{Text: long, Data: blob})
		require.NoError(t, err)
	}
	page, err := ada.History(ctx, "room-000", wsclient.Range{Limit: 100})
	require.NoError(t, err)
	require.Len(t, page.Messages, 100)
	for _, m := range page.Messages {
		require.Equal(t, long, m.Text)
	}
}

func TestNewRESTRefuses(t *testing.T) {
	t.Parallel()
	for _, server := range []string{"", "chat.example.com", "ws://chat.example.com", "://"} {
		_, err := wsclient.NewREST(wsclient.RESTConfig{Server: server})
		assert.ErrorContains(t, err, "RESTConfig.Server", server)
	}
	_, err := wsclient.NewREST(wsclient.RESTConfig{
		Server: "http://localhost", Tokens: &wsclient.Session{}, Token: func(context.Context) (string, error) { return "", nil },
	})
	assert.ErrorContains(t, err, "RESTConfig.Tokens")
	_, err = wsclient.NewREST(wsclient.RESTConfig{Server: "http://localhost", Timeout: -1})
	assert.ErrorContains(t, err, "RESTConfig.Timeout")
}

func TestSignInAt(t *testing.T) {
	t.Parallel()
	a := newAccounts(t)
	a.next("/own/signin", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		assert.JSONEq(t, `{"badge":7}`, string(body))
		_, _ = fmt.Fprint(w, `{"accessToken":"a","expiresIn":900,"refreshToken":"r","deviceToken":"d","user":{"id":"u7","fullName":"Seven","email":"7@parley.test"}}`)
	})
	s, err := wsclient.SignInAt(t.Context(), wsclient.SessionConfig{Server: a.url}, "/own/signin", map[string]int{"badge": 7})
	require.NoError(t, err)
	assert.Equal(t, "u7", s.Account().ID)
	assert.Equal(t, "d", s.DeviceToken())
}
