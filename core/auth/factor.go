package auth

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

// What is refused of second factors.
var (
	ErrFactorsOff       = fault.New(fault.NotFound, "second_factor_off", "nobody has a second factor here")
	ErrFactorNotFound   = fault.New(fault.NotFound, "second_factor_not_found", "the user has no such second factor")
	ErrFactorExists     = fault.New(fault.Conflict, "second_factor_exists", "the user has a second factor already")
	ErrFactorCode       = fault.New(fault.Unauthenticated, "second_factor_wrong", "the code of the second factor is wrong, or was used already")
	ErrFactorRequired   = fault.New(fault.Unauthenticated, "second_factor_required", "the code of the second factor is required")
	ErrChallengeUnknown = fault.New(fault.Invalid, "challenge_unknown", "the challenge is not valid")
	ErrChallengeGone    = fault.New(fault.Gone, "challenge_gone", "the challenge was used already or has expired: sign in again")
	ErrReauthenticate   = fault.New(fault.Forbidden, "reauthenticate", "prove who you are once more")
)

// RecoveryCodes is how many recovery codes a user gets.
const RecoveryCodes = 10

// Factor is the second factor of a user: a secret that an authenticator app makes codes of (TOTP, RFC 6238), and recovery codes. It is a value; the zero value
// but for UserID says that there is none.
type Factor struct {
	UserID user.ID
	// Secret is sealed. It is empty if the user has no second factor.
	Secret []byte
	// CreatedAt and ConfirmedAt are UTC, to the microsecond. ConfirmedAt is zero until the user has shown that an app has the secret: till then nobody is asked for a code.
	CreatedAt, ConfirmedAt time.Time
	// LastStep is the time step (RFC 6238 section 4.2) of the last code that was taken: only codes of later ones are.
	LastStep int64
	// Recovery recognises the recovery codes that are not used: hashes, at most RecoveryCodes.
	Recovery []string
}

// Confirmed reports whether the user is asked for a code.
func (f Factor) Confirmed() bool { return len(f.Secret) > 0 && !f.ConfirmedAt.IsZero() }

// LogValue hides the secret and the hashes.
func (f Factor) LogValue() slog.Value {
	return slog.StringValue("second factor of " + string(f.UserID))
}

// FactorStore keeps second factors, one a user.
//
// It may be called from many goroutines.
// Two IDs are the same only if they have the same bytes.
// Every time is UTC, to the microsecond.
// A call whose context has ended has done all of its work, or nothing.
type FactorStore interface {
	// ByUser returns the user's factor as it was stored last, with every field as it is.
	// ByUser returns a Factor that is zero but for UserID if none was stored.
	ByUser(ctx context.Context, id user.ID) (Factor, error)
	// Update lets change edit a copy of what ByUser returns, and stores it durably.
	// Update puts events into the outbox in the commit that stores the factor: both are stored, or neither is.
	// Update returns the stored factor.
	// Update refuses a change of UserID by an error of kind Invalid.
	// An error of change stores nothing and is returned as it is.
	// change may run more than once: it edits its argument and does nothing else.
	// Of concurrent updates that each expect what the other changes, exactly one finds it.
	Update(ctx context.Context, id user.ID, change func(*Factor) error, events ...event.Event) (Factor, error)
	// Eraser removes the factor of a user.
	Eraser
}

// FactorRequired says that a sign-in needs the code of a second factor. It is an ErrFactorRequired.
type FactorRequired struct {
	// Challenge is what [Service.SignInFactor] takes together with the code.
	Challenge string
	// ExpiresIn is how long it lasts.
	ExpiresIn time.Duration
}

// Error returns the text of ErrFactorRequired. It does not have the challenge.
func (*FactorRequired) Error() string { return ErrFactorRequired.Error() }

// Unwrap returns ErrFactorRequired.
func (*FactorRequired) Unwrap() error { return ErrFactorRequired }

// NewTOTP is what an authenticator app takes: a secret, and the same as an address that apps scan or open.
type NewTOTP struct {
	// Secret is in the base32 of RFC 4648, without padding.
	Secret string
	// URI begins with "otpauth://totp/".
	URI string
}

