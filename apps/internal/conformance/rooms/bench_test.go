package rooms_test

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/adapters/mongostore"
	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/apps/internal/conformance/mailserver"
	"github.com/parley-chat/parley/apps/internal/conformance/stack"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/user"
)

// atURL opens the store of a running program.
func atURL(b *testing.B, at string) parley.Ports {
	b.Helper()
	scheme, rest, _ := strings.Cut(at, ":")
	var s interface {
		Ports() parley.Ports
		Close() error
	}
	var err error
	switch scheme {
	case "sqlite":
		s, err = bunstore.OpenSQLite(b.Context(), filepath.Clean(rest), bunstore.SQLiteConfig{})
	case "postgres":
		s, err = bunstore.OpenPostgres(b.Context(), at, bunstore.Config{})
	case "mysql":
		s, err = bunstore.OpenMySQL(b.Context(), at, bunstore.Config{})
	default:
		s, err = mongostore.Open(b.Context(), at, mongostore.Config{})
	}
	require.NoError(b, err)
	b.Cleanup(func() { assert.NoError(b, s.Close()) })
	return s.Ports()
}

// BenchmarkMine lists the rooms of somebody who has a thousand, the last active hundred and, page by page, all of them, by the store and over REST. Each room has 20
// messages, some of them deleted and some unread.
func BenchmarkMine(b *testing.B) {
	for _, db := range databases {
		if db.name == "FerretDB" {
			continue // it goes through a whole collection for every query
		}
		b.Run(db.name, func(b *testing.B) {
			k := db.start(b)
			p := &program{mails: mailserver.Start(b)}
			p.Program = stack.Run(b, config.Parley, "PARLEY_STORE="+k.url, "PARLEY_MAIL_SENDER="+p.mails.URL(), "PARLEY_SOCKET_RATE=-1", "PARLEY_LOG_LEVEL=warn")
			ada := p.member(b, "Ada", "ada@example.com")
			ports := atURL(b, k.url)
			belongTo(b, ports, user.ID(ada.id), 1000)
			if k.seen != nil {
				k.seen(b) // as it is a minute later
			}
			report := func(b *testing.B, page func() int) {
				var each []time.Duration
				for b.Loop() {
					began := time.Now()
					if n := page(); n != 100 {
						b.Fatalf("%d rooms", n)
					}
					each = append(each, time.Since(began))
				}
				slices.Sort(each)
				b.ReportMetric(float64(each[len(each)/2].Microseconds())/1000, "ms-median")
				b.ReportMetric(float64(each[len(each)*99/100].Microseconds())/1000, "ms-p99")
			}
			b.Run("store", func(b *testing.B) {
				report(b, func() int {
					rooms, err := ports.Marks.Mine(b.Context(), user.ID(ada.id), chat.Place{}, 100)
					require.NoError(b, err)
					return len(rooms)
				})
			})
			b.Run("REST", func(b *testing.B) {
				report(b, func() int {
					var page struct{ Rooms []struct{ Room string } }
					p.call(b, http.MethodGet, "/rooms/mine?limit=100", ada.token, nil, &page)
					return len(page.Rooms)
				})
			})
			b.Run("REST, ten pages", func(b *testing.B) {
				report(b, func() int {
					seen := map[string]bool{}
					for cursor := ""; ; {
						var page struct {
							Rooms []struct{ Room string }
							Next  string
						}
						p.call(b, http.MethodGet, "/rooms/mine?limit=100"+cursor, ada.token, nil, &page)
						for _, r := range page.Rooms {
							seen[r.Room] = true
						}
						if page.Next == "" {
							return len(seen) / 10
						}
						cursor = "&cursor=" + page.Next
					}
				})
			})
		})
	}
}

// belongTo makes a user, and another one, members of rooms with messages of the other one.
func belongTo(b *testing.B, p parley.Ports, id user.ID, rooms int) {
	b.Helper()
	ctx := context.WithoutCancel(b.Context())
	now := time.Now().UTC().Truncate(time.Microsecond)
	var memberships []chat.Membership
	var marks []chat.Mark
	var gone []chat.Change
	name := func(i int) string { return fmt.Sprintf("room-%04d", i) }
	for i := range rooms {
		_, err := p.Rooms.Ensure(ctx, chat.Room{Name: name(i), CreatedBy: "other", CreatedAt: now})
		require.NoError(b, err)
		memberships = append(memberships, chat.Membership{Room: name(i), UserID: id, Since: now}, chat.Membership{Room: name(i), UserID: "other", Since: now})
		marks = append(marks, chat.Mark{Room: name(i), User: chat.Author{ID: id}, Read: uint64(i % 20)})
		for seq := range i % 5 {
			gone = append(gone, chat.Change{Kind: chat.Delete, Room: name(i), Seq: uint64(seq*3 + 1), Any: true, At: now})
		}
	}
	for all := range slices.Chunk(memberships, 500) {
		_, err := p.Members.Add(ctx, all...)
		require.NoError(b, err)
	}
	for n := range 20 {
		for from := 0; from < rooms; from += 250 {
			batch := make([]chat.Message, min(250, rooms-from))
			for i := range batch {
				batch[i] = chat.Message{
					Room: name(from + i), ID: fmt.Sprintf("01JPARLEY%08d%09d", n, from+i), Author: chat.Author{ID: "other", Name: "Other"}, Text: strings.Repeat("x", 128),
					At: now.Add(time.Duration(n*rooms+(from+i)*7919%rooms) * time.Millisecond),
				}
			}
			_, err := p.Messages.Append(ctx, batch)
			require.NoError(b, err)
		}
	}
	for all := range slices.Chunk(marks, 250) {
		_, err := p.Marks.Mark(ctx, all)
		require.NoError(b, err)
	}
	for all := range slices.Chunk(gone, 250) {
		_, err := p.Messages.Change(ctx, all)
		require.NoError(b, err)
	}
}
