package contract

import (
	"context"
	"errors"
	"fmt"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
)

// Screened is a screen, and drafts by which its verdicts are known.
type Screened struct {
	Screen chat.Screen
	// Passes is a draft that the screen lets pass, Changes one whose text it changes, and Refuses one that it refuses. Passes and Changes
	// should have data, and Changes data that the screen changes, if it changes any.
	Passes, Changes, Refuses chat.Draft
	// Stall keeps the screen from a verdict, where it asks somebody, until goOn. Nil for one that asks nobody.
	Stall func(ctx context.Context) (goOn func(), err error)
}

// Screen checks chat.Screen.
func Screen() []Case[Screened] {
	return suite("Screen", []promise[Screened]{
		{"what may pass stays as it is", "Screen returns the draft as it is to be stored: the draft that was given, or one with another text or other data.", screenPasses},
		{"a changed text can be stored", "A text that Screen changes keeps the rules of CheckText.", screenChanges},
		{"changed data can be stored", "Data that Screen changes keeps the rules of CompactData.", screenData},
		{"a refusal is forbidden", "Screen returns an error of kind Forbidden for a message that must not be stored, such as ErrRefused with the reason as its detail.", screenRefuses},
		{"an ended context is no refusal", "Screen returns any other error when it cannot tell.", screenEnded},
		{"Screen returns with its context", "Screen returns soon after ctx ends.", screenStalled},
		{"a draft may come again", "The same draft may be asked about several times, and gets a verdict each time.", screenAgain},
		{"many may ask at once", "It may be called from many goroutines.", screenMany},
	})
}

// verdict wants what becomes of a draft.
func (p Screened) verdict(ctx context.Context, d chat.Draft, want func(got chat.Draft, err error) error) error {
	got, err := p.Screen.Screen(ctx, d)
	return during(fmt.Sprintf("Screen(%s)", clip(fmt.Sprintf("%+q", d.Text))), want(got, err))
}

func (p Screened) passes(ctx context.Context) error {
	return p.verdict(ctx, p.Passes, func(got chat.Draft, err error) error {
		switch {
		case err != nil:
			return err
		case got.Text != p.Passes.Text:
			return fmt.Errorf("it returned the text %s, want the one that was given", clip(fmt.Sprintf("%+q", got.Text)))
		case got.Data != p.Passes.Data:
			return fmt.Errorf("it returned the data %s, want those that were given", clip(fmt.Sprintf("%+q", got.Data)))
		}
		return nil
	})
}

func (p Screened) changes(ctx context.Context) error {
	return p.verdict(ctx, p.Changes, func(got chat.Draft, err error) error {
		if err == nil && got.Text == p.Changes.Text {
			err = errors.New("it did not change the text")
		}
		return then(err, func() error { return chat.CheckText(got.Text) })
	})
}

func (p Screened) refuses(ctx context.Context) error {
	return p.verdict(ctx, p.Refuses, func(_ chat.Draft, err error) error {
		if !errors.Is(err, fault.Forbidden) {
			return fmt.Errorf("it returned %w, want an error of kind Forbidden", orNone(err))
		}
		return nil
	})
}

func screenPasses(ctx context.Context, p Screened) error  { return p.passes(ctx) }
func screenChanges(ctx context.Context, p Screened) error { return p.changes(ctx) }
func screenRefuses(ctx context.Context, p Screened) error { return p.refuses(ctx) }

func screenData(ctx context.Context, p Screened) error {
	for _, d := range []chat.Draft{p.Passes, p.Changes} {
		if err := p.verdict(ctx, d, func(got chat.Draft, err error) error {
			if err == nil {
				_, err = chat.CompactData(got.Data)
			}
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// notRefused wants that a draft which may pass is not refused, though there may be no verdict.
func (p Screened) notRefused(ctx context.Context) error {
	return p.verdict(ctx, p.Passes, func(_ chat.Draft, err error) error {
		if errors.Is(err, fault.Forbidden) {
			return fmt.Errorf("it returned %w of a message that may pass", err)
		}
		return nil
	})
}

func screenEnded(ctx context.Context, p Screened) error {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	return first(
		func() error { return p.notRefused(ended) },
		func() error { return p.passes(ctx) },
	)
}

func screenStalled(ctx context.Context, p Screened) error {
	if p.Stall != nil {
		goOn, err := p.Stall(ctx)
		if err != nil {
			return during("Stall", err)
		}
		defer goOn()
	}
	soon, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- p.notRefused(soon) }()
	cancel()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return errors.New("it did not return, though its context had ended")
	}
}

func screenAgain(ctx context.Context, p Screened) error {
	for range 3 {
		if err := first(
			func() error { return p.passes(ctx) },
			func() error { return p.changes(ctx) },
			func() error { return p.refuses(ctx) },
		); err != nil {
			return err
		}
	}
	return nil
}

func screenMany(ctx context.Context, p Screened) error {
	return allTogether(16, func(int) error {
		for range 4 {
			if err := first(
				func() error { return p.refuses(ctx) },
				func() error { return p.passes(ctx) },
				func() error { return p.changes(ctx) },
			); err != nil {
				return err
			}
		}
		return nil
	})
}
