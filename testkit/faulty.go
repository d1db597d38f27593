package testkit

import (
	"context"
	"maps"
	"slices"

	"github.com/parley-chat/parley/core/health"
)

// What methods stand, by what their ports promise.
const (
	once       = delays | fails | losesAnswer | hangs
	repeatable = once | duplicates // the port says that twice does what once does
	lossy      = once | drops      // the port says that it may come to nothing
)

// methods lists every method that a plan can name. It is never changed.
var methods = map[string]kind{
	"Users.Create":  once,
	"Users.ByID":    repeatable,
	"Users.ByEmail": repeatable,
	"Users.Update":  once,

	"Publisher.Publish":    repeatable,
	"Subscriber.Subscribe": delays | fails | hangs,
	"Subscriber.Handle":    repeatable,
	"Outbox.Pending":       repeatable,
	"Outbox.PendingAfter":  repeatable,
	"Outbox.Published":     repeatable,
	"Outbox.SetAside":      repeatable,
	"Asides.List":          repeatable,
	"Asides.Get":           repeatable,
	"Asides.Replay":        once,
	"Asides.Discard":       once,

	"Sender.Send":          repeatable,
	"Sender.Check":         repeatable,
	"Queue.Enqueue":        repeatable,
	"Queue.Claim":          once,
	"Queue.Settle":         once,
	"Queue.Prune":          repeatable,
	"DeadLetters.List":     repeatable,
	"DeadLetters.Get":      repeatable,
	"DeadLetters.Requeue":  once,
	"DeadLetters.Discard":  once,
	"DeadLetters.DeleteTo": repeatable,
	"Stats.Stats":          repeatable,

	"Hasher.Hash":            repeatable,
	"Hasher.Verify":          repeatable,
	"Issuer.Issue":           repeatable,
	"Verifier.Verify":        repeatable,
	"Sessions.Create":        once,
	"Sessions.ByID":          repeatable,
	"Sessions.Update":        once,
	"Sessions.ByUser":        repeatable,
	"Sessions.DeleteExpired": repeatable,
	"Sessions.DeleteOf":      repeatable,
	"Codes.Put":              once,
	"Codes.Use":              once,
	"Codes.DeleteExpired":    repeatable,
	"Codes.DeleteOf":         repeatable,
	"Factors.ByUser":         repeatable,
	"Factors.Update":         once,
	"Factors.DeleteOf":       repeatable,
	"SignUps.Create":         once,
	"SignUps.ByID":           repeatable,
	"SignUps.ByEmail":        repeatable,
	"SignUps.Confirm":        once,
	"SignUps.DeleteExpired":  repeatable,
	"SignUps.DeleteOf":       repeatable,
	"Nonces.Spend":           once,
	"Nonces.DeleteExpired":   repeatable,
	"Limiter.Allow":          once,
	"Limiter.DeleteExpired":  repeatable,

	"Messages.Append":      once,
	"Messages.Change":      once,
	"Messages.List":        repeatable,
	"Messages.Bounds":      repeatable,
	"Rooms.Ensure":         repeatable,
	"Rooms.ByName":         repeatable,
	"Rooms.List":           repeatable,
	"Rooms.Update":         once,
	"Roles.Create":         once,
	"Roles.Of":             repeatable,
	"Roles.List":           repeatable,
	"Roles.Change":         once,
	"Members.Add":          repeatable,
	"Members.Remove":       repeatable,
	"Members.Has":          repeatable,
	"Members.RoomsOf":      repeatable,
	"Marks.Mark":           repeatable,
	"Marks.Mine":           repeatable,
	"Restrictions.Put":     once,
	"Restrictions.InForce": repeatable,
	"Restrictions.List":    repeatable,
	"Restrictions.Since":   repeatable,
	"Blocks.Put":           repeatable,
	"Blocks.Remove":        repeatable,
	"Blocks.Among":         repeatable,
	"Blocks.List":          repeatable,
	"Directory.List":       repeatable,
	"Audit.Append":         once,
	"Audit.Settle":         repeatable,
	"Audit.List":           repeatable,
	"Audit.DeleteExpired":  repeatable,
	"Settings.Put":         repeatable,
	"Settings.Of":          repeatable,
	"Settings.Remove":      repeatable,
	"Pruner.Aged":          repeatable,
	"Pruner.Prune":         repeatable,
	"Pruner.Drop":          repeatable,
	"Cache.Get":            repeatable,
	"Cache.Add":            repeatable | lossy,
	"Cache.Change":         repeatable, // it must not come to nothing: what was deleted would stay in the cache
	"Cache.Fill":           repeatable, // nor this: it says what was removed
	"Access.May":           repeatable,

	"Fanout.Publish":       lossy,
	"Fanout.Follow":        repeatable,
	"Fanout.Unfollow":      repeatable,
	"Fanout.Run":           delays | fails | hangs,
	"Fanout.Deliver":       delays | drops,
	"Presence.Enter":       repeatable,
	"Presence.Exit":        once,
	"Presence.List":        repeatable,
	"Presence.Renew":       repeatable,
	"Authenticator.Token":  repeatable,
	"Authenticator.Ticket": once,
	"Conn.Send":            fails | losesAnswer | drops,
	"Conn.Close":           duplicates,

	"Check.Probe": repeatable,
}

// Methods lists the methods that a rule can name, in alphabetical order: the name of the port,
// as in the decorator Faulty…, and of the method. Two are not methods of the port: Subscriber.Handle
// is each call of the handler, whose failure makes the event come again, and Fanout.Deliver each call of
// Run's deliver.
func Methods() []string { return slices.Sorted(maps.Keys(methods)) }

// FaultyCheck puts faults before the probe of a health check.
func FaultyCheck(next health.Check, f *Faults) health.Check {
	probe := next.Probe
	next.Probe = func(ctx context.Context) (map[string]any, error) {
		return ask(ctx, f, "Check.Probe", func() (map[string]any, error) { return probe(ctx) })
	}
	return next
}
