package contract_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/audit"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/user"
)

// out is a port that is out of order: each call fails, and is counted.
type out struct{ calls int }

func (o *out) fail() error { o.calls++; return errOops }

// TestACheckEndsWithItsFirstFailure holds that no step of a check runs after one that failed: it would tell of what
// the failure left behind, and change a store that somebody is about to look at.
func TestACheckEndsWithItsFirstFailure(t *testing.T) {
	endsWithItsFirstFailure(t, contract.MessageStore(), func(o *out) chat.MessageStore {
		return messages{
			append: func(context.Context, []chat.Message) ([]chat.Stored, error) { return nil, o.fail() },
			list:   func(context.Context, string, chat.Range) ([]chat.Message, error) { return nil, o.fail() },
			change: func(context.Context, []chat.Change) ([]chat.Changed, error) { return nil, o.fail() },
			bounds: func(context.Context, string) (chat.Bounds, error) { return chat.Bounds{}, o.fail() },
		}
	})
	endsWithItsFirstFailure(t, contract.Rooms(), func(o *out) chat.Rooms {
		return rooms{
			ensure: func(context.Context, chat.Room) (chat.Room, error) { return chat.Room{}, o.fail() },
			byName: func(context.Context, string) (chat.Room, error) { return chat.Room{}, o.fail() },
			list:   func(context.Context, string, int) ([]chat.Room, error) { return nil, o.fail() },
			update: func(context.Context, string, chat.By, func(*chat.Room, chat.Role) error) (chat.Room, error) {
				return chat.Room{}, o.fail()
			},
		}
	})
	endsWithItsFirstFailure(t, contract.Members(), func(o *out) chat.Members {
		return members{
			add:     func(context.Context, ...chat.Membership) ([]chat.Membership, error) { return nil, o.fail() },
			remove:  func(context.Context, string, user.ID) error { return o.fail() },
			has:     func(context.Context, string, user.ID) (bool, error) { return false, o.fail() },
			roomsOf: func(context.Context, user.ID, string, int) ([]chat.Membership, error) { return nil, o.fail() },
		}
	})
	endsWithItsFirstFailure(t, contract.Roles(), func(o *out) contract.RoomRoles {
		return contract.RoomRoles{
			Roles: roles{
				create: func(context.Context, chat.Room, ...chat.Membership) (chat.Room, error) { return chat.Room{}, o.fail() },
				of:     func(context.Context, ...chat.InRoom) ([]chat.Membership, error) { return nil, o.fail() },
				list:   func(context.Context, string, user.ID, int) ([]chat.Membership, error) { return nil, o.fail() },
				change: func(context.Context, chat.RoleChange, mayChange) (before, after chat.Membership, err error) {
					return chat.Membership{}, chat.Membership{}, o.fail()
				},
			},
			Rooms: rooms{
				ensure: func(context.Context, chat.Room) (chat.Room, error) { return chat.Room{}, o.fail() },
				byName: func(context.Context, string) (chat.Room, error) { return chat.Room{}, o.fail() },
				list:   func(context.Context, string, int) ([]chat.Room, error) { return nil, o.fail() },
				update: func(context.Context, string, chat.By, func(*chat.Room, chat.Role) error) (chat.Room, error) {
					return chat.Room{}, o.fail()
				},
			},
			Members: members{
				add:     func(context.Context, ...chat.Membership) ([]chat.Membership, error) { return nil, o.fail() },
				remove:  func(context.Context, string, user.ID) error { return o.fail() },
				has:     func(context.Context, string, user.ID) (bool, error) { return false, o.fail() },
				roomsOf: func(context.Context, user.ID, string, int) ([]chat.Membership, error) { return nil, o.fail() },
			},
			Marks: marks{
				mark: func(context.Context, []chat.Mark) ([]chat.Marked, error) { return nil, o.fail() },
				mine: func(context.Context, user.ID, chat.Place, int) ([]chat.MyRoom, error) { return nil, o.fail() },
			},
			Messages: messages{
				append: func(context.Context, []chat.Message) ([]chat.Stored, error) { return nil, o.fail() },
				list:   func(context.Context, string, chat.Range) ([]chat.Message, error) { return nil, o.fail() },
				change: func(context.Context, []chat.Change) ([]chat.Changed, error) { return nil, o.fail() },
				bounds: func(context.Context, string) (chat.Bounds, error) { return chat.Bounds{}, o.fail() },
			},
			Restrictions: outRestrictions(o),
		}
	})
	endsWithItsFirstFailure(t, contract.Marks(), outReading)
	endsWithItsFirstFailure(t, contract.Restrictions(), outRestrictions)
	endsWithItsFirstFailure(t, contract.Blocks(), func(o *out) chat.Blocks {
		return blocks{
			put:    func(context.Context, chat.Block, int) (chat.Block, error) { return chat.Block{}, o.fail() },
			remove: func(context.Context, ...chat.Pair) error { return o.fail() },
			among:  func(context.Context, ...chat.Pair) ([]chat.Block, error) { return nil, o.fail() },
			list:   func(context.Context, chat.Pair, user.ID, int) ([]chat.Block, error) { return nil, o.fail() },
		}
	})
	endsWithItsFirstFailure(t, contract.Settings(), func(o *out) chat.Settings {
		return userSettings{
			put:    func(context.Context, user.ID, chat.UserSettings) error { return o.fail() },
			of:     func(context.Context, ...user.ID) (map[user.ID]chat.UserSettings, error) { return nil, o.fail() },
			remove: func(context.Context, user.ID) error { return o.fail() },
		}
	})
	endsWithItsFirstFailure(t, contract.AuditLog(), func(o *out) audit.Log {
		return auditLog{
			append: func(context.Context, audit.Entry) error { return o.fail() },
			settle: func(context.Context, string, string) error { return o.fail() },
			list:   func(context.Context, string, int) ([]audit.Entry, error) { return nil, o.fail() },
			sweep:  func(context.Context, time.Time) (int, error) { return 0, o.fail() },
		}
	})
	endsWithItsFirstFailure(t, contract.Pruner(), func(o *out) contract.Pruning {
		r := outReading(o)
		return contract.Pruning{
			Pruner: pruner{
				aged:  func(context.Context, string, time.Time, int) (uint64, int, error) { return 0, 0, o.fail() },
				prune: func(context.Context, string, uint64) (int, error) { return 0, o.fail() },
				drop:  func(context.Context, string, int) (bool, error) { return true, o.fail() },
			},
			Messages: r.Messages, Members: r.Members, Marks: r.Marks,
			Rooms: rooms{
				ensure: func(context.Context, chat.Room) (chat.Room, error) { return chat.Room{}, o.fail() },
				byName: func(context.Context, string) (chat.Room, error) { return chat.Room{}, o.fail() },
				list:   func(context.Context, string, int) ([]chat.Room, error) { return nil, o.fail() },
			},
			Restrictions: restrictions{
				put:     func(context.Context, chat.Restriction) (chat.Restriction, error) { return chat.Restriction{}, o.fail() },
				inForce: func(context.Context, time.Time, ...chat.InRoom) ([]chat.Restriction, error) { return nil, o.fail() },
				list: func(context.Context, string, chat.RestrictionKind, time.Time, user.ID, int) ([]chat.Restriction, error) {
					return nil, o.fail()
				},
				since: func(context.Context, time.Time, int) ([]chat.Restriction, error) { return nil, o.fail() },
			},
		}
	})
	endsWithItsFirstFailure(t, contract.RecentCache(), func(o *out) chat.RecentCache {
		return cache{
			get:    func(context.Context, string) (chat.Recent, bool, error) { return chat.Recent{}, false, o.fail() },
			add:    func(context.Context, ...chat.Message) error { return o.fail() },
			change: func(context.Context, ...chat.Message) error { return o.fail() },
			fill:   func(context.Context, string, chat.Recent) error { return o.fail() },
		}
	})
	endsWithItsFirstFailure(t, contract.Presence(), func(o *out) realtime.Presence {
		return presence{
			enter: func(context.Context, time.Time, string, string, chat.Author) (bool, error) { return false, o.fail() },
			exit:  func(context.Context, time.Time, string, string, chat.Author) (bool, error) { return false, o.fail() },
			list: func(context.Context, time.Time, string, int) ([]chat.Author, int, error) {
				return nil, 0, o.fail()
			},
			renew: func(context.Context, realtime.Renewal) (realtime.Renewed, error) {
				return realtime.Renewed{}, o.fail()
			},
		}
	})
	endsWithItsFirstFailure(t, contract.UserRepository(), outUsers)
	endsWithItsFirstFailure(t, contract.Outbox(), outUsers)
	endsWithItsFirstFailure(t, contract.Directory(), func(o *out) contract.Listed {
		return contract.Listed{
			Repository: outUsers(o).Repository,
			Directory:  directory(func(context.Context, user.Filter) ([]user.User, error) { return nil, o.fail() }),
		}
	})
	endsWithItsFirstFailure(t, contract.Asides(), func(o *out) contract.SetAside {
		p := outUsers(o)
		return contract.SetAside{Repository: p.Repository, Outbox: p.Outbox, Asides: asides{
			list:    func(context.Context, event.Filter) ([]event.Aside, error) { return nil, o.fail() },
			get:     func(context.Context, string) (event.Aside, error) { return event.Aside{}, o.fail() },
			replay:  func(context.Context, string) error { return o.fail() },
			discard: func(context.Context, string) error { return o.fail() },
		}}
	})
	endsWithItsFirstFailure(t, contract.SessionStore(), func(o *out) contract.Sessions {
		return contract.Sessions{
			Store: sessions{
				create: func(context.Context, auth.Session, ...event.Event) error { return o.fail() },
				byID:   func(context.Context, string) (auth.Session, error) { return auth.Session{}, o.fail() },
				update: func(context.Context, string, func(*auth.Session) error, ...event.Event) (auth.Session, error) {
					return auth.Session{}, o.fail()
				},
				byUser:  func(context.Context, user.ID, time.Time, int) ([]auth.Session, error) { return nil, o.fail() },
				sweeper: outSweeper(o),
			},
			Outbox: outOutbox(o),
		}
	})
	endsWithItsFirstFailure(t, contract.CodeStore(), func(o *out) contract.Codes {
		return contract.Codes{
			Store: codes{
				put:     func(context.Context, auth.Code, ...event.Event) error { return o.fail() },
				use:     func(context.Context, string, time.Time) (auth.Code, error) { return auth.Code{}, o.fail() },
				sweeper: outSweeper(o),
			},
			Outbox: outOutbox(o),
		}
	})
	endsWithItsFirstFailure(t, contract.FactorStore(), func(o *out) contract.Factors {
		return contract.Factors{
			Store: factors{
				byUser: func(context.Context, user.ID) (auth.Factor, error) { return auth.Factor{}, o.fail() },
				update: func(context.Context, user.ID, func(*auth.Factor) error, ...event.Event) (auth.Factor, error) {
					return auth.Factor{}, o.fail()
				},
				deleteOf: func(context.Context, user.ID) (int, error) { return 0, o.fail() },
			},
			Outbox: outOutbox(o),
		}
	})
	endsWithItsFirstFailure(t, contract.SignUps(), func(o *out) contract.WaitingSignUps {
		return contract.WaitingSignUps{
			Store: signUps{
				create:  func(context.Context, auth.WaitingSignUp, int, ...event.Event) error { return o.fail() },
				byID:    func(context.Context, string) (auth.WaitingSignUp, error) { return auth.WaitingSignUp{}, o.fail() },
				byEmail: func(context.Context, user.Email) ([]auth.WaitingSignUp, error) { return nil, o.fail() },
				confirm: func(context.Context, string, time.Time) (auth.WaitingSignUp, error) {
					return auth.WaitingSignUp{}, o.fail()
				},
				sweeper: outSweeper(o),
			},
			Outbox: outOutbox(o),
		}
	})
	endsWithItsFirstFailure(t, contract.MailQueue(), outMails)
	endsWithItsFirstFailure(t, contract.DeadLetters(), outMails)
	endsWithItsFirstFailure(t, contract.MailStats(), outMails)
	endsWithItsFirstFailure(t, contract.Nonces(), func(o *out) auth.Nonces {
		return nonces(func(context.Context, string, time.Time) (bool, error) { return false, o.fail() })
	})
	endsWithItsFirstFailure(t, contract.Limiter(), func(o *out) auth.Limiter {
		return limiter(func(context.Context, string, auth.Rate, time.Time) (time.Duration, error) { return 0, o.fail() })
	})
}

