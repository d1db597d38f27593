package realtime_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
)

// toldOf reads messages of a room until the one with the sequence.
func (e *end) toldOf(room string, until uint64) (seqs []uint64) {
	e.t.Helper()
	for {
		var m wireMessage
		require.NoError(e.t, json.Unmarshal(e.until("message").Data, &m))
		if m.Room != room {
			continue
		}
		seqs = append(seqs, m.Seq)
		if m.Seq >= until {
			return seqs
		}
	}
}

func through(first, last uint64) (seqs []uint64) {
	for s := first; s <= last; s++ {
		seqs = append(seqs, s)
	}
	return seqs
}

// TestResume holds that a client that was away gets what it missed, once and in order, on another node, while others talk.
func TestResume(t *testing.T) {
	t.Parallel()
	b, fanout := newBacking(), memory.NewFanout()
	first, second := startOn(t, b, fanout.Node(), nil), startOn(t, b, fanout.Node(), nil)
	ada, bob := first.connect("ada"), first.connect("bob")
	for _, room := range []string{"attic", "hall"} {
		ada.join(room)
		bob.join(room)
	}
	bob.say("hall", "1")
	ada.gone()
	first.stop()

	bob = second.connect("bob")
	bob.join("hall")
	bob.join("attic")
	for range 250 { // more than two pages
		bob.say("hall", "missed")
	}
	bob.say("attic", "missed")

	back := second.connect("ada")
	send, err := second.Resume(t.Context(), back.in, []realtime.Place{{Room: "hall", Seq: 1}, {Room: "attic"}})
	require.NoError(t, err)
	assert.Empty(t, back.frames, "nothing is sent before its time")
	back.emit("message", map[string]any{"room": "attic", "text": "I am back"}) // it waits
	send()
	var last uint64
	for range 100 {
		last = bob.say("hall", "meanwhile").Seq
	}
	var hall, attic []uint64
	for len(hall) == 0 || hall[len(hall)-1] < last || len(attic) < 2 {
		var m wireMessage
		require.NoError(t, json.Unmarshal(back.until("message").Data, &m))
		if m.Room == "attic" {
			attic = append(attic, m.Seq)
		} else {
			hall = append(hall, m.Seq)
		}
	}
	assert.Equal(t, through(2, last), hall)
	assert.Equal(t, through(1, 2), attic)
	users, _, err := b.presence.List(t.Context(), time.Now(), "hall", 10)
	require.NoError(t, err)
	assert.Len(t, users, 2)
}

// rule is an Access that the test changes.
type rule struct{ refuse atomic.Value }

func (r *rule) May(_ context.Context, who chat.Author, what chat.Action, room string) error {
	if room == r.refuse.Load() && who.Name == "ada" && what == chat.ActionJoin {
		return chat.ErrNotAllowed
	}
	return nil
}

// TestResumeIsRefused holds what is checked again, and that whoever is refused joins as before.
func TestResumeIsRefused(t *testing.T) {
	t.Parallel()
	b := newBacking()
	access := &rule{}
	n := startWith(t, b, memory.NewFanout().Node(), chat.Config{Access: access}, func(c *realtime.HubConfig) { c.MaxRooms = 4 })
	other := start(t, nil)
	bob := n.connect("bob")
	for _, room := range []string{"hall", "attic", "cellar", "vault", "others"} {
		if room != "others" {
			ada := n.connect("ada")
			ada.join(room)
			ada.gone()
		}
		if room != "vault" {
			bob.join(room)
			bob.say(room, "1")
		}
	}
	require.NoError(t, n.Remove(t.Context(), "attic", "u-ada"))
	access.refuse.Store("cellar")
	at := func(seq uint64, rooms ...string) (places []realtime.Place) {
		for _, r := range rooms {
			places = append(places, realtime.Place{Room: r, Seq: seq})
		}
		return places
	}
	for name, c := range map[string]struct {
		places []realtime.Place
		want   error
	}{
		"removed":                        {at(1, "hall", "attic"), realtime.ErrNotResumed},
		"never a member":                 {at(1, "others"), realtime.ErrNotResumed},
		"access":                         {at(1, "hall", "cellar"), realtime.ErrNotResumed},
		"ahead of the room":              {at(1000, "hall"), realtime.ErrNotResumed},
		"a room that nobody has":         {at(0, "nowhere"), realtime.ErrNotResumed},
		"a room twice":                   {at(1, "hall", "hall"), realtime.ErrNotResumed},
		"a name that is none":            {at(1, ""), fault.Invalid},
		"more rooms than one may be in ": {at(1, "hall", "a", "b", "c", "d"), realtime.ErrTooManyRooms},
	} {
		t.Run(name, func(t *testing.T) {
			ada := n.connect("ada")
			_, err := n.Resume(t.Context(), ada.in, c.places)
			require.ErrorIs(t, err, c.want)
			bob.say("hall", "not for her")
			assert.Equal(t, "not_joined", ada.ask("message", map[string]any{"room": "hall", "text": "x"}).Error.Code)
			a := ada.join("hall")
			assert.NotEmpty(t, a.Messages)
			m := bob.say("hall", "for her")
			assert.Equal(t, []uint64{m.Seq}, ada.toldOf("hall", m.Seq))
			ada.gone()
		})
	}
	ada := n.connect("ada")
	ada.join("hall")
	_, err := n.Resume(t.Context(), ada.in, at(1, "hall"))
	require.ErrorIs(t, err, realtime.ErrNotResumed, "it is in a room")
	_, err = n.Resume(t.Context(), other.connect("ada").in, at(1, "hall"))
	require.ErrorIs(t, err, fault.Invalid, "it is another hub's")
	_, err = n.Resume(t.Context(), nil, at(1, "hall"))
	require.ErrorIs(t, err, fault.Invalid)
}

