package contract_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

func userFaults() []broken[contract.Users] {
	breaks := func(f func(user.Repository) repository) func(contract.Users) contract.Users {
		return func(p contract.Users) contract.Users {
			r := f(p.Repository)
			r.Repository, p.Repository = p.Repository, r
			return p
		}
	}
	// keeping stores users as change makes them.
	keeping := func(change func(*user.User)) func(contract.Users) contract.Users {
		return breaks(func(r user.Repository) repository {
			return repository{
				create: func(ctx context.Context, u user.User, events ...event.Event) error {
					change(&u)
					return r.Create(ctx, u, events...)
				},
				update: func(ctx context.Context, id user.ID, edit func(*user.User) error, events ...event.Event) (user.User, error) {
					return r.Update(ctx, id, func(u *user.User) error {
						err := edit(u)
						change(u)
						return err
					}, events...)
				},
			}
		})
	}
	// clinging does not take away what a user had.
	clinging := func(cling func(before user.User, u *user.User)) func(contract.Users) contract.Users {
		return breaks(func(r user.Repository) repository {
			return repository{update: func(ctx context.Context, id user.ID, edit func(*user.User) error, events ...event.Event) (user.User, error) {
				return r.Update(ctx, id, func(u *user.User) error {
					before := *u
					err := edit(u)
					cling(before, u)
					return err
				}, events...)
			}}
		})
	}
	return []broken[contract.Users]{
		{"languages are not kept", "what users say of themselves is stored", keeping(func(u *user.User) { u.Language = "" })},
		{"languages lose their letter case", "what users say of themselves is stored", keeping(func(u *user.User) { u.Language = lower(u.Language) })},
		{"avatars are not kept", "what users say of themselves is stored", keeping(func(u *user.User) { u.AvatarURL = "" })},
		{"avatars lose what is behind the path", "what users say of themselves is stored", keeping(func(u *user.User) { u.AvatarURL, _, _ = strings.Cut(u.AvatarURL, "?") })},
		{"addresses that are wanted are not kept", "what users say of themselves is stored", keeping(func(u *user.User) { u.NewEmail = "" })},
		{"codes of addresses are not kept", "what users say of themselves is stored", keeping(func(u *user.User) { u.NewEmailCode = "" })},
		{"a language cannot be taken away", "what users say of themselves is stored", clinging(func(before user.User, u *user.User) { u.Language = cmp.Or(u.Language, before.Language) })},
		{"an avatar cannot be taken away", "what users say of themselves is stored", clinging(func(before user.User, u *user.User) { u.AvatarURL = cmp.Or(u.AvatarURL, before.AvatarURL) })},
		{"an address stays wanted", "what users say of themselves is stored", clinging(func(before user.User, u *user.User) { u.NewEmail = cmp.Or(u.NewEmail, before.NewEmail) })},
		{"long avatars are cut", "long and foreign values are kept", keeping(func(u *user.User) { u.AvatarURL = u.AvatarURL[:min(len(u.AvatarURL), 1000)] })},
		{"an address that is wanted counts as taken", "an address that is wanted is nobody's", func(p contract.Users) contract.Users {
			r, wanted := p.Repository, map[user.Email]bool{}
			p.Repository = repository{Repository: r, create: func(ctx context.Context, u user.User, events ...event.Event) error {
				if wanted[u.Email] {
					return user.ErrEmailTaken
				}
				wanted[u.NewEmail] = true
				return r.Create(ctx, u, events...)
			}}
			return p
		}},
		{"an address that is wanted finds who wants it", "an address that is wanted is nobody's", breaks(func(r user.Repository) repository {
			return repository{byEmail: func(ctx context.Context, email user.Email) (user.User, error) {
				u, err := r.ByEmail(ctx, email)
				if errors.Is(err, user.ErrNotFound) && email == "zoe03@example.com" {
					return r.ByID(ctx, "user-01")
				}
				return u, err
			}}
		})},
		{"a failed change is stored", "a failed change stores nothing", breaks(func(r user.Repository) repository {
			return repository{update: func(ctx context.Context, id user.ID, change func(*user.User) error, events ...event.Event) (u user.User, err error) {
				var refused error
				u, err = r.Update(ctx, id, func(u *user.User) error { refused = change(u); return nil }, events...)
				return u, errors.Join(refused, err)
			}}
		})},
		{"an error of change is wrapped", "a failed change stores nothing", breaks(func(r user.Repository) repository {
			return repository{update: func(ctx context.Context, id user.ID, change func(*user.User) error, events ...event.Event) (user.User, error) {
				u, err := r.Update(ctx, id, change, events...)
				if err != nil {
					err = fmt.Errorf("update: %w", err)
				}
				return u, err
			}}
		})},
		{"addresses are not unique", "a taken address is refused", breaks(func(r user.Repository) repository {
			return repository{create: func(ctx context.Context, u user.User, events ...event.Event) error {
				if err := r.Create(ctx, u, events...); !errors.Is(err, user.ErrEmailTaken) {
					return err
				}
				return nil
			}}
		})},
		{"a taken address is another error", "a taken address is refused", breaks(func(r user.Repository) repository {
			return repository{create: func(ctx context.Context, u user.User, events ...event.Event) error {
				if r.Create(ctx, u, events...) != nil {
					return errOops
				}
				return nil
			}}
		})},
		{"a taken id replaces the user", "a taken id is refused", breaks(func(r user.Repository) repository {
			return repository{create: func(ctx context.Context, u user.User, events ...event.Event) error {
				err := r.Create(ctx, u, events...)
				if errors.Is(err, fault.Conflict) && !errors.Is(err, user.ErrEmailTaken) {
					_, err = r.Update(ctx, u.ID, func(old *user.User) error { *old = u; return nil })
				}
				return err
			}}
		})},
		{"several creates win", "one of several creates wins", breaks(func(r user.Repository) repository {
			return repository{create: func(ctx context.Context, u user.User, events ...event.Event) error {
				_ = r.Create(ctx, u, events...)
				return nil
			}}
		})},
		{"no create wins", "one of several creates wins", breaks(func(user.Repository) repository {
			return repository{create: func(context.Context, user.User, ...event.Event) error { return user.ErrEmailTaken }}
		})},
		{"events of a create are lost", "create stores its events", breaks(func(r user.Repository) repository {
			return repository{create: func(ctx context.Context, u user.User, _ ...event.Event) error { return r.Create(ctx, u) }}
		})},
		{"events of a create are turned round", "create stores its events", breaks(func(r user.Repository) repository {
			return repository{create: func(ctx context.Context, u user.User, events ...event.Event) error {
				events = slices.Clone(events)
				slices.Reverse(events)
				return r.Create(ctx, u, events...)
			}}
		})},
		{"events of a refused create are stored", "a refused create stores no event", breaks(func(r user.Repository) repository {
			return repository{create: func(ctx context.Context, u user.User, events ...event.Event) error {
				err := r.Create(ctx, u, events...)
				if errors.Is(err, fault.Conflict) {
					return errors.Join(err, r.Create(ctx, user.User{ID: "hidden" + u.ID, Email: "hidden" + u.Email}, events...))
				}
				return err
			}}
		})},
		{"events of an update are lost", "update stores its events", breaks(func(r user.Repository) repository {
			return repository{update: func(ctx context.Context, id user.ID, change func(*user.User) error, _ ...event.Event) (user.User, error) {
				return r.Update(ctx, id, change)
			}}
		})},
		{"concurrent updates are lost", "concurrent updates are not lost", breaks(func(r user.Repository) repository {
			return repository{update: func(ctx context.Context, id user.ID, change func(*user.User) error, events ...event.Event) (user.User, error) {
				u, err := r.ByID(ctx, id)
				if err != nil {
					return u, err
				}
				time.Sleep(time.Millisecond) // in the bubble's time
				if err := change(&u); err != nil {
					return u, err
				}
				return r.Update(ctx, id, func(stored *user.User) error { *stored = u; return nil }, events...)
			}}
		})},
		{"times lose their microseconds", "a created user is read back", breaks(func(r user.Repository) repository {
			return repository{byID: func(ctx context.Context, id user.ID) (user.User, error) {
				u, err := r.ByID(ctx, id)
				u.CreatedAt = u.CreatedAt.Truncate(time.Millisecond)
				return u, err
			}}
		})},
		{"times come back in another zone", "a created user is read back", breaks(func(r user.Repository) repository {
			return repository{byID: func(ctx context.Context, id user.ID) (user.User, error) {
				u, err := r.ByID(ctx, id)
				u.CreatedAt = u.CreatedAt.In(time.FixedZone("", 3600))
				return u, err
			}}
		})},
		{"no time comes back as a time", "an unverified user stays unverified", breaks(func(r user.Repository) repository {
			return repository{byID: func(ctx context.Context, id user.ID) (user.User, error) {
				u, err := r.ByID(ctx, id)
				if u.VerifiedAt.IsZero() {
					u.VerifiedAt = time.Unix(0, 0).UTC()
				}
				return u, err
			}}
		})},
		{"an unknown user is an empty one", "an unknown user is not found", breaks(func(r user.Repository) repository {
			return repository{byID: func(ctx context.Context, id user.ID) (user.User, error) {
				u, err := r.ByID(ctx, id)
				if errors.Is(err, user.ErrNotFound) {
					err = nil
				}
				return u, err
			}}
		})},
		{"ids are folded", "identifiers are exact", breaks(func(r user.Repository) repository {
			return repository{create: func(ctx context.Context, u user.User, events ...event.Event) error {
				u.ID = user.ID(lower(string(u.ID)))
				return r.Create(ctx, u, events...)
			}}
		})},
		{"names are cut", "long and foreign values are kept", breaks(func(r user.Repository) repository {
			return repository{create: func(ctx context.Context, u user.User, events ...event.Event) error {
				u.FullName = u.FullName[:min(len(u.FullName), 255)]
				return r.Create(ctx, u, events...)
			}}
		})},
		{"an update creates", "update of an unknown user is not found", breaks(func(r user.Repository) repository {
			return repository{update: func(ctx context.Context, id user.ID, change func(*user.User) error, events ...event.Event) (user.User, error) {
				u, err := r.Update(ctx, id, change, events...)
				if errors.Is(err, user.ErrNotFound) {
					u = user.User{ID: id}
					err = errors.Join(change(&u), r.Create(ctx, u, events...))
				}
				return u, err
			}}
		})},
		{"an update returns the old user", "update stores what change did", breaks(func(r user.Repository) repository {
			return repository{update: func(ctx context.Context, id user.ID, change func(*user.User) error, events ...event.Event) (user.User, error) {
				old, _ := r.ByID(ctx, id)
				_, err := r.Update(ctx, id, change, events...)
				return old, err
			}}
		})},
		{"an update forgets to clear", "update clears a time", breaks(func(r user.Repository) repository {
			return repository{update: func(ctx context.Context, id user.ID, change func(*user.User) error, events ...event.Event) (user.User, error) {
				return r.Update(ctx, id, func(u *user.User) error {
					was := u.VerifiedAt
					err := change(u)
					if u.VerifiedAt.IsZero() {
						u.VerifiedAt = was
					}
					return err
				}, events...)
			}}
		})},
		{"an update takes a taken address", "an update to a taken address is refused", breaks(func(r user.Repository) repository {
			return repository{update: func(ctx context.Context, id user.ID, change func(*user.User) error, events ...event.Event) (user.User, error) {
				u, err := r.Update(ctx, id, change, events...)
				if errors.Is(err, user.ErrEmailTaken) {
					return u, nil
				}
				return u, err
			}}
		})},
		{"an old address stays", "a changed address is found and the old one is free", breaks(func(r user.Repository) repository {
			return repository{byEmail: func(ctx context.Context, email user.Email) (user.User, error) {
				u, err := r.ByEmail(ctx, email)
				if err != nil {
					return r.ByID(ctx, "user-01")
				}
				return u, err
			}}
		})},
		{"an ended context stores all the same", "an ended context stores nothing", breaks(func(r user.Repository) repository {
			return repository{create: func(ctx context.Context, u user.User, events ...event.Event) error {
				return errors.Join(r.Create(context.WithoutCancel(ctx), u, events...), ctx.Err())
			}}
		})},
	}
}

