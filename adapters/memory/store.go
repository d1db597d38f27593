package memory

import "github.com/parley-chat/parley/core/parley"

// Store is everything that a database would hold. Its parts work alone too; together they
// share one outbox.
type Store struct {
	Outbox *Outbox
	// Asides is of what was set aside in Outbox.
	Asides   *Asides
	Users    *Users
	Sessions *Sessions
	Codes    *Codes
	Factors  *Factors
	SignUps  *SignUps
	Nonces   *Nonces
	// MailQueue is also the store of dead letters and of the queue's statistics.
	MailQueue *MailQueue
	// WebhookQueue is that of deliveries.
	WebhookQueue *MailQueue
	Messages     *Messages
	Rooms        *Rooms
	// Members is also the store of how far they have read Messages.
	Members      *Members
	Roles        *Roles
	Restrictions *Restrictions
	Blocks       *Blocks
	Settings     *Settings
	Audit        *AuditLog
	// Pruner removes messages and rooms from the stores here.
	Pruner *Pruner
}

// NewStore returns an empty store with default limits.
func NewStore() *Store {
	outbox, messages, rooms := NewOutbox(), NewMessages(), NewRooms()
	members := NewMembers(messages)
	roles := NewRoles(rooms, members)
	messages.outbox, rooms.outbox, members.outbox = outbox, outbox, outbox
	s := &Store{
		Outbox:    outbox,
		Asides:    outbox.Asides(),
		Users:     NewUsers(outbox),
		Sessions:  NewSessions(outbox),
		Codes:     NewCodes(outbox),
		Factors:   NewFactors(outbox),
		SignUps:   NewSignUps(outbox),
		Nonces:    NewNonces(NoncesConfig{}),
		MailQueue: NewMailQueue(), WebhookQueue: NewMailQueue(),
		Messages: messages,
		Rooms:    rooms,
		Members:  members,
		Roles:    roles,

		Restrictions: NewRestrictions(roles),
		Blocks:       NewBlocks(),
		Settings:     NewSettings(),
		Audit:        NewAuditLog(),
	}
	s.Pruner = NewPruner(s.Messages, s.Members, s.Rooms, s.Restrictions)
	return s
}

// Ports returns every port that the store keeps. The others are nil: see [parley.Ports.With].
func (s *Store) Ports() parley.Ports {
	return parley.Ports{
		Users: s.Users, Sessions: s.Sessions, Codes: s.Codes, SignUps: s.SignUps, Nonces: s.Nonces,
		Outbox: s.Outbox, Asides: s.Asides, MailQueue: s.MailQueue, DeadLetters: s.MailQueue, MailStats: s.MailQueue,
		WebhookQueue: s.WebhookQueue, WebhookLetters: s.WebhookQueue, WebhookStats: s.WebhookQueue,
		Messages: s.Messages, Pruner: s.Pruner, Rooms: s.Rooms, Members: s.Members, Marks: s.Members, Roles: s.Roles, Restrictions: s.Restrictions, Blocks: s.Blocks, Settings: s.Settings,
		Directory: s.Users, Audit: s.Audit, Factors: s.Factors,
	}
}
