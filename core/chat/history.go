package chat

import (
	"context"
	"fmt"
	"math"
)

// Page is what a reader gets of a room.
type Page struct {
	// Messages are ascending by sequence; for [Service.Changes] by Rev.
	Messages []Message
	// Last is the highest sequence of the room when the page was read, 0 if it has none.
	Last uint64
	// Rev says how old the page may be: every change of the room up to it is in it.
	Rev uint64
	// Changes are, for [Service.Since] with a Rev, messages that the reader has and that changed after it, ascending by Rev,
	// at most MaxPage.
	Changes []Message
	// More says that the range holds further messages.
	More bool
	// Recovered is false if messages after the point that was asked for are no longer
	// stored, or if that point is ahead of the room.
	Recovered bool
}

// Reach is how far a room is known to be stored.
type Reach struct{ Seq, Rev uint64 }

// Max returns the higher of each.
func (r Reach) Max(other Reach) Reach {
	return Reach{Seq: max(r.Seq, other.Seq), Rev: max(r.Rev, other.Rev)}
}

// Latest makes [Service.Newest] and [Service.Since] read the store: it is given in the place of a sequence that is known to be stored. The
// cache may lack a message or a change, if a process has stored it and died before it could put it there.
const Latest uint64 = math.MaxUint64

// Newest returns the last messages of room, at most Recent, from the cache or, at a miss, from
// the store, once for all who wait. The page reaches at least as far as seen, which the
// caller knows to be stored, or to the last stored message and change if seen.Seq is [Latest]. It does not ask Access: who reads has joined.
func (s *Service) Newest(ctx context.Context, room string, seen Reach) (Page, error) {
	room, err := s.Resolve(ctx, room)
	if err != nil {
		return Page{}, err
	}
	if p, ok := s.cached(ctx, room, seen); ok {
		return p, nil
	}
	return s.load(ctx, room, seen)
}

// Point is where a reader stands in a room.
type Point struct {
	// Seq says that the reader has every message up to it.
	Seq uint64
	// Rev says that it has every change up to it; nil if it does not ask for changes.
	Rev *uint64
	// Given is the last message that the reader was given besides, for whatever reason; it counts if it is more than Seq.
	Given uint64
}

// Since returns the messages after from.Seq, at most MaxPage, lowest first. The
// page reaches at least as far as seen. With [Latest] it reaches to the last stored message and change. With a Rev, the page
// has also what changed after it of the messages that the reader has.
func (s *Service) Since(ctx context.Context, room string, from Point, seen Reach) (Page, error) {
	room, err := s.Resolve(ctx, room)
	if err != nil {
		return Page{}, err
	}
	if from.Rev != nil && seen.Seq != Latest {
		seen.Rev = max(seen.Rev, *from.Rev)
	}
	p, err := s.since(ctx, room, from.Seq, seen)
	if err != nil || from.Rev == nil {
		return p, err
	}
	has := max(from.Seq, from.Given)
	switch {
	case *from.Rev > p.Rev:
		p.Recovered = false // it remembers changes that this store never had
	case *from.Rev < p.Rev && has > 0:
		changed := Range{Changed: true, After: *from.Rev, Before: p.Rev + 1, UpTo: has, Limit: s.cfg.MaxPage}
		if p.Changes, err = s.cfg.Store.List(ctx, room, changed); err != nil {
			return Page{}, fmt.Errorf("read changes: %w", err)
		}
	}
	return p, nil
}

func (s *Service) since(ctx context.Context, room string, since uint64, seen Reach) (Page, error) {
	cached, known := s.recent.get(ctx, room)
	held, at := cached.Messages, cached.Rev
	if known && len(held) == 0 && since == 0 && seen == (Reach{}) {
		return Page{Recovered: true, Rev: at}, nil
	}
	if len(held) == 0 || held[len(held)-1].Seq < seen.Seq || at < seen.Rev {
		// A crowd that comes back to a cold room has missed little: one read is enough for most.
		p, err := s.load(ctx, room, seen)
		if err != nil {
			return Page{}, err
		}
		held, at = p.Messages, p.Rev
		if seen.Seq == Latest {
			seen = Reach{} // the page reaches to it
		}
	}
	if len(held) > 0 {
		first, last := held[0].Seq, held[len(held)-1].Seq
		whole := last-first+1 == uint64(len(held)) // a faulty adapter must not end the process
		if whole && last >= seen.Seq && at >= seen.Rev && since <= last && since+1 >= first {
			return s.page(held[since+1-first:], last, at, true), nil
		}
	}
	b, err := s.cfg.Store.Bounds(ctx, room)
	if err != nil {
		return Page{}, fmt.Errorf("read room: %w", err)
	}
	last := b.Last
	messages, err := s.cfg.Store.List(ctx, room, Range{After: since, Limit: s.cfg.MaxPage + 1})
	if err != nil {
		return Page{}, fmt.Errorf("read messages: %w", err)
	}
	if n := len(messages); n > 0 {
		last = max(last, messages[n-1].Seq)
	}
	// A client that is ahead of the room remembers messages that this store never had. What the messages themselves say counts: some may have been
	// removed by age since the bounds were read.
	whole := since == last || since < last && len(messages) > 0 && messages[0].Seq == since+1
	return s.page(messages, last, b.Rev, whole), nil
}

func (s *Service) page(messages []Message, last, rev uint64, recovered bool) Page {
	p := Page{Messages: messages, Last: last, Rev: rev, Recovered: recovered}
	if len(messages) > s.cfg.MaxPage {
		p.Messages, p.More = messages[:s.cfg.MaxPage], true
	}
	return p
}