func outboxFaults() []broken[contract.Users] {
	breaks := func(f func(event.Outbox) outbox) func(contract.Users) contract.Users {
		return func(p contract.Users) contract.Users {
			o := f(p.Outbox)
			o.Outbox, p.Outbox = p.Outbox, o
			return p
		}
	}
	pending := func(change func(events []event.Event, limit int) []event.Event) func(contract.Users) contract.Users {
		return breaks(func(o event.Outbox) outbox {
			return outbox{pending: func(ctx context.Context, limit int) ([]event.Event, error) {
				events, err := o.Pending(ctx, 1<<20)
				return change(events, limit), err
			}}
		})
	}
	after := func(page func(events []event.Event, at, limit int) []event.Event) func(contract.Users) contract.Users {
		return breaks(func(o event.Outbox) outbox {
			return outbox{after: func(ctx context.Context, id string, limit int) ([]event.Event, error) {
				events, err := o.Pending(ctx, 1<<20)
				at := slices.IndexFunc(events, func(e event.Event) bool { return e.ID == id })
				return page(events, at, limit), err
			}}
		})
	}
	return []broken[contract.Users]{
		{"the order is of ids", "pending events come in the order of commit", pending(func(events []event.Event, limit int) []event.Event {
			slices.SortFunc(events, func(a, b event.Event) int { return strings.Compare(a.ID, b.ID) })
			return events[:min(limit, len(events))]
		})},
		{"the order is of times", "pending events come in the order of commit", pending(func(events []event.Event, limit int) []event.Event {
			slices.SortFunc(events, func(a, b event.Event) int { return a.Time.Compare(b.Time) })
			return events[:min(limit, len(events))]
		})},
		{"the limit is ignored", "pending returns at most limit", pending(func(events []event.Event, _ int) []event.Event { return events })},
		{"a limit below 1 is an error", "pending returns at most limit", breaks(func(o event.Outbox) outbox {
			return outbox{pending: func(ctx context.Context, limit int) ([]event.Event, error) {
				if limit < 1 {
					return nil, fault.Invalid
				}
				return o.Pending(ctx, limit)
			}}
		})},
		{"the newest come first", "published page by page, every event comes once", pending(func(events []event.Event, limit int) []event.Event {
			return events[max(0, len(events)-limit):]
		})},
		{"keys are lost", "pending events are whole", pending(func(events []event.Event, limit int) []event.Event {
			for i := range events {
				events[i].Key = "key"
			}
			return events[:min(limit, len(events))]
		})},
		{"pending takes away", "pending takes nothing away", breaks(func(o event.Outbox) outbox {
			return outbox{pending: func(ctx context.Context, limit int) ([]event.Event, error) {
				events, err := o.Pending(ctx, limit)
				for _, e := range events {
					err = errors.Join(err, o.Published(ctx, e.ID))
				}
				return events, err
			}}
		})},
		{"marks are forgotten", "published events are not pending", breaks(func(event.Outbox) outbox {
			return outbox{published: func(context.Context, ...string) error { return nil }}
		})},
		{"a mark takes all before it", "published events are not pending", breaks(func(o event.Outbox) outbox {
			return outbox{published: func(ctx context.Context, ids ...string) error {
				events, err := o.Pending(ctx, 1<<20)
				for _, id := range ids {
					for i, e := range events {
						if e.ID == id {
							for _, before := range events[:i+1] {
								err = errors.Join(err, o.Published(ctx, before.ID))
							}
						}
					}
				}
				return err
			}}
		})},
		{"an unknown mark is an error", "unknown and repeated marks are ignored", breaks(func(o event.Outbox) outbox {
			return outbox{published: func(ctx context.Context, ids ...string) error {
				if slices.Contains(ids, "unknown") {
					return fault.NotFound
				}
				return o.Published(ctx, ids...)
			}}
		})},
		{"after begins with the event itself", "pending after an event begins behind it", after(func(events []event.Event, at, limit int) []event.Event {
			return events[max(0, at):min(len(events), max(0, at)+limit)]
		})},
		{"after ignores the limit", "pending after an event begins behind it", after(func(events []event.Event, at, _ int) []event.Event { return events[at+1:] })},
		{"after the unknown there is nothing", "pending after what is not pending begins at the oldest", after(func(events []event.Event, at, limit int) []event.Event {
			if at < 0 {
				return nil
			}
			return events[at+1 : min(len(events), at+1+limit)]
		})},
		{"after skips what was changed before", "pending after an event shows later events of earlier changes' things", after(func(events []event.Event, at, limit int) []event.Event {
			rest := slices.DeleteFunc(slices.Clone(events[at+1:]), func(e event.Event) bool { return e.ID == "event-0006" || e.ID == "event-0007" })
			return rest[:min(limit, len(rest))]
		})},
		{"after takes pages, not events", "looked past page by page, every event comes once", after(func(events []event.Event, at, limit int) []event.Event {
			from := min(len(events), (at+1+limit)/limit*limit)
			return events[from:min(len(events), from+limit)]
		})},
		{"what is set aside stays", "what is set aside is not pending", breaks(func(event.Outbox) outbox {
			return outbox{setAside: func(context.Context, string, string) error { return nil }}
		})},
		{"the oldest is set aside", "what is set aside is not pending", breaks(func(o event.Outbox) outbox {
			return outbox{setAside: func(ctx context.Context, _, reason string) error {
				events, err := o.Pending(ctx, 1)
				if len(events) > 0 {
					err = errors.Join(err, o.SetAside(ctx, events[0].ID, reason))
				}
				return err
			}}
		})},
		{"setting aside the unknown is an error", "setting aside what is not there is ignored", breaks(func(o event.Outbox) outbox {
			return outbox{setAside: func(ctx context.Context, id, reason string) error {
				if id == "unknown" {
					return fault.NotFound
				}
				return o.SetAside(ctx, id, reason)
			}}
		})},
		{"long reasons are refused", "any reason can be kept", breaks(func(o event.Outbox) outbox {
			return outbox{setAside: func(ctx context.Context, id, reason string) error {
				if len(reason) > 1024 {
					return fault.Invalid
				}
				return o.SetAside(ctx, id, reason)
			}}
		})},
		{"data is shared", "pending events are copies", func(p contract.Users) contract.Users {
			var mu sync.Mutex
			kept := map[string][]byte{}
			under := p
			p.Repository = repository{Repository: under.Repository, create: func(ctx context.Context, u user.User, events ...event.Event) error {
				mu.Lock()
				defer mu.Unlock()
				for _, e := range events {
					kept[e.ID] = e.Data
				}
				return under.Repository.Create(ctx, u, events...)
			}}
			p.Outbox = outbox{Outbox: under.Outbox, pending: func(ctx context.Context, limit int) ([]event.Event, error) {
				mu.Lock()
				defer mu.Unlock()
				events, err := under.Outbox.Pending(ctx, limit)
				for i := range events {
					events[i].Data = kept[events[i].ID]
				}
				return events, err
			}}
			return p
		}},
	}
}
