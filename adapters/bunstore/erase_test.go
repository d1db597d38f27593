package bunstore_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

// Nothing that a user was called, wrote or was mailed is in the file or its log a while after they were erased, while the store is open and
// others talk on.
func TestAnErasedUserIsNotAtRest(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped by -short: hundreds of commits, each synced to the disk")
	}
	t.Parallel()
	file := newFile(t)
	s, err := bunstore.OpenSQLite(t.Context(), file, bunstore.SQLiteConfig{ScrubAfter: time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	for round := range 4 {
		ctx := t.Context()
		erased := user.User{
			ID: user.ID(fmt.Sprintf("erased-%d", round)), FullName: canary + "name", Email: user.Email(canary + "mail@example.com"), PasswordHash: canary + "hash",
			CreatedAt: noon, VerifiedAt: noon, PasswordChangedAt: noon,
		}
		for i := range 40 {
			id := fmt.Sprintf("%d-%d", round, i)
			require.NoError(t, s.Users().Create(ctx, person(id)))
			if i == 20 {
				require.NoError(t, s.Users().Create(ctx, erased))
				require.NoError(t, s.SignUps().Create(ctx, auth.WaitingSignUp{
					ID: "sign-up" + id, UserID: erased.ID, FullName: erased.FullName, Email: erased.Email, PasswordHash: erased.PasswordHash, Network: canary + "network", CreatedAt: noon, ExpiresAt: noon,
				}, 5, event.Event{ID: "asked" + id, Topic: "mail", Key: string(erased.ID), Time: noon, Data: []byte(`{"email":"` + string(erased.Email) + `"}`)}))
			}
			if i%3 == 0 {
				require.NoError(t, s.Sessions().Create(ctx, auth.Session{ID: "session" + id, UserID: erased.ID, FamilyHash: canary + id, TokenHash: canary + id, CreatedAt: noon, RotatedAt: noon, ExpiresAt: noon}))
				require.NoError(t, s.Codes().Put(ctx, auth.Code{Hash: canary + "code" + id, UserID: erased.ID, CreatedAt: noon, ExpiresAt: noon}))
				require.NoError(t, s.MailQueue().Enqueue(ctx, mail.Job{ID: id, Key: id, To: erased.Email, Name: erased.FullName, Data: []byte(canary), RunAt: noon}))
			}
			m := message(fmt.Sprint("room", i%3), round*1000+i)
			if i%2 == 0 {
				m.Author = chat.Author{ID: erased.ID, Name: erased.FullName}
				m.Text, m.Data, m.ClientID = canary+m.Text, `{"data":"`+canary+`"}`, canary+id
			}
			_, err := s.Messages().Append(ctx, []chat.Message{m})
			require.NoError(t, err)
		}
		require.Positive(t, atRest(t, file), "it is there")
		_, err := s.Users().Update(ctx, erased.ID, func(u *user.User) error { *u = u.Erase(noon); return nil })
		require.NoError(t, err)
		for name, removed := range map[string]func() (int, error){
			"sessions": func() (int, error) { return s.Sessions().DeleteOf(ctx, erased.ID) },
			"codes":    func() (int, error) { return s.Codes().DeleteOf(ctx, erased.ID) },
			"sign-ups": func() (int, error) { return s.SignUps().DeleteOf(ctx, erased.ID) },
			"mails":    func() (int, error) { return s.MailQueue().DeleteTo(ctx, erased.Email) },
		} {
			n, err := removed()
			require.NoError(t, err, name)
			require.Positive(t, n, name)
		}
		pending, err := s.Outbox().Pending(ctx, 100)
		require.NoError(t, err)
		for _, e := range pending {
			require.NoError(t, s.Outbox().Published(ctx, e.ID))
		}
		for room := range 3 {
			name := fmt.Sprint("room", room)
			all, err := s.Messages().List(ctx, name, chat.Range{Limit: 1000})
			require.NoError(t, err)
			var changes []chat.Change
			for _, m := range all {
				if m.Author.ID == erased.ID {
					changes = append(changes, chat.Change{Kind: chat.Erase, Room: name, Seq: m.Seq, By: chat.Author{ID: erased.ID}, At: noon})
				}
			}
			answers, err := s.Messages().Change(ctx, changes)
			require.NoError(t, err)
			for _, a := range answers {
				require.NoError(t, a.Err)
			}
		}
		assert.Eventually(t, func() bool { return atRest(t, file) == 0 }, 20*time.Second, 5*time.Millisecond, "round %d: %d are left", round, atRest(t, file))
	}
}

// An account that is emptied leaves nothing behind, also where it is all that is erased.
func TestAnEmptiedAccountIsNotAtRest(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	s, err := bunstore.OpenSQLite(t.Context(), file, bunstore.SQLiteConfig{ScrubAfter: time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	for i := range 60 { // rows move from page to page
		u := person(fmt.Sprint(i))
		u.FullName, u.Email = canary+u.FullName, user.Email(fmt.Sprintf("%s%d@example.com", canary, i*7%60))
		require.NoError(t, s.Users().Create(t.Context(), u))
	}
	require.Positive(t, atRest(t, file))
	for i := range 60 {
		_, err := s.Users().Update(t.Context(), user.ID(fmt.Sprint(i)), func(u *user.User) error { *u = u.Erase(noon); return nil })
		require.NoError(t, err)
	}
	assert.Eventually(t, func() bool { return atRest(t, file) == 0 }, 20*time.Second, 5*time.Millisecond)
}
