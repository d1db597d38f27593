package wsclient

import (
	"context"
	"net/http"
	"time"
)

// notice is an answer that only says so.
type notice struct {
	Message string `json:"message"`
}

func (t *notice) complete() bool { return t.Message != "" }

// post makes a call about accounts that is made once. out is nil where the answer is 204.
func (r *REST) post(ctx context.Context, path string, body map[string]string, out answer) error {
	return r.do(ctx, question{method: http.MethodPost, path: path, body: body}, out)
}

// SignUp asks for an account. The mail that follows has a link, and in it the code for [REST.Verify]. The answer is the same whether or not
// there is an account with this address, unless the server is set to say so (409, auth's code email_taken).
func (r *REST) SignUp(ctx context.Context, fullName, email, password string) error {
	return r.post(ctx, "/auth/signup", map[string]string{"fullName": fullName, "email": email, "password": password}, new(notice))
}

// Verify confirms an address with the code from the mail.
func (r *REST) Verify(ctx context.Context, code string) error {
	return r.post(ctx, "/auth/verify", map[string]string{"code": code}, new(notice))
}

// ResendVerification asks for another mail that confirms the address.
func (r *REST) ResendVerification(ctx context.Context, email string) error {
	return r.post(ctx, "/auth/verify/resend", map[string]string{"email": email}, new(notice))
}

// RequestLink asks for a mail with a link to sign in by, and in it the code for [SignInByLink]. A server that mails none answers 404, auth's code links_off.
func (r *REST) RequestLink(ctx context.Context, email string) error {
	return r.post(ctx, "/auth/link", map[string]string{"email": email}, new(notice))
}

// Methods are the ways to sign in that a server has.
type Methods struct {
	Password bool `json:"password"` // [SignIn]
	Link     bool `json:"link"`     // [REST.RequestLink] and [SignInByLink]
	// TOTP says that users may have an authenticator app as a second factor: [REST.AddTOTP] and [SignInFactor].
	TOTP bool `json:"totp"`
}

func (m *Methods) complete() bool { return m.Password || m.Link }

// Methods returns the ways to sign in that the server has.
func (r *REST) Methods(ctx context.Context) (m Methods, err error) {
	err = r.do(ctx, question{method: http.MethodGet, path: "/auth/methods", twice: true}, &m)
	return m, err
}

// ForgotPassword asks for a mail with the code for [REST.ResetPassword].
func (r *REST) ForgotPassword(ctx context.Context, email string) error {
	return r.post(ctx, "/auth/password/forgot", map[string]string{"email": email}, new(notice))
}

// ResetPassword sets a new password with the code from the mail. It ends every session of the user.
func (r *REST) ResetPassword(ctx context.Context, code, password string) error {
	return r.post(ctx, "/auth/password/reset", map[string]string{"code": code, "password": password}, nil)
}

// ChangePassword sets a new password for the caller. It ends every other session of theirs.
func (r *REST) ChangePassword(ctx context.Context, current, password string) error {
	return r.do(ctx, question{
		method: http.MethodPost, path: "/auth/password/change", bearer: true,
		body: map[string]string{"current": current, "password": password},
	}, nil)
}

// Me returns the caller's account. Nodes without accounts do not have it.
func (r *REST) Me(ctx context.Context) (Account, error) {
	var a Account
	err := r.do(ctx, question{method: http.MethodGet, path: "/auth/me", bearer: true, twice: true}, &a)
	return a, err
}

// ChangeMe changes what the caller says of themselves, and returns the account as it is then. What is nil stays; an empty language or avatarURL takes it away.
func (r *REST) ChangeMe(ctx context.Context, fullName, language, avatarURL *string) (Account, error) {
	body := map[string]string{}
	for name, text := range map[string]*string{"fullName": fullName, "language": language, "avatarUrl": avatarURL} {
		if text != nil {
			body[name] = *text
		}
	}
	var a Account
	err := r.do(ctx, question{method: http.MethodPatch, path: "/auth/me", bearer: true, body: body}, &a)
	return a, err
}

// RequestEmail asks for a mail to a new address with the code for [REST.ConfirmEmail]. It does not tell whether the address is taken; then nobody gets one.
func (r *REST) RequestEmail(ctx context.Context, email, password string) error {
	return r.do(ctx, question{method: http.MethodPost, path: "/auth/me/email", bearer: true, body: map[string]string{"email": email, "password": password}}, new(notice))
}

// ConfirmEmail takes the new address with the code from the mail, and returns the account. It ends every other session of the caller.
func (r *REST) ConfirmEmail(ctx context.Context, code string) (Account, error) {
	var a Account
	err := r.do(ctx, question{method: http.MethodPost, path: "/auth/me/email/verify", bearer: true, body: map[string]string{"code": code}}, &a)
	return a, err
}

// EraseMe erases the caller's account, and what they have said where the server keeps it. It cannot be undone, and ends every session of the caller.
func (r *REST) EraseMe(ctx context.Context, password string) error {
	return r.do(ctx, question{method: http.MethodDelete, path: "/auth/me", bearer: true, body: map[string]string{"password": password}}, nil)
}