// FactorState is what users see of their own second factor.
type FactorState struct {
	// ConfirmedAt is since when the user is asked for a code; zero if there is no factor.
	ConfirmedAt time.Time
	// Recovery is how many recovery codes are not used.
	Recovery int
}

// Factors reports whether users may have a second factor.
func (s *Service) Factors() bool { return s.sealer != nil }

// allowSessionCode takes one from the allowance of guesses that a session has, or returns ErrTooMany.
func (s *Service) allowSessionCode(ctx context.Context, who user.Identity) error {
	return s.allow(ctx, limitFactor+":session:"+string(who.UserID)+":"+who.SessionID, s.cfg.FactorRate)
}

// factorOf returns the user's factor, which may be none.
func (s *Service) factorOf(ctx context.Context, id user.ID) (Factor, error) {
	if s.sealer == nil {
		return Factor{UserID: id}, nil
	}
	f, err := s.cfg.Factors.ByUser(ctx, id)
	if err != nil {
		return Factor{}, failed("reading the second factor", err)
	}
	return f, nil
}

// Factor returns what the user has as a second factor.
func (s *Service) Factor(ctx context.Context, who user.Identity) (FactorState, error) {
	if s.sealer == nil {
		return FactorState{}, ErrFactorsOff
	}
	return s.FactorOf(ctx, who.UserID)
}

// FactorOf is [Service.Factor] for administrators. Where nobody has a second factor, it returns the zero state.
func (s *Service) FactorOf(ctx context.Context, id user.ID) (FactorState, error) {
	f, err := s.factorOf(ctx, id)
	if err != nil || !f.Confirmed() {
		return FactorState{}, err
	}
	return FactorState{ConfirmedAt: f.ConfirmedAt, Recovery: len(f.Recovery)}, nil
}

// AddTOTP makes a secret for an authenticator app. Until [Service.ConfirmTOTP] nothing changes at sign-in; a later call takes the place of an earlier one. The session must be fresh, or it is
// ErrReauthenticate. A user who has a second factor already is ErrFactorExists.
func (s *Service) AddTOTP(ctx context.Context, who user.Identity) (NewTOTP, error) {
	if s.sealer == nil {
		return NewTOTP{}, ErrFactorsOff
	}
	u, err := s.freshUser(ctx, who)
	if err != nil {
		return NewTOTP{}, err
	}
	secret := make([]byte, totpSecretBytes)
	if _, err := io.ReadFull(s.cfg.Random, secret); err != nil {
		return NewTOTP{}, failed("reading random bytes", err)
	}
	sealed, err := s.sealer.seal(secret, sealedSecret(u.ID))
	if err != nil {
		return NewTOTP{}, err
	}
	now := s.now()
	if _, err = s.updateFactor(ctx, u.ID, func(f *Factor) error {
		if f.Confirmed() {
			return ErrFactorExists
		}
		*f = Factor{UserID: f.UserID, Secret: sealed, CreatedAt: now}
		return nil
	}); err != nil {
		return NewTOTP{}, err
	}
	text := totpEncoding.EncodeToString(secret)
	return NewTOTP{Secret: text, URI: totpURI(s.cfg.FactorIssuer, string(u.Email), text)}, nil
}

