package chat_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
)

// A rule with a mistake in it refuses nobody for good, lets nobody through, and does not end the process.
func TestARuleThatPanicsCannotTell(t *testing.T) {
	t.Parallel()
	var broken bool
	f := open(t, func(c *chat.Config, _ *store) {
		c.Access = rule(func(chat.Author, chat.Action, string) error {
			if broken {
				panic("a mistake")
			}
			return nil
		})
	})
	f.join(t, ada, "hall")
	f.send(t, "hall", "hello", "")
	broken = true
	for name, call := range map[string]func() error{
		"join": func() error { _, err := f.Join(t.Context(), bob, "hall"); return err },
		"send": func() error {
			_, err := f.Send(t.Context(), chat.Draft{Room: "hall", Author: ada, Text: "again"})
			return err
		},
		"change": func() error {
			_, err := f.Change(t.Context(), chat.Change{Kind: chat.Delete, Room: "hall", Seq: 1, By: ada})
			return err
		},
		"mark":    func() error { _, err := f.Mark(t.Context(), chat.Mark{Room: "hall", User: ada, Read: 1}); return err },
		"history": func() error { _, err := f.History(t.Context(), ada, "hall", chat.Range{}); return err },
		"member":  func() error { _, err := f.Member(t.Context(), bob, "hall"); return err },
		"rooms":   func() error { _, _, err := f.Rooms(t.Context(), bob, "", 0); return err },
		"mine":    func() error { _, _, err := f.MyRooms(t.Context(), ada, chat.Place{}, 0); return err },
		"may":     func() error { return f.May(t.Context(), ada, chat.ActionRead, "hall") },
	} {
		err := call()
		require.ErrorContains(t, err, "a mistake", name)
		assert.Equal(t, fault.Internal, fault.KindOf(err), name)
		assert.NotContains(t, fault.Public(err).Detail, "mistake", name)
	}
	broken = false
	f.join(t, bob, "hall")
	assert.EqualValues(t, 2, f.send(t, "hall", "again", "").Seq)
}
