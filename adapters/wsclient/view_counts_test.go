package wsclient

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// model is a room of a server with all that it ever was, and a client that is told of it in any order that the guarantees of a Client leave open.
type model struct {
	*rand.Rand
	moments []moment
	view    *View

	joined   bool
	seq, rev uint64            // up to where the client has delivered
	shown    map[uint64]uint64 // the Rev with which a message was delivered
	marks    []uint64          // that were not delivered
	lists    []MyRoom          // that were read, and not loaded
	pages    []Page
}

// moment is what a room was.
type moment struct {
	messages []Message
	rev      uint64
	changes  []uint64 // the message of each change
	read     uint64
}

func (m *model) now() moment { return m.moments[len(m.moments)-1] }

// lately is one of the last few moments.
func (m *model) lately() moment {
	n := len(m.moments)
	return m.moments[n-1-m.IntN(min(n, 6))]
}

func (o moment) unread() (n uint64) {
	for _, k := range o.messages {
		if k.Seq > o.read && k.DeletedAt.IsZero() {
			n++
		}
	}
	return n
}

func (o moment) list() MyRoom {
	l := MyRoom{Room: "hall", Seq: uint64(len(o.messages)), Rev: o.rev, Read: o.read, Unread: o.unread()}
	if l.Seq > 0 {
		l.Last = o.messages[l.Seq-1]
	}
	return l
}

// happens changes the room.
func (m *model) happens() {
	next := m.now()
	next.messages, next.changes = slices.Clone(next.messages), slices.Clone(next.changes)
	n := uint64(len(next.messages))
	switch what := m.IntN(20); {
	case n == 0 || what < 8:
		who := "bob"
		if m.IntN(12) == 0 {
			who, next.read = "ada", n+1
		}
		next.messages = append(next.messages, Message{Room: "hall", Seq: n + 1, ID: fmt.Sprint(n + 1), User: User{ID: who}, Text: "text"})
	case what < 17:
		at := n - 1 - m.Uint64N(min(n, 12))
		k := &next.messages[at]
		if !k.DeletedAt.IsZero() {
			return
		}
		next.rev++
		k.Rev, k.EditedAt = next.rev, time.Unix(int64(next.rev), 0)
		if what > 9 {
			k.Text, k.EditedAt, k.DeletedAt = "", time.Time{}, time.Unix(int64(next.rev), 0)
		}
		next.changes = append(next.changes, k.Seq)
	default:
		next.read += m.Uint64N(min(n-next.read, 6) + 1)
		if next.read > m.now().read {
			m.marks = append(m.marks, next.read)
		}
	}
	m.moments = append(m.moments, next)
}

// told delivers the next event of the client, and reports whether there was one.
func (m *model) told() bool {
	now := m.now()
	changes, messages := m.rev < now.rev, m.seq < uint64(len(now.messages))
	if changes {
		seq := now.changes[m.rev]
		changes = seq <= m.seq || m.rev < m.shown[seq]
	}
	switch {
	case changes && (!messages || m.IntN(2) == 0):
		m.rev++
		k := now.messages[now.changes[m.rev-1]-1]
		if m.shown[k.Seq] >= m.rev {
			return true
		}
		if k.Rev > m.rev { // it was changed again: live each change is told, behind a lost connection the last one
			if m.IntN(2) == 0 {
				return true
			}
			for _, o := range m.moments {
				if o.rev == m.rev {
					k = o.messages[k.Seq-1]
				}
			}
		}
		m.view.Take(Event{Kind: EventChanged, Room: "hall", Message: k})
	case messages:
		m.seq++
		var of []moment
		for _, o := range m.moments {
			if uint64(len(o.messages)) >= m.seq && o.rev >= m.rev {
				of = append(of, o)
			}
		}
		k := of[m.IntN(len(of))].messages[m.seq-1]
		m.shown[k.Seq] = k.Rev
		m.view.Take(Event{Kind: EventMessage, Room: "hall", Message: k})
	default:
		return false
	}
	return true
}