// ConfirmTOTP makes the secret of [Service.AddTOTP] the user's second factor, by a code of it, ends every other session, and tells the owner by a mail. It returns the recovery codes: nobody sees them
// again. The session must be fresh, or it is ErrReauthenticate. A wrong code is ErrFactorCode, and nothing to confirm ErrFactorNotFound. Too many attempts are ErrTooMany.
func (s *Service) ConfirmTOTP(ctx context.Context, who user.Identity, code string) ([]string, error) {
	if s.sealer == nil {
		return nil, ErrFactorsOff
	}
	u, err := s.freshUser(ctx, who)
	if err != nil {
		return nil, err
	}
	if err := s.allowSessionCode(ctx, who); err != nil {
		return nil, err
	}
	pending, err := s.factorOf(ctx, u.ID)
	switch {
	case err != nil:
		return nil, err
	case pending.Confirmed():
		return nil, ErrFactorExists
	case len(pending.Secret) == 0:
		return nil, ErrFactorNotFound
	}
	p, err := s.check(pending, code)
	if err != nil {
		return nil, err
	}
	codes, hashes, err := s.newRecovery(u.ID)
	if err != nil {
		return nil, err
	}
	now := s.now()
	mails, err := s.factorMail(u, mail.FactorAdded, now)
	if err != nil {
		return nil, err
	}
	ctx, cancel := detached(ctx) // from here on a caller who hangs up must not leave other sessions open
	defer cancel()
	if _, err = s.updateFactor(ctx, u.ID, func(f *Factor) error {
		if f.Confirmed() {
			return ErrFactorExists
		}
		if !slices.Equal(f.Secret, pending.Secret) {
			return ErrFactorCode // another secret took its place
		}
		f.ConfirmedAt, f.LastStep, f.Recovery = now, p.step, hashes
		return nil
	}, mails...); err != nil {
		return nil, err
	}
	s.cfg.Log.Info("a second factor was added", "user", u)
	if err := s.prove(ctx, who); err != nil {
		return nil, err
	}
	at, err := s.afterAll(ctx, u.ID)
	if err != nil {
		return nil, err
	}
	at = notBefore(at, u.SessionsFrom)
	if _, err := s.endSessions(ctx, u.ID, RevokedFactor, at, who.SessionID, nil); err != nil {
		return nil, err
	}
	return codes, s.endLate(ctx, u.ID, at, who.SessionID, RevokedFactor)
}

// NewRecoveryCodes takes the place of all recovery codes by new ones, which it returns, and tells the owner by a mail. The session must be fresh, or it is ErrReauthenticate.
func (s *Service) NewRecoveryCodes(ctx context.Context, who user.Identity) ([]string, error) {
	if s.sealer == nil {
		return nil, ErrFactorsOff
	}
	u, err := s.freshUser(ctx, who)
	if err != nil {
		return nil, err
	}
	codes, hashes, err := s.newRecovery(u.ID)
	if err != nil {
		return nil, err
	}
	mails, err := s.factorMail(u, mail.FactorRecovery, s.now())
	if err != nil {
		return nil, err
	}
	_, err = s.updateFactor(ctx, u.ID, func(f *Factor) error {
		if !f.Confirmed() {
			return ErrFactorNotFound
		}
		f.Recovery = slices.Clone(hashes)
		return nil
	}, mails...)
	return codes, err
}

// RemoveFactor takes the second factor of the user away, and tells the owner by a mail. The session must be fresh, or it is ErrReauthenticate.
func (s *Service) RemoveFactor(ctx context.Context, who user.Identity) error {
	if s.sealer == nil {
		return ErrFactorsOff
	}
	u, err := s.freshUser(ctx, who)
	if err != nil {
		return err
	}
	return s.removeFactor(ctx, u)
}

// RemoveFactorOf is [Service.RemoveFactor] for administrators, for a user who has lost both the app and the recovery codes. It returns user.ErrNotFound if there is no such user, and ErrFactorNotFound if
// the user has none.
func (s *Service) RemoveFactorOf(ctx context.Context, id user.ID) error {
	if s.sealer == nil {
		return ErrFactorsOff
	}
	u, err := s.Me(ctx, user.Identity{UserID: id})
	if err != nil {
		return err
	}
	return s.removeFactor(ctx, u)
}

func (s *Service) removeFactor(ctx context.Context, u user.User) error {
	mails, err := s.factorMail(u, mail.FactorRemoved, s.now())
	if err != nil {
		return err
	}
	if u.Disabled() {
		mails = nil // who is disabled gets none
	}
	_, err = s.updateFactor(ctx, u.ID, func(f *Factor) error {
		if !f.Confirmed() {
			return ErrFactorNotFound
		}
		*f = Factor{UserID: f.UserID}
		return nil
	}, mails...)
	if err == nil {
		s.cfg.Log.Info("a second factor was removed", "user", u)
	}
	return err
}

