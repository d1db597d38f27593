package parley_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/user"
	"github.com/parley-chat/parley/core/webhook"
)

// teller is a node that tells what is chosen into an outbox that nobody empties.
type teller struct {
	*parley.Node
	ports parley.Ports
	now   time.Time
}

func newTeller(t *testing.T, chosen ...string) *teller {
	t.Helper()
	w := &teller{ports: memory.NewPorts(), now: time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)}
	selection, err := webhook.Select(chosen...)
	require.NoError(t, err)
	w.Node, err = parley.NewNode(parley.Config{
		Ports: w.ports, Authenticator: parley.Authenticate(nil), Webhooks: selection, Now: func() time.Time { return w.now },
	})
	require.NoError(t, err)
	ctx, end := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Chat.Run(ctx) }()
	t.Cleanup(func() { end(); assert.NoError(t, <-ended) })
	return w
}

// told returns what the outbox has, and empties it: of each fact the body, without the time, and what it is about.
func (w *teller) told(t *testing.T) (facts []string) {
	t.Helper()
	events, err := w.ports.Outbox.Pending(t.Context(), 1000)
	require.NoError(t, err)
	for _, e := range events {
		require.NoError(t, e.Check())
		var f webhook.FactData
		require.NoError(t, json.Unmarshal(e.Data, &f))
		assert.Equal(t, f.Room, e.Key)
		told := e.Type + " about " + f.About
		if f.Forgets {
			told += ", forgets"
		}
		if body := string(f.Body); body != "" {
			_, data, found := strings.Cut(body, `"timestamp":"2026-05-04T03:02:01.000000Z","data":`)
			require.True(t, found, body)
			told += " " + strings.TrimSuffix(data, "}")
		}
		facts = append(facts, told)
		require.NoError(t, w.ports.Outbox.Published(t.Context(), e.ID))
	}
	return facts
}

func TestRoomsAndMembershipsAreTold(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newTeller(t, "room.*", "membership.*")
	author := func(id user.ID) chat.Author { return chat.Author{ID: id, Name: "N" + string(id)} }
	ada, grace := author("ada"), author("grace")
	as := func(a chat.Author) chat.Actor { return chat.Actor{Author: a} }
	operator := chat.Actor{Author: chat.System, Any: true}
	public, title, data, retention := chat.Public, `The "hall"`, `{"n":1}`, 720*time.Hour
	is := func(room, id, rest string) string {
		return `membership.changed about ` + id + ` {"room":"` + room + `","user":{"id":"` + id + `"},"role":` + rest + `}`
	}
	const hall = `"name":"hall","kind":"public","title":"The \"hall\"","data":{"n":1},"createdBy":"ada","createdAt":"2026-05-04T03:02:01Z"`
	for _, step := range []struct {
		name string
		do   func() error
		want []string
	}{
		{"made", func() error {
			_, err := w.Chat.CreateRoom(ctx, as(ada), "hall", chat.Details{Kind: &public, Title: &title, Data: &data})
			return err
		}, []string{`room.created about room:hall {"room":{` + hall + `},"by":"ada"}`, is("hall", "ada", `"owner","by":"ada"`)}},
		{"joined", func() error { _, err := w.Chat.Join(ctx, grace, "hall"); return err }, []string{is("hall", "grace", `"member","by":"grace"`)}},
		{"joined again", func() error { _, err := w.Chat.Join(ctx, grace, "hall"); return err }, nil},
		{"changed", func() error {
			_, err := w.Chat.UpdateRoom(ctx, as(ada), "hall", chat.Details{Retention: &retention})
			return err
		}, []string{`room.changed about room:hall {"room":{` + hall + `,"retention":"720h"},"by":"ada"}`}},
		{"changed to what it is", func() error {
			_, err := w.Chat.UpdateRoom(ctx, as(ada), "hall", chat.Details{Title: &title})
			return err
		}, nil},
		{"given a role", func() error { _, err := w.Chat.SetRole(ctx, as(ada), "hall", "grace", chat.Moderator); return err },
			[]string{is("hall", "grace", `"moderator","by":"ada"`)}},
		{"removed", func() error { return w.Chat.RemoveMember(ctx, as(ada), "hall", "grace", "go <away>") },
			[]string{is("hall", "grace", `null,"by":"ada","reason":"go \u003caway\u003e"`)}},
		{"removed again", func() error { return w.Chat.RemoveMember(ctx, as(ada), "hall", "grace", "") }, nil},
		{"invited by an operator", func() error { _, err := w.Chat.SetRole(ctx, operator, "hall", "grace", chat.Reader); return err },
			[]string{is("hall", "grace", `"reader","by":"system"`)}},
		{"banned", func() error {
			_, err := w.Chat.Restrict(ctx, chat.Actor{Any: true}, chat.Restriction{Room: "hall", UserID: "grace", Kind: chat.Ban, By: "ada", Reason: "enough"})
			return err
		}, []string{is("hall", "grace", `null,"by":"ada","reason":"enough"`)}},
		{"banned again", func() error {
			_, err := w.Chat.Restrict(ctx, chat.Actor{Any: true}, chat.Restriction{Room: "hall", UserID: "grace", Kind: chat.Ban, By: "ada"})
			return err
		}, nil},
		{"muted", func() error {
			_, err := w.Chat.Restrict(ctx, chat.Actor{Any: true}, chat.Restriction{Room: "hall", UserID: "grace", Kind: chat.Mute, By: "ada"})
			return err
		}, nil},
		{"came into being by joining", func() error { _, err := w.Chat.Join(ctx, grace, "tea"); return err }, []string{
			`room.created about room:tea {"room":{"name":"tea","kind":"public","createdBy":"grace","createdAt":"2026-05-04T03:02:01Z"},"by":"grace"}`,
			is("tea", "grace", `"member","by":"grace"`),
		}},
		{"left", func() error { return w.Chat.Quit(ctx, grace, "tea") }, []string{is("tea", "grace", `null,"by":"grace"`)}},
		{"came back", func() error { _, err := w.Chat.Join(ctx, grace, "tea"); return err }, []string{is("tea", "grace", `"member","by":"grace"`)}},
		{"taken out by the application", func() error { return w.Remove(ctx, "tea", "grace") }, []string{is("tea", "grace", `null`)}},
		{"refused", func() error {
			_, err := w.Chat.CreateRoom(ctx, as(grace), "hall", chat.Details{})
			assert.ErrorIs(t, err, chat.ErrRoomTaken)
			assert.ErrorIs(t, w.Chat.Quit(ctx, ada, "hall"), chat.ErrLastOwner)
			return nil
		}, nil},
		{"deleted", func() error { return w.Chat.DeleteRoom(ctx, as(ada), "hall") }, []string{`room.deleted about room:hall, forgets {"room":{"name":"hall"},"by":"ada"}`}},
	} {
		require.NoError(t, step.do(), step.name)
		assert.Equal(t, step.want, w.told(t), step.name)
	}
}

