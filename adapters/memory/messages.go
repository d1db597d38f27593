package memory

import (
	"context"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// Messages is a chat.MessageStore. It keeps messages until Prune removes them: see [Pruner].
type Messages struct {
	outbox *Outbox // nil unless it is part of a [Store]

	mu    sync.RWMutex
	rooms map[string]*history
}

// history is the messages of one room.
type history struct {
	last     uint64         // the highest sequence ever given out
	rev      uint64         // the highest number of a change
	messages []chat.Message // those up to last that were not deleted by age
	spare    int            // about how many places the array of messages has before them
	bySender map[clientKey]uint64
	sent     map[user.ID]uint64 // the last message of each author
	deleted  []uint64           // messages that were deleted, ascending
	// reactors are all who have reacted, by sequence. The messages name some of them.
	reactors map[uint64]map[reactor]struct{}
	// changes are ascending by rev. Those that are not the last change of their message are left out now and then.
	changes []revision
}

// clientKey is a sender's own name for a message.
type clientKey struct {
	author   user.ID
	clientID string
}

// reactor is who has reacted, and how.
type reactor struct {
	key string
	by  user.ID
}

// revision is one change.
type revision struct{ rev, seq uint64 }

var _ chat.MessageStore = (*Messages)(nil)

// NewMessages returns a store without messages.
func NewMessages() *Messages { return &Messages{rooms: map[string]*history{}} }

// Append stores messages and gives each its place in its room.
func (ms *Messages) Append(ctx context.Context, messages []chat.Message) ([]chat.Stored, error) {
	return ms.append(ctx, messages, nil)
}

func (ms *Messages) append(ctx context.Context, messages []chat.Message, record chat.Record) ([]chat.Stored, error) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if err := alive(ctx); err != nil {
		return nil, err
	}
	answers := make([]chat.Stored, len(messages))
	for i, m := range messages {
		h := ms.rooms[m.Room]
		if h == nil {
			h = &history{bySender: map[clientKey]uint64{}, sent: map[user.ID]uint64{}}
			ms.rooms[m.Room] = h
		}
		key := clientKey{m.Author.ID, m.ClientID}
		if m.ClientID != "" {
			if seq, known := h.bySender[key]; known {
				answers[i] = chat.Stored{Message: h.at(seq).Clone(), Repeated: true}
				continue
			}
			h.bySender[key] = h.last + 1
		}
		h.last++
		h.sent[m.Author.ID] = h.last
		m = chat.Message{
			Room: m.Room, Seq: h.last, ID: m.ID, ClientID: m.ClientID, Author: m.Author, Text: m.Text, At: stamp(m.At), ReplyTo: m.ReplyTo, Data: m.Data,
		}
		h.messages = append(h.messages, m)
		answers[i] = chat.Stored{Message: m}
		ms.tell(record, m, nil)
	}
	return answers, nil
}

// first is the lowest sequence that is still stored, or the one that comes next.
func (h *history) first() uint64 { return h.last - uint64(len(h.messages)) + 1 }

// at returns the message with the sequence, nil if it is not stored.
func (h *history) at(seq uint64) *chat.Message {
	if first := h.first(); seq >= first && seq <= h.last {
		return &h.messages[seq-first]
	}
	return nil
}

// Change changes messages and gives each change its place in its room.
func (ms *Messages) Change(ctx context.Context, changes []chat.Change) ([]chat.Changed, error) {
	return ms.change(ctx, changes, nil)
}

func (ms *Messages) change(ctx context.Context, changes []chat.Change, record chat.Record) ([]chat.Changed, error) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if err := alive(ctx); err != nil {
		return nil, err
	}
	answers := make([]chat.Changed, len(changes))
	for i, c := range changes {
		answers[i] = chat.Changed{Err: chat.ErrMessageNotFound}
		if h := ms.rooms[c.Room]; h != nil {
			answers[i] = h.change(c)
		}
		if a := &answers[i]; a.Err == nil && !a.Repeated {
			c.At = stamp(c.At)
			ms.tell(record, a.Message, &c)
		}
	}
	return answers, nil
}

func (h *history) change(c chat.Change) chat.Changed {
	at := h.at(c.Seq)
	if at == nil {
		return chat.Changed{Err: chat.ErrMessageNotFound}
	}
	c.At = stamp(c.At)
	who := reactor{c.Key, c.By.ID}
	_, reacted := h.reactors[c.Seq][who]
	after, changed, err := c.Apply(*at, reacted)
	switch {
	case err != nil:
		return chat.Changed{Err: err}
	case !changed:
		return chat.Changed{Message: after.Clone(), Repeated: true}
	}
	h.rev++
	after.Rev = h.rev
	was := *at
	*at = after.Clone()
	h.remember(revision{h.rev, c.Seq})
	switch c.Kind {
	case chat.Edit:
	case chat.Delete, chat.Erase:
		delete(h.reactors, c.Seq)
		if i, known := slices.BinarySearch(h.deleted, c.Seq); !known {
			h.deleted = slices.Insert(h.deleted, i, c.Seq)
		}
		if c.Kind == chat.Erase {
			delete(h.bySender, clientKey{was.Author.ID, was.ClientID})
		}
	case chat.React:
		if h.reactors == nil {
			h.reactors = map[uint64]map[reactor]struct{}{}
		}
		if h.reactors[c.Seq] == nil {
			h.reactors[c.Seq] = map[reactor]struct{}{}
		}
		h.reactors[c.Seq][who] = struct{}{}
	case chat.Unreact:
		if delete(h.reactors[c.Seq], who); len(h.reactors[c.Seq]) == 0 {
			delete(h.reactors, c.Seq)
		}
	}
	return chat.Changed{Message: after.Clone()}
}

