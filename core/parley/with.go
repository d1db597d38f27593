package parley

// With returns p with every port that other has in place of its own. Neither p nor other changes.
//
// A store returns its ports as such a value, in which what it does not keep is nil:
// memory.NewPorts().With(store.Ports()) keeps everything in store that store can keep.
//
// If other has Users or Sessions, Standings of p are not kept: they read the Users and Sessions of p. If other has Users, neither is Directory.
func (p Ports) With(other Ports) Ports {
	if other.Users != nil || other.Sessions != nil {
		p.Standings = nil
	}
	if other.Users != nil {
		p.Directory = nil
	}
	replace(&p.Users, other.Users)
	replace(&p.Directory, other.Directory)
	replace(&p.Sessions, other.Sessions)
	replace(&p.Standings, other.Standings)
	replace(&p.Codes, other.Codes)
	replace(&p.SignUps, other.SignUps)
	replace(&p.Factors, other.Factors)
	replace(&p.Nonces, other.Nonces)
	replace(&p.Limiter, other.Limiter)
	replace(&p.Hasher, other.Hasher)
	replace(&p.Issuer, other.Issuer)
	replace(&p.Verifier, other.Verifier)
	replace(&p.Outbox, other.Outbox)
	replace(&p.Asides, other.Asides)
	replace(&p.Publisher, other.Publisher)
	replace(&p.Subscriber, other.Subscriber)
	replace(&p.MailQueue, other.MailQueue)
	replace(&p.DeadLetters, other.DeadLetters)
	replace(&p.MailStats, other.MailStats)
	replace(&p.WebhookQueue, other.WebhookQueue)
	replace(&p.WebhookLetters, other.WebhookLetters)
	replace(&p.WebhookStats, other.WebhookStats)
	replace(&p.Endpoint, other.Endpoint)
	replace(&p.Sender, other.Sender)
	replace(&p.Messages, other.Messages)
	replace(&p.Rooms, other.Rooms)
	replace(&p.Members, other.Members)
	replace(&p.Marks, other.Marks)
	replace(&p.Recent, other.Recent)
	replace(&p.Restrictions, other.Restrictions)
	replace(&p.Roles, other.Roles)
	replace(&p.Blocks, other.Blocks)
	replace(&p.Settings, other.Settings)
	replace(&p.Audit, other.Audit)
	replace(&p.Pruner, other.Pruner)
	replace(&p.Fanout, other.Fanout)
	replace(&p.Presence, other.Presence)
	return p
}

// replace puts a port in the place of another one, unless it is nil.
func replace[P any](port *P, by P) {
	if any(by) != nil {
		*port = by
	}
}