// History returns a page of room: the messages that r chooses, at most r.Limit, where 0 or
// more than MaxPage means MaxPage. It asks Access for ActionRead.
func (s *Service) History(ctx context.Context, who Author, room string, r Range) (Page, error) {
	room, err := s.Resolve(ctx, room)
	if err != nil {
		return Page{}, err
	}
	if err := s.cfg.Access.May(ctx, who, ActionRead, room); err != nil {
		return Page{}, err
	}
	limit := s.pageSize(r.Limit)
	r.Limit = limit + 1
	messages, err := s.cfg.Store.List(ctx, room, r)
	if err != nil {
		return Page{}, fmt.Errorf("read messages: %w", err)
	}
	p := Page{Messages: messages, Recovered: true}
	if len(messages) > limit {
		p.More = true
		if r.Newest && !r.Changed {
			p.Messages = messages[1:]
		} else {
			p.Messages = messages[:limit]
		}
	}
	if n := len(p.Messages); n > 0 && !r.Changed {
		p.Last = p.Messages[n-1].Seq
	}
	return p, nil
}

// Changes returns the messages of room whose last change came after the given Rev, as they are now, ascending by Rev, at most MaxPage.
// The page's Rev is that of the room before they were read. It does not ask Access.
func (s *Service) Changes(ctx context.Context, room string, after uint64) (Page, error) {
	b, err := s.cfg.Store.Bounds(ctx, room)
	if err != nil {
		return Page{}, fmt.Errorf("read room: %w", err)
	}
	messages, err := s.cfg.Store.List(ctx, room, Range{Changed: true, After: after, Limit: s.cfg.MaxPage + 1})
	if err != nil {
		return Page{}, fmt.Errorf("read changes: %w", err)
	}
	return s.page(messages, b.Last, b.Rev, true), nil
}

// cached returns the newest messages if the cache holds enough of them.
func (s *Service) cached(ctx context.Context, room string, seen Reach) (Page, bool) {
	cached, known := s.recent.get(ctx, room)
	held := cached.Messages
	n := len(held)
	if known && n == 0 && seen == (Reach{}) {
		return Page{Rev: cached.Rev, Recovered: true}, true
	}
	if n == 0 || held[n-1].Seq < seen.Seq || cached.Rev < seen.Rev || (n < s.cfg.Recent && held[0].Seq > max(cached.First, 1)) {
		return Page{}, false
	}
	return Page{Messages: held[max(0, n-s.cfg.Recent):], Last: held[n-1].Seq, Rev: cached.Rev, Recovered: true}, true
}

// loads are the reads of one room's newest messages: one under way, and one that begins
// after it, for all who came meanwhile. So nobody gets a page whose reading began before
// they asked, and a crowd at a cold room costs one read, or two.
type loads struct{ running, next *load }

type load struct {
	stored bool  // the store is read; under Service.mu
	seen   Reach // what those who wait for it know to be stored; under Service.mu
	done   chan struct{}
	page   Page
	err    error
}

func (s *Service) load(ctx context.Context, room string, seen Reach) (Page, error) {
	l, before, leader := s.enlist(room, seen)
	if leader {
		go s.lead(context.WithoutCancel(ctx), room, l, before)
	}
	select {
	case <-l.done:
		return l.page, l.err
	case <-ctx.Done():
		return Page{}, ctx.Err()
	}
}

// enlist finds the load to wait for, and whether the caller has to lead it once before is done. After one that reads the store
// the cache holds what was read.
func (s *Service) enlist(room string, seen Reach) (l, before *load, leader bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	stored := seen.Seq == Latest
	if stored {
		seen = Reach{}
	}
	all := s.loads[room]
	if all == nil {
		l = &load{stored: stored, seen: seen, done: make(chan struct{})}
		s.loads[room] = &loads{running: l}
		return l, nil, true
	}
	stored = stored && !all.running.stored
	if all.next != nil {
		all.next.stored = all.next.stored || stored
		all.next.seen = all.next.seen.Max(seen)
		return all.next, nil, false
	}
	all.next = &load{stored: stored, seen: seen, done: make(chan struct{})}
	return all.next, all.running, true
}

func (s *Service) lead(ctx context.Context, room string, l, before *load) {
	if before != nil {
		<-before.done
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CommitTimeout)
	defer cancel()
	s.mu.Lock()
	stored, seen := l.stored, l.seen
	s.mu.Unlock()
	ok := false
	if !stored {
		l.page, ok = s.cached(ctx, room, seen)
	}
	if !ok {
		l.page, l.err = s.read(ctx, room)
	}
	s.mu.Lock()
	all := s.loads[room]
	if all.next == nil {
		delete(s.loads, room)
	} else {
		all.running, all.next = all.next, nil
	}
	s.mu.Unlock()
	close(l.done)
}

func (s *Service) read(ctx context.Context, room string) (Page, error) {
	b, err := s.cfg.Store.Bounds(ctx, room) // first, so that the messages are at least as new
	if err != nil {
		return Page{}, fmt.Errorf("read room: %w", err)
	}
	var messages []Message
	if b.Last > 0 {
		if messages, err = s.cfg.Store.List(ctx, room, Range{Limit: s.cfg.Recent, Newest: true}); err != nil {
			return Page{}, fmt.Errorf("read messages: %w", err)
		}
	}
	n := len(messages)
	if n > 0 || b.Last == 0 {
		s.recent.fill(ctx, room, Recent{Messages: messages, Rev: b.Rev, First: b.First})
	}
	if n > 0 {
		b.Last = messages[n-1].Seq
	}
	return Page{Messages: messages, Last: b.Last, Rev: b.Rev, Recovered: true}, nil
}