// remember notes a change. When the notes have no room left, those that are no message's last change any more make some.
func (h *history) remember(r revision) {
	if len(h.changes) == cap(h.changes) {
		h.changes = slices.DeleteFunc(h.changes, func(r revision) bool { return !h.isLast(r) })
		h.changes = slices.Grow(h.changes, len(h.changes)+1) // so that it is not done for every change
	}
	h.changes = append(h.changes, r)
}

// isLast reports whether it is the last change of a message that is stored.
func (h *history) isLast(r revision) bool {
	m := h.at(r.seq)
	return m != nil && m.Rev == r.rev
}

// List returns the messages of room that r chooses.
func (ms *Messages) List(ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
	if err := alive(ctx); err != nil {
		return nil, err
	}
	if err := atLeastOne(r.Limit); err != nil {
		return nil, err
	}
	ms.mu.RLock()
	defer ms.mu.RUnlock()
	h := ms.rooms[room]
	if h == nil {
		return []chat.Message{}, nil
	}
	if r.Changed {
		return h.changed(r), nil
	}
	// Positions in h.messages: from is the first that r chooses, to the first after it.
	before := h.first()
	from, to := uint64(0), uint64(len(h.messages))
	if r.After >= before {
		from = min(r.After-before+1, to)
	}
	if r.Before != 0 {
		to = min(to, max(r.Before, before)-before)
	}
	if from >= to {
		return []chat.Message{}, nil
	}
	if limit := uint64(r.Limit); to-from > limit {
		if r.Newest {
			from = to - limit
		} else {
			to = from + limit
		}
	}
	return copies(h.messages[from:to]), nil
}

// changed returns the messages that r chooses by their last change.
func (h *history) changed(r chat.Range) []chat.Message {
	messages := []chat.Message{}
	from := sort.Search(len(h.changes), func(i int) bool { return h.changes[i].rev > r.After })
	for _, c := range h.changes[from:] {
		if len(messages) == r.Limit || (r.Before != 0 && c.rev >= r.Before) {
			break
		}
		if h.isLast(c) && (r.UpTo == 0 || c.seq <= r.UpTo) {
			messages = append(messages, h.at(c.seq).Clone())
		}
	}
	return messages
}

// Bounds returns how far room reaches.
func (ms *Messages) Bounds(ctx context.Context, room string) (chat.Bounds, error) {
	if err := alive(ctx); err != nil {
		return chat.Bounds{}, err
	}
	ms.mu.RLock()
	defer ms.mu.RUnlock()
	h := ms.rooms[room]
	if h == nil {
		return chat.Bounds{First: 1}, nil
	}
	return chat.Bounds{First: h.first(), Last: h.last, Rev: h.rev}, nil
}

// unread is how many messages come behind a sequence that are not deleted.
func (h *history) unread(read uint64) uint64 {
	read = max(read, h.first()-1)
	gone, _ := slices.BinarySearch(h.deleted, read+1)
	return h.last - read - uint64(len(h.deleted)-gone)
}

// Aged counts the first messages of room that were stored before a time.
func (ms *Messages) Aged(ctx context.Context, room string, before time.Time, limit int) (first uint64, aged int, err error) {
	if err := alive(ctx); err != nil {
		return 0, 0, err
	}
	ms.mu.RLock()
	defer ms.mu.RUnlock()
	h := ms.rooms[room]
	if h == nil {
		return 1, 0, nil
	}
	for aged < min(limit, len(h.messages)) && h.messages[aged].At.Before(before) {
		aged++
	}
	return h.first() + uint64(aged), aged, nil
}

// Prune removes the messages of room whose sequence is lower than first, and returns
// how many. Their client ids are forgotten; their sequence numbers, and those of their changes, are not given out again.
func (ms *Messages) Prune(ctx context.Context, room string, first uint64) (int, error) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if err := alive(ctx); err != nil {
		return 0, err
	}
	h := ms.rooms[room]
	if h == nil || first <= h.first() {
		return 0, nil
	}
	n := min(first-h.first(), uint64(len(h.messages)))
	for _, m := range h.messages[:n] {
		delete(h.bySender, clientKey{m.Author.ID, m.ClientID})
		delete(h.reactors, m.Seq)
	}
	gone, _ := slices.BinarySearch(h.deleted, first)
	h.deleted = slices.Delete(h.deleted, 0, gone)
	h.changes = slices.DeleteFunc(h.changes, func(r revision) bool { return r.seq < first })
	clear(h.messages[:n])
	h.messages = h.messages[n:]
	if h.spare += int(n); h.spare > len(h.messages) {
		h.messages, h.spare = slices.Clone(h.messages), 0 // a new array, so that the old one is freed
	}
	return int(n), nil
}

// copies returns messages that share nothing with those given.
func copies(messages []chat.Message) []chat.Message {
	all := slices.Clone(messages)
	for i := range all {
		all[i] = all[i].Clone()
	}
	return all
}
