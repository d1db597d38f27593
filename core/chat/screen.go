package chat

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/parley-chat/parley/core/fault"
)

// What a [Screen] makes of messages.
var (
	// ErrRefused is what a Screen refuses by. Its detail is the reason that the sender is shown.
	ErrRefused = fault.New(fault.Forbidden, "message_refused", "the message was refused")
	// ErrUnscreened refuses a message that the Screen did not answer for. By its code clients know that the same may pass later.
	ErrUnscreened = fault.New(fault.Unavailable, "unavailable", "the message could not be checked, and was not stored")
)

// Screen sees every message before it is stored, and lets it pass, changes it, or refuses it.
//
// It may be called from many goroutines.
type Screen interface {
	// Screen returns the draft as it is to be stored: the draft that was given, or one with another text or other data.
	// Only the Text and the Data of what Screen returns count.
	// A text that Screen changes keeps the rules of [CheckText].
	// Data that Screen changes keeps the rules of [CompactData].
	// Screen returns an error of kind Forbidden for a message that must not be stored, such as ErrRefused with the reason as its detail.
	// Screen returns any other error when it cannot tell.
	// Screen returns soon after ctx ends.
	// The same draft may be asked about several times, and gets a verdict each time.
	Screen(ctx context.Context, d Draft) (Draft, error)
}

// ScreenFunc is a function as a [Screen].
type ScreenFunc func(ctx context.Context, d Draft) (Draft, error)

// Screen calls f.
func (f ScreenFunc) Screen(ctx context.Context, d Draft) (Draft, error) { return f(ctx, d) }

// screening asks a Screen.
type screening struct {
	screen  Screen
	timeout time.Duration
	open    bool
	places  chan struct{} // as many as may be asked about at once; a token stands for a call that has not returned
	now     func() time.Time
	log     *slog.Logger

	failures atomic.Int64 // that were not logged
	loggedAt atomic.Int64 // in nanoseconds
}

// logEvery is the least time between two log lines about a Screen that fails.
const logEvery = 10 * time.Second

// ask returns the draft as it may be stored.
func (s *screening) ask(ctx context.Context, d Draft) (Draft, error) {
	soon, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	select {
	case s.places <- struct{}{}:
	case <-soon.Done():
		if err := ctx.Err(); err != nil {
			return d, fault.Wrap(fault.Unavailable, err)
		}
		// Not as a failure: a flood must not open what is to be closed.
		return d, ErrBusy.RetryAfter(time.Second)
	}
	type verdict struct {
		draft Draft
		err   error
	}
	said := make(chan verdict, 1)
	go func() {
		defer func() { <-s.places }()
		var v verdict
		v.draft, v.err = s.call(soon, d)
		said <- v
	}()
	var v verdict
	select {
	case v = <-said:
	case <-soon.Done():
		v.err = soon.Err()
	}
	switch {
	case v.err == nil && v.draft.Text == d.Text && v.draft.Data == d.Data:
		return d, nil
	case v.err == nil:
		d.Text = v.draft.Text
		if err := CheckText(d.Text); err != nil {
			return d, err
		}
		d.Data, v.err = CompactData(v.draft.Data)
		return d, v.err
	case errors.Is(v.err, fault.Forbidden):
		return d, v.err
	case ctx.Err() != nil: // nobody waits any more, which is not the Screen's failure
		return d, fault.Wrap(fault.Unavailable, ctx.Err())
	}
	s.failed(v.err)
	if s.open {
		return d, nil
	}
	return d, ErrUnscreened.RetryAfter(time.Second).Because(v.err)
}

// call asks, and makes a panic an error.
func (s *screening) call(ctx context.Context, d Draft) (judged Draft, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("chat: the screen panicked: %v\n%s", p, debug.Stack())
		}
	}()
	return s.screen.Screen(ctx, d)
}

// failed logs now and then.
func (s *screening) failed(err error) {
	n, now, last := s.failures.Add(1), s.now().UnixNano(), s.loggedAt.Load()
	if last != 0 && now >= last && now-last < int64(logEvery) || !s.loggedAt.CompareAndSwap(last, now) {
		return
	}
	s.failures.Add(-n)
	s.log.Warn("the screen does not judge messages", "messages", n, "stored", s.open, "error", err)
}

// screened asks the Screen. A draft that it refuses, and that is stored under its ClientID already, becomes the stored one: a message
// that is sent again has the answer of the first time.
func (s *Service) screened(ctx context.Context, d Draft) (Draft, error) {
	judged, err := s.screening.ask(ctx, d)
	if err == nil || d.ClientID == "" {
		return judged, err
	}
	if m, found := s.repeated(ctx, d); found {
		d.Text, d.Data = m.Text, m.Data
		return d, nil
	}
	return d, err
}
