package parley

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
	"github.com/parley-chat/parley/core/webhook"
)

// UserErasure is what erasing a user has removed. What the part does not keep is nil.
type UserErasure struct {
	UserID  user.ID
	Account *auth.Erasure
	Mails   *MailErasure
	Author  *chat.AuthorErasure
}

// MailErasure is how many mails to a user were removed.
type MailErasure struct {
	// Jobs were on the queue, dead letters among them. Events had been set aside because they can never be published.
	Jobs, Events int
}

// EraseUser erases an account, of the user with this ID or else e-mail address, and the events about their mails that were set aside: see
// [auth.Service.Erase]. Mailers forget the user as soon as they hear of it. Erasing again is harmless, and removes what is left. It
// returns user.ErrNotFound if there never was such a user.
func (p *Accounts) EraseUser(ctx context.Context, idOrEmail string) (UserErasure, error) {
	u, err := p.Auth.Find(ctx, idOrEmail)
	if err != nil {
		return UserErasure{}, err
	}
	done := UserErasure{UserID: u.ID, Mails: &MailErasure{}}
	account, err := p.Auth.Erase(ctx, u.ID)
	if err != nil {
		return UserErasure{}, err
	}
	done.Account = &account
	if done.Mails.Events, err = p.discardEvents(ctx, mail.Topic, u.ID); err == nil {
		_, err = p.discardEvents(ctx, webhook.Topic, u.ID)
	}
	return done, err
}

// discardEvents removes the events about a user's mails, or deliveries, that were set aside.
func (p *Accounts) discardEvents(ctx context.Context, topic string, id user.ID) (n int, err error) {
	f := event.Filter{Topic: topic, Key: string(id), Limit: 100}
	for {
		page, err := p.Asides.List(ctx, f)
		if err != nil {
			return n, err
		}
		for _, e := range page {
			f.After = e.Event.ID
			if e.Event.Type == mail.TypeUserErased || e.Event.Type == webhook.UserErased {
				continue // once it can be published, mailers forget the user
			}
			switch err := p.Asides.Discard(ctx, e.Event.ID); {
			case err == nil:
				n++
			case !errors.Is(err, event.ErrNotAside): // somebody else was quicker
				return n, err
			}
		}
		if len(page) < f.Limit {
			return n, nil
		}
	}
}

// EraseUser erases what a user has left in rooms: see [chat.Service.EraseAuthor]. The connections of the user are taken out of their rooms.
// It begins Config.EraseAfter after it was called, so that what was ended before has ended. Erase the account first, where there is one: else the
// user goes on. Nobody is asked whether there is such a user.
func (p *Node) EraseUser(ctx context.Context, id string) (UserErasure, error) {
	begin := time.NewTimer(p.eraseAfter)
	defer begin.Stop()
	select {
	case <-begin.C:
	case <-ctx.Done():
		return UserErasure{}, fault.Wrap(fault.Unavailable, ctx.Err())
	}
	author, err := p.Chat.EraseAuthor(ctx, user.ID(id), func(ctx context.Context, room string) error { return p.Remove(ctx, room, user.ID(id)) })
	if err != nil {
		return UserErasure{}, fmt.Errorf("parley: erasing what a user has said: %w", err)
	}
	p.log.Info("what a user has said was erased", "user", id, "memberships", author.Memberships, "messages", author.Messages, "reactions", author.Reactions, "blocks", author.Blocks)
	return UserErasure{UserID: user.ID(id), Author: &author}, nil
}

// EraseUser erases a user, by ID or else by e-mail address, in this order: the account, in one commit that ends all sessions, frees the address and
// lets mailers forget it; sessions, codes and sign-ups; mails; and then what the user has left in rooms, until there is nothing. Whatever stops it on the way: erasing
// again goes on, by the ID. It returns user.ErrNotFound if there never was such a user.
func (s *System) EraseUser(ctx context.Context, idOrEmail string) (UserErasure, error) {
	u, err := s.Auth.Find(ctx, idOrEmail)
	if err != nil {
		return UserErasure{}, err
	}
	jobs := 0
	if !u.Erased() {
		if jobs, err = s.DeadLetters.Forget(ctx, u.Email); err != nil {
			return UserErasure{}, err
		}
	}
	done, err := s.Accounts.EraseUser(ctx, string(u.ID))
	if err != nil {
		return UserErasure{}, err
	}
	if !u.Erased() { // what was enqueued meanwhile
		more, err := s.DeadLetters.Forget(ctx, u.Email)
		if err != nil {
			return UserErasure{}, err
		}
		jobs += more
	}
	done.Mails.Jobs = jobs
	said, err := s.Node.EraseUser(ctx, string(u.ID))
	done.Author = said.Author
	return done, err
}