// updateFactor is FactorStore.Update. Errors of change are returned as they are.
func (s *Service) updateFactor(ctx context.Context, id user.ID, change func(*Factor) error, events ...event.Event) (Factor, error) {
	f, err := s.cfg.Factors.Update(ctx, id, func(f *Factor) error {
		if err := change(f); err != nil {
			return verbatim{err}
		}
		return nil
	}, events...)
	if v, ok := errors.AsType[verbatim](err); ok {
		return Factor{}, v.error
	}
	if err != nil {
		return Factor{}, failed("storing the second factor", err)
	}
	s.committed(events)
	return f, nil
}

// factorMail returns the event that tells the owner of a change, unless such mails are kept back.
func (s *Service) factorMail(u user.User, change mail.FactorChange, at time.Time) ([]event.Event, error) {
	if s.cfg.NoFactorMail {
		return nil, nil
	}
	e, err := s.mailEvent(mail.TypeFactorChanged, u.ID, mail.FactorChanged{
		UserID: string(u.ID), FullName: u.FullName, Email: string(u.Email), Change: change, At: at, Locale: locale(u),
	})
	return []event.Event{e}, err
}

// Recovery codes have more randomness than can be searched (112 bits, OWASP ASVS 5.0 6.5.2), so that a plain hash keeps them.
const (
	recoveryBytes = 15 // 24 characters of base32
	recoveryGroup = 4
)

var recoveryEncoding = base32.NewEncoding("abcdefghijkmnpqrstuvwxyz23456789").WithPadding(base32.NoPadding)

// newRecovery makes recovery codes, and their hashes.
func (s *Service) newRecovery(id user.ID) (codes, hashes []string, err error) {
	for range RecoveryCodes {
		raw := make([]byte, recoveryBytes)
		if _, err := io.ReadFull(s.cfg.Random, raw); err != nil {
			return nil, nil, failed("reading random bytes", err)
		}
		text := recoveryEncoding.EncodeToString(raw)
		var groups []string
		for part := range slices.Chunk([]byte(text), recoveryGroup) {
			groups = append(groups, string(part))
		}
		codes, hashes = append(codes, strings.Join(groups, "-")), append(hashes, recoveryHash(id, text))
	}
	return codes, hashes, nil
}

// recoveryHash is what a factor keeps of a recovery code.
func recoveryHash(id user.ID, code string) string {
	sum := sha256.Sum256([]byte("recovery:" + string(id) + ":" + code))
	return hex.EncodeToString(sum[:])
}

// maxFactorCode bounds what is looked at as a code.
const maxFactorCode = 128

// plainCode is a code without what people put between its characters.
func plainCode(code string) string {
	if len(code) > maxFactorCode {
		return ""
	}
	return strings.ToLower(strings.NewReplacer(" ", "", "-", "", "\u00a0", "").Replace(strings.TrimSpace(code)))
}

// proof is what makes a code right.
type proof struct {
	// step is the time step of a code of the app; recovery the hash of a recovery code.
	step     int64
	recovery string
	// resealed is the secret, sealed by the first key, if another one has sealed what is stored.
	resealed []byte
}

// sealedSecret is the purpose that a secret is sealed for: it opens as that user's alone.
func sealedSecret(id user.ID) string { return "totp:" + string(id) }

// check returns what makes a code right, or ErrFactorCode. It uses nothing up.
func (s *Service) check(f Factor, code string) (proof, error) {
	code = plainCode(code)
	if isTOTP(code) {
		secret, old, err := s.sealer.open(f.Secret, sealedSecret(f.UserID))
		if err != nil {
			return proof{}, failed("opening the secret of a second factor", err)
		}
		step, ok := totpMatch(secret, code, s.now(), f.LastStep)
		if !ok {
			return proof{}, ErrFactorCode
		}
		p := proof{step: step}
		if old {
			if p.resealed, err = s.sealer.seal(secret, sealedSecret(f.UserID)); err != nil {
				return proof{}, err
			}
		}
		return p, nil
	}
	hash, found := recoveryHash(f.UserID, code), false
	for _, h := range f.Recovery {
		found = sameHash(h, hash) || found
	}
	if !found {
		return proof{}, ErrFactorCode
	}
	return proof{recovery: hash}, nil
}

