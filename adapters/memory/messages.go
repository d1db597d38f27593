package memory

import (
	"context"
	"slices"
	"sync"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// Messages is a chat.MessageStore. It keeps messages until DeleteBefore removes them.
type Messages struct {
	mu    sync.RWMutex
	rooms map[string]*history
}

// history is the messages of one room.
type history struct {
	last     uint64         // the highest sequence ever given out
	messages []chat.Message // those up to last that were not deleted
	bySender map[clientKey]uint64
}

// clientKey is a sender's own name for a message.
type clientKey struct {
	author   user.ID
	clientID string
}

var _ chat.MessageStore = (*Messages)(nil)

// NewMessages returns a store without messages.
func NewMessages() *Messages { return &Messages{rooms: map[string]*history{}} }

// Append stores messages and gives each its place in its room.
func (ms *Messages) Append(ctx context.Context, messages []chat.Message) ([]chat.Stored, error) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if err := alive(ctx); err != nil {
		return nil, err
	}
	answers := make([]chat.Stored, len(messages))
	for i, m := range messages {
		h := ms.rooms[m.Room]
		if h == nil {
			h = &history{bySender: map[clientKey]uint64{}}
			ms.rooms[m.Room] = h
		}
		key := clientKey{m.Author.ID, m.ClientID}
		if m.ClientID != "" {
			if seq, known := h.bySender[key]; known {
				answers[i] = chat.Stored{Message: h.messages[seq-h.first()], Repeated: true}
				continue
			}
			h.bySender[key] = h.last + 1
		}
		h.last++
		m.Seq = h.last
		m.At = stamp(m.At)
		h.messages = append(h.messages, m)
		answers[i] = chat.Stored{Message: m}
	}
	return answers, nil
}

// first is the lowest sequence that is still stored, or the one that comes next.
func (h *history) first() uint64 { return h.last - uint64(len(h.messages)) + 1 }

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
	return slices.Clone(h.messages[from:to]), nil
}

// Bounds returns the lowest sequence stored and the highest ever given out.
func (ms *Messages) Bounds(ctx context.Context, room string) (first, last uint64, err error) {
	if err := alive(ctx); err != nil {
		return 0, 0, err
	}
	ms.mu.RLock()
	defer ms.mu.RUnlock()
	h := ms.rooms[room]
	if h == nil {
		return 1, 0, nil
	}
	return h.first(), h.last, nil
}

// DeleteBefore removes the messages of room whose sequence is lower than seq, and returns
// how many. Their client ids are forgotten; their sequence numbers are not given out again.
func (ms *Messages) DeleteBefore(ctx context.Context, room string, seq uint64) (int, error) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if err := alive(ctx); err != nil {
		return 0, err
	}
	h := ms.rooms[room]
	if h == nil || seq <= h.first() {
		return 0, nil
	}
	n := min(seq-h.first(), uint64(len(h.messages)))
	for _, m := range h.messages[:n] {
		delete(h.bySender, clientKey{m.Author.ID, m.ClientID})
	}
	h.messages = slices.Clone(h.messages[n:]) // a new array, so that the old one is freed
	return int(n), nil
}
