package memory

import "github.com/parley-chat/parley/core/parley"

// NewPorts returns every port of a system in memory, sharing one store: for tests, and to begin
// with. Replace those that should be something else. Passwords are hashed as tests like it: a
// program that people use replaces Hasher.
func NewPorts() parley.Ports {
	s, bus, tokens := NewStore(), NewBus(BusConfig{}), NewTokens(TokensConfig{})
	return parley.Ports{
		Users: s.Users, Sessions: s.Sessions, Codes: s.Codes, SignUps: s.SignUps, Nonces: s.Nonces,
		Limiter: NewLimiter(LimiterConfig{}), Hasher: NewHasher(), Issuer: tokens, Verifier: tokens,
		Outbox: s.Outbox, Publisher: bus, Subscriber: bus,
		MailQueue: s.MailQueue, DeadLetters: s.MailQueue, MailStats: s.MailQueue, Sender: NewMailbox(MailboxConfig{}),
		Messages: s.Messages, Rooms: s.Rooms, Members: s.Members, Recent: NewRecentCache(RecentCacheConfig{}),
		Fanout: NewFanout().Node(), Presence: NewPresence(),
	}
}
