package filemail_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/filemail"
	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
)

func TestContract(t *testing.T) {
	contract.Run(t, contract.MailSender(), func(t *testing.T) contract.Outgoing {
		folder := t.TempDir()
		at := folder
		b, err := filemail.Open(filemail.Config{Folder: folder})
		require.NoError(t, err)
		return contract.Outgoing{Sender: b, Arrived: func(context.Context) (all []mail.Message, err error) {
			kept, err := filemail.Open(filemail.Config{Folder: at}) // as after a restart
			if err != nil {
				return nil, err
			}
			for _, m := range kept.All() {
				all = append(all, mail.Message{
					ID: m.ID, FromName: m.FromName, From: m.From, ToName: m.ToName, To: m.To, Subject: m.Subject, Text: m.Text, HTML: m.HTML,
				})
			}
			return all, nil
		}, Fill: func(context.Context) (func(context.Context) error, error) {
			// A file in the place of the folder takes no mails either, and needs no disk of its own: see full_linux_test.go.
			at = folder + ".aside"
			err := errors.Join(os.Rename(folder, at), os.WriteFile(folder, nil, 0o600))
			return func(context.Context) error {
				aside := at
				at = folder
				return errors.Join(os.Remove(folder), os.Rename(aside, folder))
			}, err
		}}
	})
}

func send(t *testing.T, b *filemail.Mailbox, id string) {
	t.Helper()
	require.NoError(t, b.Send(t.Context(), mail.Message{ID: id, To: "ada@example.com", Subject: "s" + id, Text: "t", HTML: "<p>h</p>"}))
}

func ids(b *filemail.Mailbox) (all []string) {
	for _, m := range b.All() {
		all = append(all, m.ID)
	}
	return all
}

func TestMailsSurviveARestart(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "deep", "mail")
	b, err := filemail.Open(filemail.Config{Folder: folder})
	require.NoError(t, err)
	for _, id := range []string{"a", "b", "a"} {
		send(t, b, id)
	}
	assert.Equal(t, []string{"a", "b", "a"}, ids(b))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "0000.json.part"), []byte(`{"id":"half`), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "notes.txt"), []byte("mine"), 0o600))
	again, err := filemail.Open(filemail.Config{Folder: folder})
	require.NoError(t, err)
	assert.Equal(t, b.All(), again.All())
	assert.FileExists(t, filepath.Join(folder, "notes.txt"))
	assert.NoFileExists(t, filepath.Join(folder, "0000.json.part"))
}

func TestMoreTellsOfTheNextMail(t *testing.T) {
	b, err := filemail.Open(filemail.Config{Folder: t.TempDir()})
	require.NoError(t, err)
	first := b.More()
	assert.Equal(t, first, b.More(), "for all who wait")
	select {
	case <-first:
		t.Fatal("no mail has come")
	default:
	}
	send(t, b, "a")
	<-first
	second := b.More()
	select {
	case <-second:
		t.Fatal("no second mail has come")
	default:
	}
	send(t, b, "b")
	<-second
}

func TestTheOldestMakeRoom(t *testing.T) {
	folder := t.TempDir()
	b, err := filemail.Open(filemail.Config{Folder: folder, Keep: 3})
	require.NoError(t, err)
	for i := range 5 {
		send(t, b, fmt.Sprint(i))
	}
	assert.Equal(t, []string{"4", "3", "2"}, ids(b))
	files, err := os.ReadDir(folder)
	require.NoError(t, err)
	assert.Len(t, files, 3)
}

func TestFailures(t *testing.T) {
	_, err := filemail.Open(filemail.Config{})
	assert.ErrorContains(t, err, "Folder")
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = filemail.Open(filemail.Config{Folder: filepath.Join(file, "mail")})
	assert.Error(t, err)

	folder := filepath.Join(t.TempDir(), "mail")
	b, err := filemail.Open(filemail.Config{Folder: folder})
	require.NoError(t, err)
	done, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorIs(t, b.Send(done, mail.Message{ID: "x"}), fault.Unavailable)
	require.NoError(t, os.RemoveAll(folder))
	require.NoError(t, os.WriteFile(folder, nil, 0o600))
	err = b.Send(t.Context(), mail.Message{ID: "x"})
	assert.ErrorIs(t, err, fault.Unavailable, "a failure is temporary: the mail is tried again")
	assert.ErrorIs(t, err, mail.ErrUntried, "and was none of the attempts")
	assert.Empty(t, b.All())
	require.NoError(t, os.Remove(folder))
	send(t, b, "y") // a folder that somebody removed is made again
}