func TestADirectRoomIsTold(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newTeller(t, "room.created", "membership.*")
	require.NoError(t, w.ports.Users.Create(ctx, user.User{ID: "grace", FullName: "Grace", Email: "grace@example.com", VerifiedAt: w.now}))
	ada := chat.Author{ID: "ada", Name: "Ada"}
	r, made, err := w.Chat.Direct(ctx, ada, "grace")
	require.NoError(t, err)
	require.True(t, made)
	facts := w.told(t)
	require.Len(t, facts, 3)
	assert.Contains(t, facts[0], `"kind":"direct","data":{"users":["ada","grace"]},"createdBy":"ada"`)
	assert.Contains(t, facts[1], `"user":{"id":"ada"},"role":"member","by":"ada"`)
	assert.Contains(t, facts[2], `"user":{"id":"grace"},"role":"member","by":"ada"`)
	require.NoError(t, w.Chat.Quit(ctx, ada, r.Name))
	_, made, err = w.Chat.Direct(ctx, ada, "grace")
	require.NoError(t, err)
	require.False(t, made)
	facts = w.told(t)
	require.Len(t, facts, 2)
	assert.Contains(t, facts[0], `"role":null,"by":"ada"`)
	assert.Contains(t, facts[1], `"role":"member","by":"ada"`)
}

func TestWhatIsNotChosenOfRoomsIsNotStored(t *testing.T) {
	t.Parallel()
	ctx, ada := t.Context(), chat.Author{ID: "ada", Name: "Ada"}
	for _, test := range []struct {
		chosen []string
		want   []string // a part of each fact
	}{
		{nil, nil},
		{[]string{"message.*", "user.*", "session.*"}, nil},
		{[]string{"membership.changed"}, []string{`membership.changed about ada {`, `room.deleted about room:hall, forgets`}}, // what waits about a room is forgotten always
		{[]string{"room.created"}, []string{`room.created about room:hall {`, `room.deleted about room:hall, forgets`}},
		{[]string{"room.changed"}, []string{`room.changed about room:hall {`, `room.deleted about room:hall, forgets`}},
		{[]string{"room.deleted"}, []string{`room.deleted about room:hall, forgets {`}},
	} {
		w := newTeller(t, test.chosen...)
		_, err := w.Chat.CreateRoom(ctx, chat.Actor{Author: ada}, "hall", chat.Details{})
		require.NoError(t, err)
		title := "The hall"
		_, err = w.Chat.UpdateRoom(ctx, chat.Actor{Author: ada}, "hall", chat.Details{Title: &title})
		require.NoError(t, err)
		require.NoError(t, w.Chat.DeleteRoom(ctx, chat.Actor{Author: ada}, "hall"))
		facts := w.told(t)
		require.Len(t, facts, len(test.want), "%v: %v", test.chosen, facts)
		for i, want := range test.want {
			assert.True(t, strings.HasPrefix(facts[i], want), "%v: %s", test.chosen, facts[i])
			if strings.HasSuffix(want, "forgets") {
				assert.Equal(t, want, facts[i])
			}
		}
	}
}

func TestRoomsOfAStoreThatRecordsNothingCannotBeTold(t *testing.T) {
	t.Parallel()
	selection, err := webhook.Select("room.created")
	require.NoError(t, err)
	ports := memory.NewPorts()
	for name, change := range map[string]func(p *parley.Ports){
		"rooms":   func(p *parley.Ports) { p.Rooms = struct{ chat.Rooms }{p.Rooms} },
		"members": func(p *parley.Ports) { p.Members = struct{ chat.Members }{p.Members} },
		"roles":   func(p *parley.Ports) { p.Roles = struct{ chat.Roles }{p.Roles} },
	} {
		p := ports
		change(&p)
		_, err := parley.NewNode(parley.Config{Ports: p, Authenticator: parley.Authenticate(nil), Webhooks: selection})
		require.ErrorIs(t, err, chat.ErrRecordsNoRooms)
		assert.ErrorContains(t, err, name)
	}
	ports.Outbox, ports.Publisher = nil, nil
	_, err = parley.NewNode(parley.Config{
		Ports: ports, Authenticator: parley.Authenticate(nil), Webhooks: selection,
		Chat: chat.Config{RecordRooms: func(chat.Cause) chat.RoomRecord { return chat.RoomRecord{} }},
	})
	for _, want := range []string{"Outbox", "Publisher", "Chat.RecordRooms"} {
		assert.ErrorContains(t, err, want)
	}
}
