package mongostore_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/parley-chat/parley/adapters/mongostore"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

// A store of before users had settings and rooms had events, with something in each collection, has every document as it was after the upgrade, and goes on; so does a program of
// then beside, whose writes are those of this one where nobody is told of rooms, and nobody has settings.
func TestUpgradeLosesNothing(t *testing.T) {
	t.Parallel()
	then := []string{"users", "sign_ups", "sessions", "codes", "nonces", "rooms", "members", "restrictions", "blocks", "messages", "changes", "outbox_aside", "clock", "mail_jobs", "webhook_jobs", "limits"}
	ctx := t.Context()
	url := empty(t)
	older := at(t, url)
	fill := func(s *mongostore.Store, room string) {
		t.Helper()
		id := user.ID("user-of-" + room)
		require.NoError(t, s.Users().Create(ctx, user.User{ID: id, FullName: "Ada", Email: user.Email(room + "@example.com"), CreatedAt: noon}, event.Event{ID: "e-" + room, Topic: "t", Time: noon, Data: []byte("{}")}))
		require.NoError(t, s.Sessions().Create(ctx, auth.Session{ID: "s-" + room, UserID: id, CreatedAt: noon, ExpiresAt: noon.Add(time.Hour)}))
		require.NoError(t, s.Codes().Put(ctx, auth.Code{Hash: "h-" + room, UserID: id, CreatedAt: noon, ExpiresAt: noon.Add(time.Hour)}))
		require.NoError(t, s.SignUps().Create(ctx, auth.WaitingSignUp{ID: "w-" + room, UserID: "new", FullName: "Eve", Email: "eve@example.com", CreatedAt: noon, ExpiresAt: noon.Add(time.Hour)}, 5))
		_, err := s.Nonces().Spend(ctx, "n-"+room, noon)
		require.NoError(t, err)
		require.NoError(t, s.Outbox().SetAside(ctx, "e-"+room, "no reason"))
		require.NoError(t, s.Users().Create(ctx, user.User{ID: id + "2", FullName: "Bob", Email: user.Email("bob-" + room + "@example.com"), CreatedAt: noon}, event.Event{ID: "e2-" + room, Topic: "t", Time: noon, Data: []byte("{}")}))
		require.NoError(t, s.MailQueue().Enqueue(ctx, mail.Job{ID: "j-" + room, Key: room, RunAt: noon, CreatedAt: noon}))
		require.NoError(t, s.WebhookQueue().Enqueue(ctx, mail.Job{ID: "j-" + room, Key: room, RunAt: noon, CreatedAt: noon}))
		_, err = s.Roles().Create(ctx, chat.Room{Name: room, Kind: chat.Private, Title: "title", Topic: "topic", Data: "{}", Retention: time.Hour, CreatedBy: id, CreatedAt: noon},
			chat.Membership{Room: room, UserID: id, Since: noon, Role: chat.Owner}, chat.Membership{Room: room, UserID: "u1", Since: noon, Role: chat.Moderator})
		require.NoError(t, err)
		sent := messages(room, 0, 40)
		sent[5].ReplyTo, sent[6].Data = 1, `{"a":1}`
		_, err = s.Messages().Append(ctx, sent)
		require.NoError(t, err)
		assert.EqualValues(t, 4, change(t, s, edit(room, 1, "edited"), deletion(room, 2), react(room, 3, string(id), "+"), edit(room, 1, "edited again"))[3].Rev)
		marked, err := s.Members().Mark(ctx, []chat.Mark{{Room: room, User: chat.Author{ID: id}, Read: 30}})
		require.NoError(t, err)
		require.NoError(t, marked[0].Err)
		_, err = s.Restrictions().Put(ctx, chat.Restriction{Room: room, UserID: "troll", Kind: chat.Ban, By: id, Reason: "spam", At: noon}, nil)
		require.NoError(t, err)
		_, err = s.Blocks().Put(ctx, chat.Block{Pair: chat.Pair{By: id, Whom: "troll"}, At: noon}, 10)
		require.NoError(t, err)
		_, err = s.Limiter().Allow(ctx, "l-"+room, auth.Rate{Burst: 2, Per: time.Hour}, noon)
		require.NoError(t, err)
	}
	db := mongostore.Database(older)
	for _, name := range []string{"settings", "audit"} {
		require.NoError(t, db.Collection("parley_"+name).Drop(ctx))
	}
	require.NoError(t, db.Collection("parley_users").Indexes().DropOne(ctx, "role__id"))
	for _, name := range []string{"pending", "events_id", "events_position"} {
		require.NoError(t, db.Collection("parley_rooms").Indexes().DropOne(ctx, name))
		require.NoError(t, db.Collection("parley_members").Indexes().DropOne(ctx, name))
	}
	_, err := db.Collection("parley_schema").UpdateOne(ctx, bson.D{}, bson.D{{Key: "$set", Value: bson.D{{Key: "additions", Value: int64(7)}}}})
	require.NoError(t, err)
	fill(older, "before")
	all := func(s *mongostore.Store) map[string][]bson.M {
		found := map[string][]bson.M{}
		for _, name := range then {
			found[name] = documents(t, s, "parley_"+name)
		}
		return found
	}
	before := all(older)
	for name, docs := range before {
		assert.NotEmpty(t, docs, name)
	}

	s, err := mongostore.Open(ctx, url, mongostore.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	require.ErrorIs(t, s.Check(ctx), mongostore.ErrSchemaOld)
	require.NoError(t, s.Migrate(ctx))
	require.NoError(t, s.Check(ctx))
	assert.EqualValues(t, 2, documents(t, s, "parley_schema")[0]["version"], "the older program compares it, and goes on")
	assert.Equal(t, before, all(s))
	assert.Empty(t, documents(t, s, "parley_settings"))
	assert.Empty(t, documents(t, s, "parley_audit"))
	assert.Contains(t, indexes(t, s)["parley_audit"], "at")
	assert.Contains(t, indexes(t, s)["parley_users"], "role__id")
	assert.Subset(t, indexes(t, s)["parley_members"], []string{"pending", "events_id", "events_position"})
	assert.Subset(t, indexes(t, s)["parley_rooms"], []string{"pending", "events_id", "events_position"})
	require.NoError(t, s.Settings().Put(ctx, "user-of-before", chat.UserSettings{HidesRead: true}))
	fill(older, "beside")
	for name, docs := range before {
		if name == "clock" { // it runs, and forgets
			continue
		}
		assert.Subset(t, documents(t, s, "parley_"+name), docs, name)
	}
	for _, room := range []string{"before", "beside"} {
		got, err := s.Messages().Append(ctx, append(messages(room, 0, 40), message(room, 100)))
		require.NoError(t, err)
		assert.True(t, got[39].Repeated)
		assert.EqualValues(t, 41, got[40].Seq)
		mine, err := s.Members().Mine(ctx, user.ID("user-of-"+room), chat.Place{}, 5)
		require.NoError(t, err)
		require.Len(t, mine, 1)
		assert.Equal(t, []uint64{30, 11, 4}, []uint64{mine[0].Read, mine[0].Unread, mine[0].Rev})
	}
	r := recording(t, s)
	_, err = r.members.Add(ctx, chat.Membership{Room: "lobby", UserID: "eve", Since: noon})
	require.NoError(t, err)
	require.NoError(t, update(s, "before", func(r *chat.Room) { r.Title = "new" }))
	assert.Contains(t, pending(t, s), "eve member")

	// The older program goes on with what there is, whichever of the two has stored it.
	for _, room := range []string{"before", "beside"} {
		id := user.ID("user-of-" + room)
		for _, q := range []mail.Queue{older.MailQueue(), older.WebhookQueue()} {
			j, found, err := q.Claim(ctx, noon, time.Minute)
			require.NoError(t, err)
			require.True(t, found)
			require.Equal(t, "j-"+room, j.ID)
			require.NoError(t, q.Settle(ctx, j, mail.Outcome{State: mail.Sent, At: noon}))
		}
		_, err := older.Users().Update(ctx, id, func(u *user.User) error { u.VerifiedAt = noon; return nil })
		require.NoError(t, err)
		_, err = older.Sessions().Update(ctx, "s-"+room, func(x *auth.Session) error { x.RevokedAt = noon; return nil })
		require.NoError(t, err)
		_, err = older.Codes().Use(ctx, "h-"+room, noon)
		require.NoError(t, err)
		_, err = older.SignUps().Confirm(ctx, "w-"+room, noon)
		require.NoError(t, err)
		require.NoError(t, older.Outbox().Published(ctx, "e2-"+room))
		_, err = older.Limiter().Allow(ctx, "l-"+room, auth.Rate{Burst: 2, Per: time.Hour}, noon)
		require.NoError(t, err)
		wait, err := s.Limiter().Allow(ctx, "l-"+room, auth.Rate{Burst: 2, Per: time.Hour}, noon)
		require.NoError(t, err)
		assert.Positive(t, wait, "both have taken one")
		require.NoError(t, update(older, room, func(r *chat.Room) { r.Title = "another" }))
		require.NoError(t, older.Members().Remove(ctx, room, "u1"))
		require.NoError(t, older.Blocks().Remove(ctx, chat.Pair{By: id, Whom: "troll"}))
	}
}