// use uses a code up: of any number at once, one does. A recovery code is told to the owner by a mail.
func (s *Service) use(ctx context.Context, u user.User, was Factor, p proof) error {
	var mails []event.Event
	if p.recovery != "" {
		var err error
		if mails, err = s.factorMail(u, mail.FactorRecoveryUsed, s.now()); err != nil {
			return err
		}
	}
	_, err := s.updateFactor(ctx, u.ID, func(f *Factor) error {
		if !f.Confirmed() || !f.ConfirmedAt.Equal(was.ConfirmedAt) {
			return ErrFactorCode // it was removed meanwhile, or another took its place
		}
		if p.recovery != "" {
			i := slices.Index(f.Recovery, p.recovery)
			if i < 0 {
				return ErrFactorCode
			}
			f.Recovery = slices.Delete(slices.Clone(f.Recovery), i, i+1)
			return nil
		}
		if p.step <= f.LastStep {
			return ErrFactorCode
		}
		f.LastStep = p.step
		if p.resealed != nil && slices.Equal(f.Secret, was.Secret) {
			f.Secret = p.resealed
		}
		return nil
	}, mails...)
	return err
}

// challenge is what a client holds between its first factor and its second. It is sealed: who holds it learns nothing of it, and cannot change it.
type challenge struct {
	ID     string    `json:"id"`
	User   user.ID   `json:"user"`
	By     Method    `json:"by"`
	At     time.Time `json:"at"`
	Expiry time.Time `json:"exp"`
	// Password is the user's PasswordChangedAt: a challenge is no good once it has changed.
	Password time.Time `json:"pwd,omitzero"`
}

const (
	sealedChallenge = "challenge"
	purposeFactor   = "factor"
	// maxChallenge bounds what is opened as a challenge, in bytes.
	maxChallenge = 1024
)

// ask refuses an entry by a challenge: somebody has proven one factor, and has another.
func (s *Service) ask(ctx context.Context, e entry) error {
	now := s.now()
	id, c, err := s.newCode(purposeFactor, string(e.user.ID), time.Time{}, now.Add(s.cfg.ChallengeTTL))
	if err != nil {
		return err
	}
	raw, err := json.Marshal(challenge{
		ID: id, User: e.user.ID, By: e.by, At: c.CreatedAt, Expiry: c.ExpiresAt, Password: e.user.PasswordChangedAt,
	})
	if err != nil {
		return failed("encoding a challenge", err)
	}
	sealed, err := s.sealer.seal(raw, sealedChallenge)
	if err != nil {
		return err
	}
	// So it is used once on every node, and goes with the user.
	if err := s.cfg.Codes.Put(ctx, c); err != nil {
		return failed("storing a challenge", err)
	}
	return &FactorRequired{Challenge: base64.RawURLEncoding.EncodeToString(sealed), ExpiresIn: s.cfg.ChallengeTTL}
}

// parseChallenge opens a challenge.
func (s *Service) parseChallenge(text string) (challenge, error) {
	text = strings.TrimSpace(text)
	if len(text) > maxChallenge {
		return challenge{}, ErrChallengeUnknown
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return challenge{}, ErrChallengeUnknown
	}
	raw, _, err := s.sealer.open(sealed, sealedChallenge)
	if err != nil {
		return challenge{}, ErrChallengeUnknown
	}
	var c challenge
	if json.Unmarshal(raw, &c) != nil {
		return challenge{}, ErrChallengeUnknown
	}
	if !s.now().Before(c.Expiry) {
		return challenge{}, ErrChallengeGone
	}
	return c, nil
}

