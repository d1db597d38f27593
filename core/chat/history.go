package chat

import (
	"context"
	"fmt"
	"math"
)

// Page is what a reader gets of a room.
type Page struct {
	// Messages are ascending by sequence.
	Messages []Message
	// Last is the highest sequence of the room when the page was read, 0 if it has none.
	Last uint64
	// More says that the range holds further messages.
	More bool
	// Recovered is false if messages after the point that was asked for are no longer
	// stored, or if that point is ahead of the room.
	Recovered bool
}

// Latest makes [Service.Newest] and [Service.Since] read the store: it is given in the place of a sequence that is known to be stored. The
// cache may lack a message, if a process has stored it and died before it could put it there.
const Latest uint64 = math.MaxUint64

// Newest returns the last messages of room, at most Recent, from the cache or, at a miss, from
// the store, once for all who wait. The page reaches at least to the sequence seen, which the
// caller knows to be stored, or to the last stored message if seen is [Latest]. It does not ask Access: who reads has joined.
func (s *Service) Newest(ctx context.Context, room string, seen uint64) (Page, error) {
	room, err := s.Resolve(ctx, room)
	if err != nil {
		return Page{}, err
	}
	if p, ok := s.cached(ctx, room, seen); ok {
		return p, nil
	}
	return s.load(ctx, room, seen)
}

// Since returns the messages after the given sequence, at most MaxPage, lowest first. The
// page's Last reaches at least to the sequence seen. With [Latest] it reaches to the last stored message.
func (s *Service) Since(ctx context.Context, room string, since, seen uint64) (Page, error) {
	room, err := s.Resolve(ctx, room)
	if err != nil {
		return Page{}, err
	}
	held, known := s.recent.get(ctx, room)
	if known && len(held) == 0 && since == 0 && seen == 0 {
		return Page{Recovered: true}, nil
	}
	if len(held) == 0 || held[len(held)-1].Seq < seen {
		// A crowd that comes back to a cold room has missed little: one read is enough for most.
		p, err := s.load(ctx, room, seen)
		if err != nil {
			return Page{}, err
		}
		held = p.Messages
		if seen == Latest {
			seen = 0 // the page reaches to it
		}
	}
	if len(held) > 0 {
		first, last := held[0].Seq, held[len(held)-1].Seq
		if last >= seen && since <= last && since+1 >= first {
			return s.page(held[since+1-first:], last, true), nil
		}
	}
	first, last, err := s.cfg.Store.Bounds(ctx, room)
	if err != nil {
		return Page{}, fmt.Errorf("read room: %w", err)
	}
	messages, err := s.cfg.Store.List(ctx, room, Range{After: since, Limit: s.cfg.MaxPage + 1})
	if err != nil {
		return Page{}, fmt.Errorf("read messages: %w", err)
	}
	if n := len(messages); n > 0 {
		last = max(last, messages[n-1].Seq)
	}
	// A client that is ahead of the room remembers messages that this store never had.
	return s.page(messages, last, since+1 >= first && since <= last), nil
}

func (s *Service) page(messages []Message, last uint64, recovered bool) Page {
	p := Page{Messages: messages, Last: last, Recovered: recovered}
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
		if r.Newest {
			p.Messages = messages[1:]
		} else {
			p.Messages = messages[:limit]
		}
	}
	if n := len(p.Messages); n > 0 {
		p.Last = p.Messages[n-1].Seq
	}
	return p, nil
}

// cached returns the newest messages if the cache holds enough of them.
func (s *Service) cached(ctx context.Context, room string, seen uint64) (Page, bool) {
	held, known := s.recent.get(ctx, room)
	n := len(held)
	if known && n == 0 && seen == 0 {
		return Page{Recovered: true}, true
	}
	if n == 0 || held[n-1].Seq < seen || (n < s.cfg.Recent && held[0].Seq != 1) {
		return Page{}, false
	}
	return Page{Messages: held[max(0, n-s.cfg.Recent):], Last: held[n-1].Seq, Recovered: true}, true
}

// loads are the reads of one room's newest messages: one under way, and one that begins
// after it, for all who came meanwhile. So nobody gets a page whose reading began before
// they asked, and a crowd at a cold room costs one read, or two.
type loads struct{ running, next *load }

type load struct {
	stored bool // the store is read; under Service.mu
	done   chan struct{}
	page   Page
	err    error
}

func (s *Service) load(ctx context.Context, room string, seen uint64) (Page, error) {
	l, before, leader := s.enlist(room, seen == Latest)
	if leader {
		go s.lead(context.WithoutCancel(ctx), room, seen, l, before)
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
func (s *Service) enlist(room string, stored bool) (l, before *load, leader bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.loads[room]
	if all == nil {
		l = &load{stored: stored, done: make(chan struct{})}
		s.loads[room] = &loads{running: l}
		return l, nil, true
	}
	stored = stored && !all.running.stored
	if all.next != nil {
		all.next.stored = all.next.stored || stored
		return all.next, nil, false
	}
	all.next = &load{stored: stored, done: make(chan struct{})}
	return all.next, all.running, true
}

func (s *Service) lead(ctx context.Context, room string, seen uint64, l, before *load) {
	if before != nil {
		<-before.done
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CommitTimeout)
	defer cancel()
	s.mu.Lock()
	stored := l.stored
	s.mu.Unlock()
	if seen == Latest {
		seen = 0
	}
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
	messages, err := s.cfg.Store.List(ctx, room, Range{Limit: s.cfg.Recent, Newest: true})
	if err != nil {
		return Page{}, fmt.Errorf("read messages: %w", err)
	}
	n := len(messages)
	if n == 0 {
		_, last, err := s.cfg.Store.Bounds(ctx, room)
		if err != nil {
			return Page{}, fmt.Errorf("read room: %w", err)
		}
		if last == 0 {
			s.recent.fill(ctx, room, nil)
		}
		return Page{Last: last, Recovered: true}, nil
	}
	s.recent.fill(ctx, room, messages)
	return Page{Messages: messages, Last: messages[n-1].Seq, Recovered: true}, nil
}
