package user

import "time"

// Identity is who a verified token speaks for: of a request, or of a connection.
type Identity struct {
	UserID ID
	// Name is what others see of the user.
	Name string
	// SessionID is the signed-in session; empty if there is none that could be revoked.
	SessionID string
	// Role is what the user may do; empty if that is not known.
	Role Role
	// SessionAt is when the session was opened; zero if that is not known.
	SessionAt time.Time
	// ExpiresAt is when the token that proved it ends, and with it a connection that is not renewed, to the second; of a
	// ticket, when the access token ends that asked for it. Zero for never.
	ExpiresAt time.Time
}