// SignInFactor opens a session for whoever has a challenge, by a code of the user's second factor: one of the authenticator app, or a recovery code. Each code is good once.
//
// A wrong code is ErrFactorCode, and the challenge can be tried again, Config.ChallengeTries times in all. A challenge that was used, has expired, or was made before the password, the
// address or the factor changed or the sessions were ended, is ErrChallengeGone; what is no challenge is ErrChallengeUnknown. Of any number of concurrent uses of a challenge, at most one succeeds. Guesses are limited as those of passwords are, by
// Config.FactorRate: more are ErrTooMany. A user who was disabled is ErrInvalidCredentials.
func (s *Service) SignInFactor(ctx context.Context, from Client, text, code string) (Grant, error) {
	if s.sealer == nil {
		return Grant{}, ErrFactorsOff
	}
	g, err := s.signInFactor(ctx, from, text, code)
	s.cfg.SignedIn(err)
	return g, err
}

func (s *Service) signInFactor(ctx context.Context, from Client, text, code string) (Grant, error) {
	if err := s.allowClient(ctx, limitFactor, from, s.cfg.FactorRate); err != nil {
		return Grant{}, err
	}
	c, err := s.parseChallenge(text)
	if err != nil {
		return Grant{}, err
	}
	u, err := s.cfg.Users.ByID(ctx, c.User)
	switch {
	case errors.Is(err, user.ErrNotFound):
		return Grant{}, ErrChallengeUnknown
	case err != nil:
		return Grant{}, failed("reading the user", err)
	case u.Erased(), u.Disabled():
		return Grant{}, ErrInvalidCredentials
	case !u.PasswordChangedAt.Equal(c.Password), u.SessionsFrom.After(c.At):
		return Grant{}, ErrChallengeGone
	}
	device, err := s.allowFactor(ctx, from, u, c)
	if err != nil {
		return Grant{}, err
	}
	f, err := s.factorOf(ctx, u.ID)
	switch {
	case err != nil:
		return Grant{}, err
	case !f.Confirmed(), f.ConfirmedAt.After(c.At):
		return Grant{}, ErrChallengeGone
	}
	p, err := s.check(f, code)
	if err != nil {
		return Grant{}, err
	}
	// The challenge goes first: a code that is right is not used up for a challenge that is not.
	switch was, err := s.useCode(ctx, purposeFactor, c.ID, s.now()); {
	case errors.Is(err, ErrCodeUnknown), errors.Is(err, ErrCodeGone), err == nil && (!was.UsedAt.IsZero() || was.UserID != u.ID):
		return Grant{}, ErrChallengeGone
	case err != nil:
		return Grant{}, err
	}
	if err := s.use(ctx, u, f, p); err != nil {
		return Grant{}, err
	}
	return s.enter(ctx, entry{by: c.By, from: from, device: device, user: u, proven: true})
}

// allowFactor takes one from the allowances of guesses at the second factor of a user, as allowGuess does for passwords, and from that of a challenge. It returns the session that the client's device has opened
// before, or nil.
func (s *Service) allowFactor(ctx context.Context, from Client, u user.User, c challenge) (*Session, error) {
	tries := Rate{Burst: s.cfg.ChallengeTries, Per: s.cfg.ChallengeTTL * time.Duration(s.cfg.ChallengeTries)}
	switch err := s.allow(ctx, limitFactor+":challenge:"+codeHash(purposeFactor, c.ID), tries); {
	case errors.Is(err, ErrTooMany):
		return nil, ErrChallengeGone
	case err != nil:
		return nil, err
	}
	device, err := s.knownDevice(ctx, from, string(u.Email))
	if err != nil {
		return nil, err
	}
	if device != nil {
		return device, s.allow(ctx, limitFactor+":device:"+device.ID, s.cfg.FactorRate)
	}
	if err := s.allow(ctx, limitFactor+":by:"+clientKey(from.Address)+":user:"+string(u.ID), s.cfg.FactorRate); err != nil {
		return nil, err
	}
	return nil, s.allow(ctx, limitFactor+":user:"+string(u.ID), s.cfg.FactorRate.times(accountFactor))
}
