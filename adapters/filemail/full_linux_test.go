package filemail_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/filemail"
	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/mail"
)

// small mounts a file system of 256 KiB, and returns a folder in it.
func small(t *testing.T) string {
	t.Helper()
	at := t.TempDir()
	if err := syscall.Mount("tmpfs", at, "tmpfs", 0, "size=256k"); err != nil {
		if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
			t.Skipf("a file system can be mounted by root alone: %v", err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { assert.NoError(t, syscall.Unmount(at, 0)) })
	return at
}

// fill leaves no room, until it is called again.
func fill(t *testing.T, at string) (free func()) {
	t.Helper()
	file := filepath.Join(at, "filler")
	f, err := os.Create(file)
	require.NoError(t, err)
	block := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(block)
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NoError(t, f.Close())
	return func() { require.NoError(t, os.Remove(file)) }
}

func TestAFullDiskIsNoAttempt(t *testing.T) {
	at := small(t)
	b, err := filemail.Open(filemail.Config{Folder: filepath.Join(at, "mail")})
	require.NoError(t, err)
	send(t, b, "before")
	free := fill(t, at)
	err = b.Send(t.Context(), mail.Message{ID: "during", To: "ada@example.com", Text: string(make([]byte, 9000))})
	require.ErrorIs(t, err, mail.ErrUntried)
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.Error(t, b.Check(t.Context()))
	free()
	require.NoError(t, b.Check(t.Context()))
	send(t, b, "after")
	assert.Equal(t, []string{"after", "before"}, ids(b))
	entries, err := os.ReadDir(filepath.Join(at, "mail"))
	require.NoError(t, err)
	assert.Len(t, entries, 2, "nothing is left behind: %v", entries)
}

// What was accepted while the disk is full goes out when there is room again.
func TestMailsWaitForRoom(t *testing.T) {
	at := small(t)
	b, err := filemail.Open(filemail.Config{Folder: filepath.Join(at, "mail")})
	require.NoError(t, err)
	free := fill(t, at)
	templates, err := mail.NewTemplates(mail.TemplateConfig{PublicURL: "https://chat.example.com"})
	require.NoError(t, err)
	tried := make(chan error, 1000)
	q := memory.NewMailQueue()
	w, err := mail.NewWorker(mail.WorkerConfig{Queue: q, Sender: told{b, tried}, Templates: templates, Backoff: time.Millisecond, MaxBackoff: time.Millisecond, Poll: time.Millisecond})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	defer func() { cancel(); require.NoError(t, <-ended) }()
	now := time.Now().UTC()
	require.NoError(t, q.Enqueue(ctx, mail.Job{
		ID: "a", Key: "a", Kind: mail.KindAddressTaken, To: "ada@example.com", Data: []byte(`{"userId":"u","fullName":"Ada","email":"ada@example.com"}`), RunAt: now, CreatedAt: now,
	}))
	for range 5 {
		require.ErrorIs(t, <-tried, mail.ErrUntried)
	}
	free()
	for err := range tried {
		if err == nil {
			break
		}
	}
	assert.Len(t, b.All(), 1)
}

// told is a sender that tells what came of each mail. It does not say whether it would take one, so that
// every mail is tried.
type told struct {
	mail.Sender
	tried chan error
}

func (told) Check(context.Context) error { return nil }

func (s told) Send(ctx context.Context, m mail.Message) error {
	err := s.Sender.Send(ctx, m)
	s.tried <- err
	return err
}
