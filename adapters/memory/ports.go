package memory

import "github.com/parley-chat/parley/core/parley"

// NewPorts returns every port of a system in memory, sharing one store: for tests, and to begin
// with. Replace those that should be something else. Passwords are hashed as tests like it: a
// program that people use replaces Hasher.
func NewPorts() parley.Ports {
	bus, tokens := NewBus(BusConfig{}), NewTokens(TokensConfig{})
	return NewStore().Ports().With(parley.Ports{
		Limiter: NewLimiter(LimiterConfig{}), Hasher: NewHasher(), Issuer: tokens, Verifier: tokens,
		Publisher: bus, Subscriber: bus, Sender: NewMailbox(MailboxConfig{}),
		Recent: NewRecentCache(RecentCacheConfig{}), Fanout: NewFanout().Node(), Presence: NewPresence(),
	})
}
