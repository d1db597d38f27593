package memory

// Store is everything that a database would hold. Its parts work alone too; together they
// share one outbox.
type Store struct {
	Outbox   *Outbox
	Users    *Users
	Sessions *Sessions
	Codes    *Codes
	SignUps  *SignUps
	Nonces   *Nonces
	// MailQueue is also the store of dead letters and of the queue's statistics.
	MailQueue *MailQueue
	Messages  *Messages
	Rooms     *Rooms
	Members   *Members
}

// NewStore returns an empty store with default limits.
func NewStore() *Store {
	outbox := NewOutbox()
	return &Store{
		Outbox:    outbox,
		Users:     NewUsers(outbox),
		Sessions:  NewSessions(outbox),
		Codes:     NewCodes(outbox),
		SignUps:   NewSignUps(outbox),
		Nonces:    NewNonces(NoncesConfig{}),
		MailQueue: NewMailQueue(),
		Messages:  NewMessages(),
		Rooms:     NewRooms(),
		Members:   NewMembers(),
	}
}
