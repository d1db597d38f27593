package contract

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/parley-chat/parley/core/mail"
)

// Outgoing is the port of [MailSender]: a sender, and what arrived at the other side.
type Outgoing struct {
	Sender mail.Sender
	// Arrived returns the mails that the next hop has taken so far, parsed back, in any order.
	Arrived func(ctx context.Context) ([]mail.Message, error)
	// Fill takes the room away that the next hop has for mails; free gives it back. Nil for one that always has room.
	Fill func(ctx context.Context) (free func(ctx context.Context) error, err error)
}

// MailSender checks what every mail.Sender promises whatever carries its mails.
func MailSender() []Case[Outgoing] {
	return suite("MailSender", []promise[Outgoing]{
		{"a sent mail has arrived", "Send returns nil once the next hop has taken responsibility for m.", senderArrives},
		{"concurrent mails arrive", "It may be called from many goroutines.", senderConcurrent},
		{"Send gives up with its context", "Send gives up when ctx is done.", senderEnded},
		{"want of room is no attempt", "Where there is no room for m, Send returns one of these three, and m has not gone out.", senderFull},
		{"a check sends nothing", "Check returns nil if the sender would take a mail now, or cannot tell. Check sends nothing.", senderCheck},
	})
}

func senderFull(ctx context.Context, p Outgoing) error {
	if p.Fill == nil {
		return then(during("Send", p.Sender.Send(ctx, letter(2))), func() error { return arrived(ctx, p, 2) })
	}
	free, err := p.Fill(ctx)
	if err != nil {
		return during("Fill", err)
	}
	err = p.Sender.Send(ctx, letter(1))
	if !errors.Is(err, mail.ErrUntried) && !errors.Is(err, mail.ErrDeferred) && !errors.Is(err, mail.ErrThrottled) {
		return fmt.Errorf("the port's Send, where there is no room, returned %w; want an error by which the attempt does not count", orNil(err))
	}
	return first(
		func() error { return during("Arrived", none(p.Arrived(ctx))) },
		func() error { return during("freeing", free(ctx)) },
		func() error { return during("Send afterwards", p.Sender.Send(ctx, letter(2))) },
		func() error { return arrived(ctx, p, 2) },
	)
}

// none wants no mails.
func none(all []mail.Message, err error) error {
	if err == nil && len(all) > 0 {
		err = fmt.Errorf("%d mails have arrived, though there was no room", len(all))
	}
	return err
}

// orNil is err, or what says that there is none.
func orNil(err error) error {
	if err == nil {
		return errors.New("nil")
	}
	return err
}

func senderCheck(ctx context.Context, p Outgoing) error {
	if err := during("Check", p.Sender.Check(ctx)); err != nil {
		return err
	}
	all, err := p.Arrived(ctx)
	if err == nil && len(all) > 0 {
		err = fmt.Errorf("%d mails have arrived, though none was sent", len(all))
	}
	return during("Arrived", err)
}

func letter(n int) mail.Message {
	return mail.Message{
		ID: fmt.Sprintf("job-%d@example.com", n), FromName: "Parley", From: "no-reply@example.com",
		ToName: "Zoë Ångström", To: fmt.Sprintf("zoe%d@example.com", n), Subject: fmt.Sprintf("Grüße %d 👋", n),
		Text: fmt.Sprintf("Hallo Zoë %d,\n\nfoo = bar\n.\nGrüße\n%s", n, long(200)),
		HTML: fmt.Sprintf("<p>Hallo Zoë %d &amp; alle</p>\n<p>%s</p>", n, long(200)),
	}
}

// arrived wants the letters. Lines may have ended differently on the way.
func arrived(ctx context.Context, p Outgoing, numbers ...int) error {
	all, err := p.Arrived(ctx)
	if err != nil {
		return during("Arrived", err)
	}
	text := func(s string) string { return strings.TrimSpace(strings.ReplaceAll(s, "\r\n", "\n")) }
	for _, n := range numbers {
		want := letter(n)
		i := slices.IndexFunc(all, func(m mail.Message) bool { return m.ID == want.ID })
		if i < 0 {
			return fmt.Errorf("the mail %q has not arrived, though Send returned nil", want.ID)
		}
		got := all[i]
		got.Text, got.HTML, want.Text, want.HTML = text(got.Text), text(got.HTML), text(want.Text), text(want.HTML)
		if err := same(got, want); err != nil {
			return fmt.Errorf("mail %q: %w", want.ID, err)
		}
	}
	return nil
}

func senderArrives(ctx context.Context, p Outgoing) error {
	return first(
		func() error { return during("Send", p.Sender.Send(ctx, letter(1))) },
		func() error { return arrived(ctx, p, 1) },
		func() error { return during("Send", p.Sender.Send(ctx, letter(2))) },
		func() error { return arrived(ctx, p, 1, 2) },
	)
}

func senderConcurrent(ctx context.Context, p Outgoing) error {
	err := allTogether(8, func(i int) error { return during("Send", p.Sender.Send(ctx, letter(i))) })
	return then(err, func() error { return arrived(ctx, p, 0, 1, 2, 3, 4, 5, 6, 7) })
}

func senderEnded(ctx context.Context, p Outgoing) error {
	err := p.Sender.Send(ended(ctx), letter(1))
	if errors.Is(err, mail.ErrRefused) {
		return fmt.Errorf("the port's Send with an ended context says that the mail was refused for good: %w", err)
	}
	if err == nil {
		err = arrived(ctx, p, 1)
	} else {
		err = nil
	}
	return then(err,
		func() error { return during("Send afterwards", p.Sender.Send(ctx, letter(2))) },
		func() error { return arrived(ctx, p, 2) },
	)
}