func outUsers(o *out) contract.Users {
	return contract.Users{
		Repository: repository{
			create:  func(context.Context, user.User, ...event.Event) error { return o.fail() },
			byID:    func(context.Context, user.ID) (user.User, error) { return user.User{}, o.fail() },
			byEmail: func(context.Context, user.Email) (user.User, error) { return user.User{}, o.fail() },
			update: func(context.Context, user.ID, func(*user.User) error, ...event.Event) (user.User, error) {
				return user.User{}, o.fail()
			},
		},
		Outbox: outOutbox(o),
	}
}

func outOutbox(o *out) event.Outbox {
	return outbox{
		pending:   func(context.Context, int) ([]event.Event, error) { return nil, o.fail() },
		published: func(context.Context, ...string) error { return o.fail() },
		after:     func(context.Context, string, int) ([]event.Event, error) { return nil, o.fail() },
		setAside:  func(context.Context, string, string) error { return o.fail() },
	}
}

func outSweeper(o *out) sweeper {
	return sweeper(func(context.Context, time.Time) (int, error) { return 0, o.fail() })
}

func outMails(o *out) contract.Mails {
	return contract.Mails{
		Queue: queue{
			enqueue: func(context.Context, mail.Job) error { return o.fail() },
			claim: func(context.Context, time.Time, time.Duration) (mail.Job, bool, error) {
				return mail.Job{}, false, o.fail()
			},
			settle: func(context.Context, mail.Job, mail.Outcome) error { return o.fail() },
			prune:  func(context.Context, time.Time) (int, error) { return 0, o.fail() },
		},
		Letters: letters{
			list:    func(context.Context, mail.Filter) ([]mail.Job, error) { return nil, o.fail() },
			get:     func(context.Context, string) (mail.Job, error) { return mail.Job{}, o.fail() },
			requeue: func(context.Context, string, time.Time, []byte) error { return o.fail() },
			discard: func(context.Context, string) error { return o.fail() },
		},
		Stats: stats(func(context.Context) (map[mail.State]int, error) { return nil, o.fail() }),
	}
}

