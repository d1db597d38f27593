package mail

import "time"

// Topic is the stream of events that ask for mails, keyed by user.
const Topic = "mail"

// Kind is a template's name.
type Kind string

// The mails that the system sends.
const (
	KindVerification    Kind = "verification"     // confirm the address
	KindAddressTaken    Kind = "address_taken"    // somebody signed up with an address that has an account
	KindPasswordReset   Kind = "password_reset"   // choose a new password
	KindPasswordChanged Kind = "password_changed" // a notice after the fact
	KindNewDevice       Kind = "new_device"       // a notice after the fact
	KindInvitation      Kind = "invitation"       // an administrator made an account: choose a password
	KindEmailChange     Kind = "email_change"     // to a new address: the code that proves it
	KindEmailChanged    Kind = "email_changed"    // to the old address: a notice after the fact
	KindLink            Kind = "link"             // sign in by it
	KindSecondFactor    Kind = "second_factor"    // a notice after the fact
)

// Types of events on Topic. A consumer ignores types that it does not know.
const (
	TypeUserCreated       = "user.created"
	TypeVerificationAgain = "user.verification_requested"
	TypeAddressTaken      = "user.signup_repeated"
	TypePasswordForgotten = "user.password_forgotten"
	TypePasswordChanged   = "user.password_changed"
	TypeDeviceSignedIn    = "user.device_signed_in"
	TypeUserInvited       = "user.invited"
	// TypeEmailChangeRequested is for the address that a user wants to have, TypeEmailChanged for the one that the user had.
	TypeEmailChangeRequested = "user.email_change_requested"
	TypeEmailChanged         = "user.email_changed"
	TypeLinkRequested        = "user.link_requested"
	TypeFactorChanged        = "user.second_factor_changed"
	// TypeUserDisabled asks for no mail: whatever was to be mailed to that user is forgotten.
	TypeUserDisabled = "user.disabled"
	// TypeUserErased asks for no mail: whatever is to be mailed to that user, or was, is forgotten.
	TypeUserErased = "user.erased"
	// TypeNothing asks for no mail, and every consumer ignores it: a request for an address without an account
	// leaves as much behind as one for an address with.
	TypeNothing = "user.nothing"
)

// Asked says when a sign-up was asked for, and from where, as far as that is known.
type Asked struct {
	RequestedAt time.Time `json:"requestedAt,omitzero"`
	// Network is an IP address.
	Network string `json:"network,omitempty"`
}

// Locale says which language the recipient reads.
type Locale struct {
	// Language is a tag of BCP 47; empty if it is not known.
	Language string `json:"language,omitempty"`
}

func (l Locale) language() string { return l.Language }

// UserCreated is the data of TypeUserCreated and TypeVerificationAgain. There is no account yet:
// UserID is the identifier that it gets when the code is used.
type UserCreated struct {
	UserID           string    `json:"userId"`
	FullName         string    `json:"fullName"`
	Email            string    `json:"email"`
	VerificationCode string    `json:"verificationCode"`
	ExpiresAt        time.Time `json:"expiresAt"`
	Asked
	Locale
}

// AddressTaken is the data of TypeAddressTaken.
type AddressTaken struct {
	UserID   string `json:"userId"`
	FullName string `json:"fullName"`
	Email    string `json:"email"`
	Asked
	Locale
}

// UserErased is the data of TypeUserErased. Email is the address that the user had.
type UserErased struct {
	UserID string `json:"userId"`
	Email  string `json:"email"`
}

// UserDisabled is the data of TypeUserDisabled.
type UserDisabled struct {
	UserID string `json:"userId"`
	Email  string `json:"email"`
}

// UserInvited is the data of TypeUserInvited. The code is one for a new password.
type UserInvited struct {
	UserID    string    `json:"userId"`
	FullName  string    `json:"fullName"`
	Email     string    `json:"email"`
	ResetCode string    `json:"resetCode"`
	ExpiresAt time.Time `json:"expiresAt"`
	Locale
}

// EmailChangeRequested is the data of TypeEmailChangeRequested. Email is the new address.
type EmailChangeRequested struct {
	UserID     string    `json:"userId"`
	FullName   string    `json:"fullName"`
	Email      string    `json:"email"`
	ChangeCode string    `json:"changeCode"`
	ExpiresAt  time.Time `json:"expiresAt"`
	Locale
}

// EmailChanged is the data of TypeEmailChanged. Email is the old address.
type EmailChanged struct {
	UserID   string    `json:"userId"`
	FullName string    `json:"fullName"`
	Email    string    `json:"email"`
	At       time.Time `json:"at"`
	Locale
}

// LinkRequested is the data of TypeLinkRequested. Whoever has the code signs in by it.
type LinkRequested struct {
	UserID    string    `json:"userId"`
	FullName  string    `json:"fullName"`
	Email     string    `json:"email"`
	LinkCode  string    `json:"linkCode"`
	ExpiresAt time.Time `json:"expiresAt"`
	Locale
}

// FactorChange is what has become of a second factor.
type FactorChange string

// What can become of it.
const (
	FactorAdded        FactorChange = "added"         // an authenticator app was added
	FactorRemoved      FactorChange = "removed"       // it was removed
	FactorRecovery     FactorChange = "recovery"      // there are new recovery codes
	FactorRecoveryUsed FactorChange = "recovery_used" // a recovery code was used
)

// factorChanges are all there are.
var factorChanges = []FactorChange{FactorAdded, FactorRemoved, FactorRecovery, FactorRecoveryUsed}

// FactorChanged is the data of TypeFactorChanged.
type FactorChanged struct {
	UserID   string       `json:"userId"`
	FullName string       `json:"fullName"`
	Email    string       `json:"email"`
	Change   FactorChange `json:"change" enum:"added,removed,recovery,recovery_used"`
	At       time.Time    `json:"at"`
	Locale
}

// Nothing is the data of TypeNothing. It names nobody.
type Nothing struct {
	Filler string `json:"filler"`
}

// PasswordForgotten is the data of TypePasswordForgotten.
type PasswordForgotten struct {
	UserID    string    `json:"userId"`
	FullName  string    `json:"fullName"`
	Email     string    `json:"email"`
	ResetCode string    `json:"resetCode"`
	ExpiresAt time.Time `json:"expiresAt"`
	Locale
}

// PasswordChanged is the data of TypePasswordChanged.
type PasswordChanged struct {
	UserID   string    `json:"userId"`
	FullName string    `json:"fullName"`
	Email    string    `json:"email"`
	At       time.Time `json:"at"`
	Locale
}

// DeviceSignedIn is the data of TypeDeviceSignedIn: a device that was not known has opened a session.
type DeviceSignedIn struct {
	UserID   string    `json:"userId"`
	FullName string    `json:"fullName"`
	Email    string    `json:"email"`
	At       time.Time `json:"at"`
	// Device says what kind of device it is, and Network which network it came from, the address shortened; empty if
	// that is not known.
	Device  string `json:"device,omitempty"`
	Network string `json:"network,omitempty"`
	Locale
}