// TestResumeWithoutTheMessages holds that a client is not told that it has everything when it has not.
func TestResumeWithoutTheMessages(t *testing.T) {
	t.Parallel()
	b := newBacking()
	n := startOn(t, b, memory.NewFanout().Node(), nil)
	bob := n.connect("bob")
	bob.join("hall")
	ada := n.connect("ada")
	ada.join("hall")
	ada.gone()
	for range 20 {
		bob.say("hall", "x")
	}
	_, err := b.messages.Prune(t.Context(), "hall", 15)
	require.NoError(t, err)
	fresh := startOn(t, b, memory.NewFanout().Node(), nil) // whose cache is empty
	back := fresh.connect("ada")
	_, err = fresh.Resume(t.Context(), back.in, []realtime.Place{{Room: "hall", Seq: 3}})
	require.ErrorIs(t, err, realtime.ErrNotResumed)
	send, err := fresh.Resume(t.Context(), back.in, []realtime.Place{{Room: "hall", Seq: 15}})
	require.NoError(t, err)
	send()
	assert.Equal(t, through(16, 20), back.toldOf("hall", 20))
}

// TestResumeWaitsForTheReader holds that pages wait for a client that reads slowly, and that one that does not read is closed.
func TestResumeWaitsForTheReader(t *testing.T) {
	t.Parallel()
	b := newBacking()
	n := startOn(t, b, memory.NewFanout().Node(), func(c *realtime.HubConfig) {
		c.MaxQueued, c.CommandTimeout = 4096, 300*time.Millisecond
	})
	bob := n.connect("bob")
	bob.join("hall")
	ada := n.connect("ada")
	ada.join("hall")
	ada.gone()
	for range 40 {
		bob.say("hall", "x")
	}
	for name, reads := range map[string]bool{"reads": true, "does not read": false} {
		t.Run(name, func(t *testing.T) {
			back := n.connect("ada")
			back.queued.Store(4096) // the whole limit waits
			send, err := n.Resume(t.Context(), back.in, []realtime.Place{{Room: "hall"}})
			require.NoError(t, err)
			send()
			if reads {
				back.queued.Store(0)
				assert.Equal(t, through(1, 40), back.toldOf("hall", 40))
				return
			}
			back.closedWith(socket.CloseSlow)
			assert.Empty(t, back.frames)
		})
	}
}

// TestResumeOfWhoGoes holds that nothing is left of a client that goes, whenever it goes.
func TestResumeOfWhoGoes(t *testing.T) {
	t.Parallel()
	b := newBacking()
	n := startOn(t, b, memory.NewFanout().Node(), nil)
	bob := n.connect("bob")
	bob.join("hall")
	ada := n.connect("ada")
	ada.join("hall")
	ada.gone()
	for range 150 {
		bob.say("hall", "x")
	}
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			back := n.connect("ada")
			send, err := n.Resume(t.Context(), back.in, []realtime.Place{{Room: "hall", Seq: uint64(i)}})
			if !assert.NoError(t, err) {
				return
			}
			if i%3 == 0 {
				back.gone()
				send()
				return
			}
			send()
			if i%3 == 1 {
				<-back.frames
			}
			back.gone()
		})
	}
	wg.Wait()
	bob.gone()
	n.stop()
	assert.Zero(t, n.Connections())
	users, _, err := b.presence.List(context.Background(), time.Now(), "hall", 10)
	require.NoError(t, err)
	assert.Empty(t, users, fmt.Sprint(users))
}

// TestWhoIsRemovedWhileTheyResume holds that who is taken out of a room gets nothing more of it, also of what they have missed.
func TestWhoIsRemovedWhileTheyResume(t *testing.T) {
	t.Parallel()
	b := newBacking()
	n := startOn(t, b, memory.NewFanout().Node(), func(c *realtime.HubConfig) { c.MaxQueued = 4096 })
	bob := n.connect("bob")
	bob.join("hall")
	ada := n.connect("ada")
	ada.join("hall")
	ada.gone()
	for range 40 {
		bob.say("hall", "x")
	}
	back := n.connect("ada")
	back.queued.Store(3000) // pages wait for it
	send, err := n.Resume(t.Context(), back.in, []realtime.Place{{Room: "hall"}})
	require.NoError(t, err)
	send()
	n.takesOut(operator, "hall", "ada", "")
	back.heardOf("u-ada")
	back.queued.Store(0)
	back.id++
	back.in.Receive(fmt.Appendf(nil, `{"id":%d,"event":"history","data":{"room":"hall"}}`, back.id), false)
	answer := back.next() // which waits until all that was missed is sent
	assert.Equal(t, "error", answer.Event, string(answer.Data))
}