func endsWithItsFirstFailure[P any](t *testing.T, cases []contract.Case[P], open func(*out) P) {
	t.Helper()
	for _, c := range cases {
		if atOnce(c.Name) {
			continue
		}
		t.Run(c.Port+"/"+c.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := new(out)
				r := verify(t, c, func() (P, func()) { return open(o), nil }, nil)
				if r.Err == nil || o.calls != 1 {
					t.Errorf("the port fails at once, and was called %d times; the check returned: %v", o.calls, r.Err)
				}
			})
		})
	}
}

// atOnce tells the cases that call a port from many goroutines, or begin with a call that must fail.
func atOnce(name string) bool {
	for _, part := range []string{"concurrent", "one of several", "at once", "readers never", "an ended context"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

func outReading(o *out) contract.Reading {
	return contract.Reading{
		Marks: marks{
			mark: func(context.Context, []chat.Mark) ([]chat.Marked, error) { return nil, o.fail() },
			mine: func(context.Context, user.ID, chat.Place, int) ([]chat.MyRoom, error) { return nil, o.fail() },
		},
		Members: members{
			add:     func(context.Context, ...chat.Membership) ([]chat.Membership, error) { return nil, o.fail() },
			remove:  func(context.Context, string, user.ID) error { return o.fail() },
			has:     func(context.Context, string, user.ID) (bool, error) { return false, o.fail() },
			roomsOf: func(context.Context, user.ID, string, int) ([]chat.Membership, error) { return nil, o.fail() },
		},
		Messages: messages{
			append: func(context.Context, []chat.Message) ([]chat.Stored, error) { return nil, o.fail() },
			list:   func(context.Context, string, chat.Range) ([]chat.Message, error) { return nil, o.fail() },
			change: func(context.Context, []chat.Change) ([]chat.Changed, error) { return nil, o.fail() },
			bounds: func(context.Context, string) (chat.Bounds, error) { return chat.Bounds{}, o.fail() },
		},
	}
}

func outRestrictions(o *out) chat.Restrictions {
	return restrictions{
		put:     func(context.Context, chat.Restriction) (chat.Restriction, error) { return chat.Restriction{}, o.fail() },
		inForce: func(context.Context, time.Time, ...chat.InRoom) ([]chat.Restriction, error) { return nil, o.fail() },
		list: func(context.Context, string, chat.RestrictionKind, time.Time, user.ID, int) ([]chat.Restriction, error) {
			return nil, o.fail()
		},
		since: func(context.Context, time.Time, int) ([]chat.Restriction, error) { return nil, o.fail() },
	}
}
