package testkit_test

import (
	"context"
	"time"

	"github.com/parley-chat/parley/core/audit"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
)

// calls makes one call of each method that answers with an error, and succeeds by itself.
// What it returns besides is the call's other results.
var calls = map[string]func(ctx context.Context, p *ports) ([]any, error){
	"Users.Create": func(ctx context.Context, p *ports) ([]any, error) {
		return nil, p.users.Create(ctx, user.User{ID: "new"})
	},
	"Users.ByID": func(ctx context.Context, p *ports) ([]any, error) {
		u, err := p.users.ByID(ctx, "u")
		return []any{u}, err
	},
	"Users.ByEmail": func(ctx context.Context, p *ports) ([]any, error) {
		u, err := p.users.ByEmail(ctx, "ada@example.com")
		return []any{u}, err
	},
	"Users.Update": func(ctx context.Context, p *ports) ([]any, error) {
		u, err := p.users.Update(ctx, "u", func(*user.User) error { return nil })
		return []any{u}, err
	},
	"Publisher.Publish": func(ctx context.Context, p *ports) ([]any, error) {
		return nil, p.publisher.Publish(ctx, event.Event{ID: "e", Topic: "t", Type: "x.y"})
	},
	"Outbox.Pending": func(ctx context.Context, p *ports) ([]any, error) {
		es, err := p.outbox.Pending(ctx, 1)
		return []any{es}, err
	},
	"Outbox.PendingAfter": func(ctx context.Context, p *ports) ([]any, error) {
		es, err := p.outbox.PendingAfter(ctx, "e", 1)
		return []any{es}, err
	},
	"Asides.List": func(ctx context.Context, p *ports) ([]any, error) {
		events, err := p.asides.List(ctx, event.Filter{Limit: 1})
		return []any{events}, err
	},
	"Asides.Get": func(ctx context.Context, p *ports) ([]any, error) {
		x, err := p.asides.Get(ctx, "aside")
		return []any{x}, err
	},
	"Asides.Replay": func(ctx context.Context, p *ports) ([]any, error) {
		return nil, p.asides.Replay(ctx, "aside")
	},
	"Asides.Discard": func(ctx context.Context, p *ports) ([]any, error) {
		return nil, p.asides.Discard(ctx, "aside")
	},
	"Outbox.SetAside": func(ctx context.Context, p *ports) ([]any, error) {
		return nil, p.outbox.SetAside(ctx, "e", "reason")
	},
	"Outbox.Published": func(ctx context.Context, p *ports) ([]any, error) {
		return nil, p.outbox.Published(ctx, "e")
	},
	"Sender.Send": func(ctx context.Context, p *ports) ([]any, error) {
		return nil, p.sender.Send(ctx, mail.Message{})
	},
	"Queue.Enqueue": func(ctx context.Context, p *ports) ([]any, error) {
		return nil, p.queue.Enqueue(ctx, mail.Job{ID: "new", Key: "new"})
	},
	"Queue.Claim": func(ctx context.Context, p *ports) ([]any, error) {
		j, ok, err := p.queue.Claim(ctx, at, time.Minute)
		return []any{j, ok}, err
	},
	"Queue.Settle": func(ctx context.Context, p *ports) ([]any, error) {
		return nil, p.queue.Settle(ctx, p.claimed, mail.Outcome{State: mail.Sent})
	},
	"Queue.Prune": func(ctx context.Context, p *ports) ([]any, error) {
		_, err := p.queue.Prune(ctx, at)
		return nil, err
	},
	"DeadLetters.List": func(ctx context.Context, p *ports) ([]any, error) {
		js, err := p.deadLetters.List(ctx, mail.Filter{Limit: 1})
		return []any{js}, err
	},
	"DeadLetters.Get": func(ctx context.Context, p *ports) ([]any, error) {
		j, err := p.deadLetters.Get(ctx, "dead")
		return []any{j}, err
	},
	"DeadLetters.Requeue": func(ctx context.Context, p *ports) ([]any, error) {
		return nil, p.deadLetters.Requeue(ctx, "dead", at, nil)
	},
	"DeadLetters.Discard": func(ctx context.Context, p *ports) ([]any, error) {
		return nil, p.deadLetters.Discard(ctx, "dead")
	},
	"Stats.Stats": func(ctx context.Context, p *ports) ([]any, error) {
		counts, err := p.stats.Stats(ctx)
		return []any{counts}, err
	},
	"Hasher.Hash": func(ctx context.Context, p *ports) ([]any, error) {
		h, err := p.hasher.Hash(ctx, "password")
		return []any{h}, err
	},
	"Hasher.Verify": func(ctx context.Context, p *ports) ([]any, error) {
		ok, _, err := p.hasher.Verify(ctx, p.hash, "password")
		return []any{ok}, err
	},
	"Issuer.Issue": func(ctx context.Context, p *ports) ([]any, error) {
		token, err := p.issuer.Issue(ctx, auth.Claims{})
		return []any{token}, err
	},
	"Verifier.Verify": func(ctx context.Context, p *ports) ([]any, error) {
		c, err := p.verifier.Verify(ctx, p.token, auth.AudienceAPI)
		return []any{c}, err
	},
	"Sessions.Create": func(ctx context.Context, p *ports) ([]any, error) {
		return nil, p.sessions.Create(ctx, auth.Session{ID: "new"})
	},
	"Sessions.ByID": func(ctx context.Context, p *ports) ([]any, error) {
		s, err := p.sessions.ByID(ctx, "s")
		return []any{s}, err
	},
	"Sessions.Update": func(ctx context.Context, p *ports) ([]any, error) {
		s, err := p.sessions.Update(ctx, "s", func(*auth.Session) error { return nil })
		return []any{s}, err
	},
	"Sessions.ByUser": func(ctx context.Context, p *ports) ([]any, error) {
		ss, err := p.sessions.ByUser(ctx, "u", time.Time{}, 10)
		return []any{ss}, err
	},
	"Codes.Put": func(ctx context.Context, p *ports) ([]any, error) {
		return nil, p.codes.Put(ctx, auth.Code{Hash: "new"})
	},
	"Codes.Use": func(ctx context.Context, p *ports) ([]any, error) {
		c, err := p.codes.Use(ctx, "h", at)
		return []any{c}, err
	},
	"Factors.ByUser": func(ctx context.Context, p *ports) ([]any, error) {
		f, err := p.factors.ByUser(ctx, "u")
		return []any{f}, err
	},
	"Factors.Update": func(ctx context.Context, p *ports) ([]any, error) {
		f, err := p.factors.Update(ctx, "u", func(f *auth.Factor) error { f.LastStep++; return nil })
		return []any{f}, err
	},
	"Factors.DeleteOf": func(ctx context.Context, p *ports) ([]any, error) {
		_, err := p.factors.DeleteOf(ctx, "nobody")
		return nil, err
	},
	"SignUps.Create": func(ctx context.Context, p *ports) ([]any, error) {
		return nil, p.signUps.Create(ctx, auth.WaitingSignUp{ID: "new", Email: "ada@example.com"}, 5)
	},
	"SignUps.ByID": func(ctx context.Context, p *ports) ([]any, error) {
		w, err := p.signUps.ByID(ctx, "w")
		return []any{w}, err
	},
	"SignUps.ByEmail": func(ctx context.Context, p *ports) ([]any, error) {
		ws, err := p.signUps.ByEmail(ctx, "ada@example.com")
		return []any{ws}, err
	},
	"SignUps.Confirm": func(ctx context.Context, p *ports) ([]any, error) {
		w, err := p.signUps.Confirm(ctx, "w", at)
		return []any{w}, err
	},
	"Nonces.Spend": func(ctx context.Context, p *ports) ([]any, error) {
		first, err := p.nonces.Spend(ctx, "n", at)
		return []any{first}, err
	},
	"Limiter.Allow": func(ctx context.Context, p *ports) ([]any, error) {
		_, err := p.limiter.Allow(ctx, "k", auth.Rate{Burst: 1, Per: time.Second}, at)
		return nil, err
	},
	"Sessions.DeleteExpired": func(ctx context.Context, p *ports) ([]any, error) {
		_, err := p.sessions.DeleteExpired(ctx, at)
		return nil, err
	},
	"Codes.DeleteExpired": func(ctx context.Context, p *ports) ([]any, error) {
		_, err := p.codes.DeleteExpired(ctx, at)
		return nil, err
	},
	"SignUps.DeleteExpired": func(ctx context.Context, p *ports) ([]any, error) {
		_, err := p.signUps.DeleteExpired(ctx, at)
		return nil, err
	},
	"Sessions.DeleteOf": func(ctx context.Context, p *ports) ([]any, error) {
		_, err := p.sessions.DeleteOf(ctx, "nobody")
		return nil, err
	},
	"Codes.DeleteOf": func(ctx context.Context, p *ports) ([]any, error) {
		_, err := p.codes.DeleteOf(ctx, "nobody")
		return nil, err
	},
	"SignUps.DeleteOf": func(ctx context.Context, p *ports) ([]any, error) {
		_, err := p.signUps.DeleteOf(ctx, "nobody")
		return nil, err
	},
	"DeadLetters.DeleteTo": func(ctx context.Context, p *ports) ([]any, error) {
		_, err := p.deadLetters.DeleteTo(ctx, "nobody@example.com")
		return nil, err
	},
	"Nonces.DeleteExpired": func(ctx context.Context, p *ports) ([]any, error) {
		_, err := p.nonces.DeleteExpired(ctx, at)
		return nil, err
	},
	"Limiter.DeleteExpired": func(ctx context.Context, p *ports) ([]any, error) {
		_, err := p.limiter.DeleteExpired(ctx, at)
		return nil, err
	},
	"Sender.Check": func(ctx context.Context, p *ports) ([]any, error) { return nil, p.sender.Check(ctx) },
	"Messages.Append": func(ctx context.Context, p *ports) ([]any, error) {
		stored, err := p.messages.Append(ctx, []chat.Message{{Room: "r"}})
		return []any{stored}, err
	},
	"Messages.Change": func(ctx context.Context, p *ports) ([]any, error) {
		changed, err := p.messages.Change(ctx, []chat.Change{{Kind: chat.React, Room: "r", Seq: 1, Key: "k"}})
		return []any{changed}, err
	},
	"Messages.List": func(ctx context.Context, p *ports) ([]any, error) {
		ms, err := p.messages.List(ctx, "r", chat.Range{Limit: 1})
		return []any{ms}, err
	},
	"Messages.Bounds": func(ctx context.Context, p *ports) ([]any, error) {
		b, err := p.messages.Bounds(ctx, "r")
		return []any{b}, err
	},
	"Rooms.Ensure": func(ctx context.Context, p *ports) ([]any, error) {
		r, err := p.rooms.Ensure(ctx, chat.Room{Name: "new"})
		return []any{r}, err
	},
	"Rooms.ByName": func(ctx context.Context, p *ports) ([]any, error) {
		r, err := p.rooms.ByName(ctx, "r")
		return []any{r}, err
	},
	"Rooms.List": func(ctx context.Context, p *ports) ([]any, error) {
		rs, err := p.rooms.List(ctx, "", 1)
		return []any{rs}, err
	},
	"Members.Add": func(ctx context.Context, p *ports) ([]any, error) {
		ms, err := p.members.Add(ctx, chat.Membership{Room: "r", UserID: "u"})
		return []any{ms}, err
	},
	"Members.Remove": func(ctx context.Context, p *ports) ([]any, error) {
		return nil, p.members.Remove(ctx, "r", "u")
	},
	"Members.Has": func(ctx context.Context, p *ports) ([]any, error) {
		_, err := p.members.Has(ctx, "r", "u")
		return nil, err
	},
	"Marks.Mark": func(ctx context.Context, p *ports) ([]any, error) {
		answers, err := p.marks.Mark(ctx, []chat.Mark{{Room: "r", User: chat.Author{ID: "u"}}})
		return []any{answers}, err
	},
	"Marks.Mine": func(ctx context.Context, p *ports) ([]any, error) {
		rooms, err := p.marks.Mine(ctx, "u", chat.Place{}, 1)
		return []any{rooms}, err
	},
	"Pruner.Aged": func(ctx context.Context, p *ports) ([]any, error) {
		first, _, err := p.pruner.Aged(ctx, "r", time.Time{}, 1)
		return []any{first}, err
	},
	"Pruner.Prune": func(ctx context.Context, p *ports) ([]any, error) {
		_, err := p.pruner.Prune(ctx, "r", 1)
		return nil, err
	},
	"Pruner.Drop": func(ctx context.Context, p *ports) ([]any, error) {
		_, err := p.pruner.Drop(ctx, "other", 1)
		return nil, err
	},
	"Restrictions.Put": func(ctx context.Context, p *ports) ([]any, error) {
		r, err := p.restrictions.Put(ctx, chat.Restriction{Room: "r", UserID: "u", Kind: chat.Ban}, nil)
		return []any{r}, err
	},
	"Restrictions.InForce": func(ctx context.Context, p *ports) ([]any, error) {
		all, err := p.restrictions.InForce(ctx, time.Time{}, chat.InRoom{Room: "r", UserID: "u"})
		return []any{all}, err
	},
	"Restrictions.List": func(ctx context.Context, p *ports) ([]any, error) {
		all, err := p.restrictions.List(ctx, "r", chat.Ban, time.Time{}, "", 1)
		return []any{all}, err
	},
	"Restrictions.Since": func(ctx context.Context, p *ports) ([]any, error) {
		all, err := p.restrictions.Since(ctx, time.Time{}, 1)
		return []any{all}, err
	},
	"Rooms.Update": func(ctx context.Context, p *ports) ([]any, error) {
		r, err := p.rooms.Update(ctx, "r", chat.By{}, func(r *chat.Room, _ chat.Role) error { r.Title = "T"; return nil })
		return []any{r}, err
	},
	"Roles.Create": func(ctx context.Context, p *ports) ([]any, error) {
		r, err := p.roles.Create(ctx, chat.Room{Name: "made"}, chat.Membership{UserID: "u", Since: at, Role: chat.Owner})
		return []any{r}, err
	},
	"Roles.Of": func(ctx context.Context, p *ports) ([]any, error) {
		all, err := p.roles.Of(ctx, chat.InRoom{Room: "r", UserID: "u"})
		return []any{all}, err
	},
	"Roles.List": func(ctx context.Context, p *ports) ([]any, error) {
		all, err := p.roles.List(ctx, "r", "", 1)
		return []any{all}, err
	},
	"Roles.Change": func(ctx context.Context, p *ports) ([]any, error) {
		before, after, err := p.roles.Change(ctx, chat.RoleChange{Room: "r", User: "u", Role: chat.Reader, By: "v", At: at}, func(chat.Room, chat.Role, chat.Role, int) error { return nil })
		return []any{before, after}, err
	},
	"Blocks.Put": func(ctx context.Context, p *ports) ([]any, error) {
		b, err := p.blocks.Put(ctx, chat.Block{Pair: chat.Pair{By: "u", Whom: "v"}}, 1)
		return []any{b}, err
	},
	"Blocks.Remove": func(ctx context.Context, p *ports) ([]any, error) {
		return nil, p.blocks.Remove(ctx, chat.Pair{By: "u", Whom: "v"})
	},
	"Blocks.Among": func(ctx context.Context, p *ports) ([]any, error) {
		all, err := p.blocks.Among(ctx, chat.Pair{By: "u", Whom: "v"})
		return []any{all}, err
	},
	"Blocks.List": func(ctx context.Context, p *ports) ([]any, error) {
		all, err := p.blocks.List(ctx, chat.Pair{By: "u"}, "", 1)
		return []any{all}, err
	},
	"Audit.Append": func(ctx context.Context, p *ports) ([]any, error) {
		return nil, p.audit.Append(ctx, audit.Entry{ID: event.NewID()})
	},
	"Audit.Settle": func(ctx context.Context, p *ports) ([]any, error) { return nil, p.audit.Settle(ctx, "entry", "done") },
	"Audit.List": func(ctx context.Context, p *ports) ([]any, error) {
		all, err := p.audit.List(ctx, "", 1)
		return []any{all}, err
	},
	"Audit.DeleteExpired": func(ctx context.Context, p *ports) ([]any, error) {
		_, err := p.audit.DeleteExpired(ctx, at)
		return nil, err
	},
	"Directory.List": func(ctx context.Context, p *ports) ([]any, error) {
		all, err := p.directory.List(ctx, user.Filter{Limit: 1})
		return []any{all}, err
	},
	"Settings.Put": func(ctx context.Context, p *ports) ([]any, error) {
		return nil, p.settings.Put(ctx, "u", chat.UserSettings{HidesRead: true})
	},
	"Settings.Of": func(ctx context.Context, p *ports) ([]any, error) {
		all, err := p.settings.Of(ctx, "u")
		return []any{all}, err
	},
	"Settings.Remove": func(ctx context.Context, p *ports) ([]any, error) {
		return nil, p.settings.Remove(ctx, "u")
	},
	"Members.RoomsOf": func(ctx context.Context, p *ports) ([]any, error) {
		ms, err := p.members.RoomsOf(ctx, "u", "", 1)
		return []any{ms}, err
	},
	"Cache.Get": func(ctx context.Context, p *ports) ([]any, error) {
		ms, held, err := p.cache.Get(ctx, "r")
		return []any{ms, held}, err
	},
	"Cache.Add": func(ctx context.Context, p *ports) ([]any, error) {
		return nil, p.cache.Add(ctx, chat.Message{Room: "r", Seq: 1})
	},
	"Cache.Change": func(ctx context.Context, p *ports) ([]any, error) {
		return nil, p.cache.Change(ctx, chat.Message{Room: "r", Seq: 1, Rev: 1})
	},
	"Cache.Fill": func(ctx context.Context, p *ports) ([]any, error) {
		return nil, p.cache.Fill(ctx, "r", chat.Recent{Messages: []chat.Message{{Room: "r", Seq: 1}}})
	},
	"Access.May": func(ctx context.Context, p *ports) ([]any, error) {
		return nil, p.access.May(ctx, chat.Author{}, chat.ActionJoin, "r")
	},
	"Fanout.Publish": func(ctx context.Context, p *ports) ([]any, error) {
		return nil, p.fanout.Publish(ctx, realtime.Signal{Room: "r"})
	},
	"Fanout.Follow": func(ctx context.Context, p *ports) ([]any, error) {
		return nil, p.fanout.Follow(ctx, "r")
	},
	"Fanout.Unfollow": func(ctx context.Context, p *ports) ([]any, error) {
		return nil, p.fanout.Unfollow(ctx, "r")
	},
	"Presence.Enter": func(ctx context.Context, p *ports) ([]any, error) {
		first, err := p.presence.Enter(ctx, at, "n", "r", chat.Author{ID: "u"})
		return []any{first}, err
	},
	"Presence.Exit": func(ctx context.Context, p *ports) ([]any, error) {
		_, err := p.presence.Exit(ctx, at, "n", "r", chat.Author{ID: "u"})
		return nil, err
	},
	"Presence.List": func(ctx context.Context, p *ports) ([]any, error) {
		us, _, err := p.presence.List(ctx, at, "r", 1)
		return []any{us}, err
	},
	"Presence.Renew": func(ctx context.Context, p *ports) ([]any, error) {
		_, err := p.presence.Renew(ctx, realtime.Renewal{Node: "n", Until: at})
		return nil, err
	},
	"Authenticator.Token": func(ctx context.Context, p *ports) ([]any, error) {
		who, err := p.authenticator.Token(ctx, "token")
		return []any{who}, err
	},
	"Authenticator.Ticket": func(ctx context.Context, p *ports) ([]any, error) {
		who, err := p.authenticator.Ticket(ctx, "ticket")
		return []any{who}, err
	},
	"Conn.Send": func(_ context.Context, p *ports) ([]any, error) {
		return nil, p.conn.Send(socket.NewFrame(func(dst []byte) []byte { return dst }))
	},
	"Check.Probe": func(ctx context.Context, p *ports) ([]any, error) {
		details, err := p.check.Probe(ctx)
		return []any{details}, err
	},
}

// elsewhere are the methods without such a call. They have tests of their own.
var elsewhere = []string{"Conn.Close", "Fanout.Deliver", "Fanout.Run", "Subscriber.Handle", "Subscriber.Subscribe"}