func (m *model) join() {
	o := m.now()
	m.joined, m.shown = true, map[uint64]uint64{}
	m.seq = uint64(len(o.messages)) - min(uint64(len(o.messages)), 10)
	m.rev = o.rev
	for seq := range o.messages {
		m.shown[uint64(seq+1)] = o.rev
	}
	m.view.joined("hall", Joined{Seq: uint64(len(o.messages)), Rev: o.rev, Read: o.read, Recovered: true}, false)
	for m.seq < uint64(len(o.messages)) { // with the answer
		m.seq++
		m.view.Take(Event{Kind: EventMessage, Room: "hall", Message: o.messages[m.seq-1]})
	}
}

func (m *model) step() {
	switch m.IntN(12) {
	case 0, 1, 2, 3:
		m.happens()
	case 4, 5, 6:
		if m.joined {
			m.told()
		}
	case 7:
		m.lists = append(m.lists, m.lately().list())
	case 8:
		if m.joined { // a page is read after joining
			now := m.now().messages
			if n := len(now); n > 0 {
				to := 1 + m.IntN(n)
				m.pages = append(m.pages, Page{Messages: now[max(0, to-1-m.IntN(20)):to]})
			}
		}
	case 9:
		if i := len(m.lists); i > 0 {
			at := m.IntN(i)
			m.load(m.lists[at])
			m.lists = slices.Delete(m.lists, at, at+1)
		}
	case 10:
		if i := len(m.pages); i > 0 {
			at := m.IntN(i)
			m.view.Add("hall", m.pages[at])
			m.pages = slices.Delete(m.pages, at, at+1)
		}
	case 11:
		if i := len(m.marks); i > 0 && m.joined {
			at := m.IntN(i)
			m.view.Take(Event{Kind: EventMarked, Room: "hall", User: User{ID: "ada"}, Read: m.marks[at]})
			m.marks = slices.Delete(m.marks, at, at+1)
		}
	}
}

func (m *model) load(l MyRoom) {
	_ = m.view.Load(func(yield func(MyRoom, error) bool) { yield(l, nil) })
}

// settled delivers all that is under way.
func (m *model) settled() {
	for m.told() {
	}
	for _, read := range m.marks {
		m.view.Take(Event{Kind: EventMarked, Room: "hall", User: User{ID: "ada"}, Read: read})
	}
	m.marks = nil
}

// TestViewCountsWhatTheServerCounts tells views of rooms in many orders. What a view has counted is what the server counts once all was told, and a list
// that comes late does not take it away.
func TestViewCountsWhatTheServerCounts(t *testing.T) {
	t.Parallel()
	counted, settled := 0, 0
	for seed := range uint64(4000) {
		m := &model{Rand: rand.New(rand.NewPCG(seed, 1)), moments: []moment{{}}}
		var err error
		m.view, err = NewView(ViewConfig{User: "ada", Keep: 1 + m.IntN(12)})
		require.NoError(t, err)
		for range m.IntN(40) {
			m.happens()
		}
		for range m.IntN(4) {
			m.step()
		}
		m.join()
		for range 120 {
			m.step()
			if m.IntN(25) > 0 {
				continue
			}
			m.settled()
			room, _ := m.view.Room("hall")
			settled++
			if room.Counted {
				counted++
				require.Equal(t, m.now().unread(), room.Unread, "seed %d", seed)
				for _, late := range m.lists {
					m.load(late)
				}
				m.lists = nil
				room, _ = m.view.Room("hall")
				require.True(t, room.Counted, "seed %d: a list that came late took the count away", seed)
				require.Equal(t, m.now().unread(), room.Unread, "seed %d", seed)
			}
			m.load(m.now().list())
			room, _ = m.view.Room("hall")
			require.True(t, room.Counted, "seed %d: what the server has counted just now", seed)
			require.Equal(t, m.now().unread(), room.Unread, "seed %d", seed)
		}
	}
	t.Logf("%d of %d counted", counted, settled)
	require.Greater(t, counted, settled*9/10)
}
