package wsclient

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// follower is a client without a connection, which is in a room with 3 messages and 5 changes.
type follower struct {
	t *testing.T
	*Client
	room   *room
	events []string
}

func newFollower(t *testing.T) *follower {
	f := &follower{t: t, room: &room{name: "go", joined: true, last: 3, target: 3, revisions: revisions{told: true, rev: 5, revTarget: 5}}}
	f.Client = &Client{
		cfg: Config{Rate: -1, Handle: func(e Event) {
			f.events = append(f.events, fmt.Sprintf("%d: %d @%d", e.Kind, e.Message.Seq, e.Message.Rev))
		}},
		calls: map[uint64]*call{}, rooms: map[string]*room{"go": f.room},
	}
	return f
}

// tell lets the server send a message, or a change.
func (f *follower) tell(event string, seq, rev uint64) {
	encoded, err := json.Marshal(Message{Room: "go", Seq: seq, Rev: rev})
	require.NoError(f.t, err)
	require.NoError(f.t, f.take(&incoming{Event: event, Data: encoded}))
}

// asked returns the request for messages or for changes that has no answer, and behind what it asks; nil if there is none.
func (f *follower) asked(changes bool) (k *call, after uint64) {
	for _, waits := range f.calls {
		from := waits.data.(data).After
		if changes {
			from = waits.data.(data).ChangedAfter
		}
		if from != nil {
			require.Nil(f.t, k, "there is one at a time")
			k, after = waits, *from
		}
	}
	return k, after
}

// answer answers such a request, which has to ask for what is behind after.
func (f *follower) answer(changes bool, after uint64, page Page) {
	f.t.Helper()
	k, from := f.asked(changes)
	require.NotNil(f.t, k)
	require.Equal(f.t, after, from)
	encoded, err := json.Marshal(page)
	require.NoError(f.t, err)
	require.NoError(f.t, f.answered(&incoming{ID: k.id, Event: "ack", Data: encoded}))
}

const (
	live, change = "message", "changed"
	given, told  = EventMessage, EventChanged
)

// TestChangesAboveTooManyHoles has a change of a message for which there is no place until others are delivered.
func TestChangesAboveTooManyHoles(t *testing.T) {
	t.Parallel()
	f := newFollower(t)
	for seq := range uint64(maxAhead) {
		f.tell(live, seq+5, 0)
	}
	f.tell(change, 2000, 6)
	f.tell(change, 7, 7)
	require.Empty(t, f.events)
	require.Len(t, f.room.ahead, maxAhead)
	k, _ := f.asked(true)
	require.Nil(t, k, "there is no place for it yet")
	f.answer(false, 3, Page{Messages: []Message{{Room: "go", Seq: 4}}, More: true})
	require.Len(t, f.events, maxAhead+1)
	require.Equal(t, fmt.Sprintf("%d: 7 @0", given), f.events[3])
	f.events = nil
	f.answer(true, 5, Page{Messages: []Message{{Room: "go", Seq: 2000, Rev: 6}, {Room: "go", Seq: 7, Rev: 7}}})
	require.Equal(t, []string{fmt.Sprintf("%d: 7 @7", told)}, f.events)
	f.room.last = 1999
	f.tell(live, 2000, 0)
	require.Equal(t, fmt.Sprintf("%d: 2000 @6", given), f.events[1])
}

// TestTooManyChangesWait has more changes come than are kept while those before are read.
func TestTooManyChangesWait(t *testing.T) {
	t.Parallel()
	f := newFollower(t)
	f.room.revTarget = 9
	f.resume()
	for rev := range uint64(maxAhead + 1) {
		f.tell(change, 1, 10+rev)
		require.LessOrEqual(t, len(f.room.later), maxAhead)
	}
	f.tell(change, 2, 11+maxAhead)
	f.answer(true, 5, Page{Messages: []Message{{Room: "go", Seq: 1, Rev: 9}}})
	f.answer(true, 9, Page{Messages: []Message{{Room: "go", Seq: 1, Rev: 10 + maxAhead}}}) // it was read before the last one
	f.tell(change, 3, 12+maxAhead)
	require.Equal(t, []string{
		fmt.Sprintf("%d: 1 @9", told), fmt.Sprintf("%d: 1 @%d", told, 10+maxAhead),
		fmt.Sprintf("%d: 2 @%d", told, 11+maxAhead), fmt.Sprintf("%d: 3 @%d", told, 12+maxAhead),
	}, f.events)
}

// TestWhatWasShownIsForgotten delivers more messages with changes than are remembered, and then tells the changes.
func TestWhatWasShownIsForgotten(t *testing.T) {
	t.Parallel()
	f := newFollower(t)
	f.room.revTarget = 3000
	f.resume()
	var all []Message
	for i := range uint64(maxAhead + 2) {
		f.tell(live, 4+i, 6+i)
		all = append(all, Message{Room: "go", Seq: 4 + i, Rev: 6 + i})
	}
	require.Len(t, f.room.shown, maxAhead)
	f.events = nil
	f.answer(true, 5, Page{Messages: all[:maxAhead], More: true})
	require.Empty(t, f.events)
	require.Empty(t, f.room.shown)
	f.answer(true, 5+maxAhead, Page{Messages: all[maxAhead:]})
	require.Len(t, f.events, 2, "the rest is told again")
	require.EqualValues(t, 3000, f.room.rev)
}

// TestAPageOfChangesWithoutPlace has a change in the last page for which there is no place any more.
func TestAPageOfChangesWithoutPlace(t *testing.T) {
	t.Parallel()
	f := newFollower(t)
	f.room.revTarget = 7
	f.resume()
	for seq := range uint64(maxAhead) {
		f.tell(live, seq+5, 0)
	}
	page := Page{Messages: []Message{{Room: "go", Seq: 2000, Rev: 6}, {Room: "go", Seq: 1, Rev: 7}}}
	f.answer(true, 5, page)
	require.Empty(t, f.events)
	f.answer(false, 3, Page{Messages: []Message{{Room: "go", Seq: 4}}})
	f.events = nil
	f.answer(true, 5, page)
	require.Equal(t, []string{fmt.Sprintf("%d: 1 @7", told)}, f.events)
	require.EqualValues(t, 7, f.room.rev)
}