// Factor is the second factor of the caller.
type Factor struct {
	Enabled bool `json:"enabled"`
	// Since is zero unless Enabled, and RecoveryCodes is how many are not used yet.
	Since         time.Time `json:"since"`
	RecoveryCodes *int      `json:"recoveryCodes"`
}

func (f *Factor) complete() bool { return f.RecoveryCodes != nil }

// Factor returns the second factor of the caller. A server without second factors answers 404, auth.ErrFactorsOff.
func (r *REST) Factor(ctx context.Context) (Factor, error) {
	var f Factor
	err := r.do(ctx, question{method: http.MethodGet, path: "/auth/factor", bearer: true, twice: true}, &f)
	return f, err
}

// TOTP is what an authenticator app takes: the secret to be typed in, or the same as a link.
type TOTP struct {
	Secret string `json:"secret"`
	URI    string `json:"uri"`
}

func (t *TOTP) complete() bool { return t.Secret != "" && t.URI != "" }

// AddTOTP returns a secret for an authenticator app, which [REST.ConfirmTOTP] makes the caller's second factor. The session must be fresh, or it is auth.ErrReauthenticate: see [REST.Reauthenticate].
func (r *REST) AddTOTP(ctx context.Context) (TOTP, error) {
	var t TOTP
	err := r.do(ctx, question{method: http.MethodPost, path: "/auth/factor/totp", bearer: true}, &t)
	return t, err
}

type recoveryCodes struct {
	RecoveryCodes []string `json:"recoveryCodes"`
}

func (c *recoveryCodes) complete() bool { return len(c.RecoveryCodes) > 0 }

// ConfirmTOTP makes the app of [REST.AddTOTP] the second factor of the caller, by a code that it shows, and returns the recovery codes, which nobody sees again. It ends every other session of the
// caller.
func (r *REST) ConfirmTOTP(ctx context.Context, code string) ([]string, error) {
	var c recoveryCodes
	err := r.do(ctx, question{method: http.MethodPost, path: "/auth/factor/totp/confirm", bearer: true, body: map[string]string{"code": code}}, &c)
	return c.RecoveryCodes, err
}

// NewRecoveryCodes returns new recovery codes, in the place of all before. The session must be fresh.
func (r *REST) NewRecoveryCodes(ctx context.Context) ([]string, error) {
	var c recoveryCodes
	err := r.do(ctx, question{method: http.MethodPost, path: "/auth/factor/recovery-codes", bearer: true}, &c)
	return c.RecoveryCodes, err
}

// RemoveFactor takes the caller's second factor away. The session must be fresh.
func (r *REST) RemoveFactor(ctx context.Context) error {
	return r.do(ctx, question{method: http.MethodDelete, path: "/auth/factor", bearer: true}, nil)
}

// Reauthenticate makes the session fresh: by a code for a caller with a second factor, and by the password for any other. What is not needed is empty.
func (r *REST) Reauthenticate(ctx context.Context, password, code string) error {
	body := map[string]string{}
	if password != "" {
		body["password"] = password
	}
	if code != "" {
		body["code"] = code
	}
	return r.do(ctx, question{method: http.MethodPost, path: "/auth/reauthenticate", bearer: true, body: body}, nil)
}

// SessionInfo is a session of the caller.
type SessionInfo struct {
	ID string `json:"id"`
	// Device says what kind of device opened it, and Network from which network, the address shortened; empty if that is not known. Both are for people.
	Device  string `json:"device"`
	Network string `json:"network"`
	// LastSeenAt is to the minute or so.
	CreatedAt  time.Time `json:"createdAt"`
	LastSeenAt time.Time `json:"lastSeenAt"`
	// Current says that it is the caller's own.
	Current bool `json:"current"`
}

type sessionList struct {
	Sessions []SessionInfo `json:"sessions"`
}

func (l *sessionList) complete() bool { return l.Sessions != nil }

// Sessions returns the caller's sessions that go on, newest first.
func (r *REST) Sessions(ctx context.Context) ([]SessionInfo, error) {
	var l sessionList
	err := r.do(ctx, question{method: http.MethodGet, path: "/auth/sessions", bearer: true, twice: true}, &l)
	return l.Sessions, err
}

// EndSession ends a session of the caller: its sockets close. One that is not there, any more, is auth.ErrSessionNotFound.
func (r *REST) EndSession(ctx context.Context, id string) error {
	return r.of(ctx, question{method: http.MethodDelete, bearer: true}, nil, "/auth/sessions/", id)
}

type ticket struct {
	Ticket    string  `json:"ticket"`
	ExpiresIn float64 `json:"expiresIn"`
}

func (t *ticket) complete() bool { return t.Ticket != "" }

// SocketTicket returns a ticket for one handshake of the socket, as Config.Ticket wants it, and how long it lasts.
func (r *REST) SocketTicket(ctx context.Context) (string, time.Duration, error) {
	var t ticket
	err := r.do(ctx, question{method: http.MethodPost, path: "/auth/socket-ticket", bearer: true}, &t)
	return t.Ticket, time.Duration(t.ExpiresIn * float64(time.Second)), err
}
