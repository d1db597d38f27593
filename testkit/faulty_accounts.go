package testkit

import (
	"context"
	"time"

	"github.com/parley-chat/parley/core/audit"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
)

// FaultyUsers puts faults before a repository of users.
func FaultyUsers(next user.Repository, f *Faults) user.Repository { return users{next, f} }

type users struct {
	next   user.Repository
	faults *Faults
}

func (d users) Create(ctx context.Context, u user.User, events ...event.Event) error {
	return d.faults.do(ctx, "Users.Create", func() error { return d.next.Create(ctx, u, events...) })
}

func (d users) ByID(ctx context.Context, id user.ID) (user.User, error) {
	return ask(ctx, d.faults, "Users.ByID", func() (user.User, error) { return d.next.ByID(ctx, id) })
}

func (d users) ByEmail(ctx context.Context, email user.Email) (user.User, error) {
	return ask(ctx, d.faults, "Users.ByEmail", func() (user.User, error) { return d.next.ByEmail(ctx, email) })
}

func (d users) Update(ctx context.Context, id user.ID, change func(*user.User) error, events ...event.Event) (user.User, error) {
	return ask(ctx, d.faults, "Users.Update", func() (user.User, error) { return d.next.Update(ctx, id, change, events...) })
}

// FaultyHasher puts faults before a hasher.
func FaultyHasher(next auth.Hasher, f *Faults) auth.Hasher { return hasher{next, f} }

type hasher struct {
	next   auth.Hasher
	faults *Faults
}

func (d hasher) Hash(ctx context.Context, password string) (string, error) {
	return ask(ctx, d.faults, "Hasher.Hash", func() (string, error) { return d.next.Hash(ctx, password) })
}

func (d hasher) Verify(ctx context.Context, hash, password string) (ok, upgrade bool, err error) {
	return ask2(ctx, d.faults, "Hasher.Verify", func() (bool, bool, error) { return d.next.Verify(ctx, hash, password) })
}

// FaultyIssuer puts faults before an issuer of tokens.
func FaultyIssuer(next auth.TokenIssuer, f *Faults) auth.TokenIssuer { return issuer{next, f} }

type issuer struct {
	next   auth.TokenIssuer
	faults *Faults
}

func (d issuer) Issue(ctx context.Context, c auth.Claims) (string, error) {
	return ask(ctx, d.faults, "Issuer.Issue", func() (string, error) { return d.next.Issue(ctx, c) })
}

// FaultyVerifier puts faults before a verifier of tokens.
func FaultyVerifier(next auth.TokenVerifier, f *Faults) auth.TokenVerifier { return verifier{next, f} }

type verifier struct {
	next   auth.TokenVerifier
	faults *Faults
}

func (d verifier) Verify(ctx context.Context, token, audience string) (auth.Claims, error) {
	return ask(ctx, d.faults, "Verifier.Verify", func() (auth.Claims, error) { return d.next.Verify(ctx, token, audience) })
}

// FaultySessions puts faults before a store of sessions.
func FaultySessions(next auth.SessionStore, f *Faults) auth.SessionStore { return sessions{next, f} }

type sessions struct {
	next   auth.SessionStore
	faults *Faults
}

func (d sessions) Create(ctx context.Context, s auth.Session, events ...event.Event) error {
	return d.faults.do(ctx, "Sessions.Create", func() error { return d.next.Create(ctx, s, events...) })
}

func (d sessions) ByID(ctx context.Context, id string) (auth.Session, error) {
	return ask(ctx, d.faults, "Sessions.ByID", func() (auth.Session, error) { return d.next.ByID(ctx, id) })
}

func (d sessions) Update(ctx context.Context, id string, change func(*auth.Session) error, events ...event.Event) (auth.Session, error) {
	return ask(ctx, d.faults, "Sessions.Update", func() (auth.Session, error) { return d.next.Update(ctx, id, change, events...) })
}

func (d sessions) ByUser(ctx context.Context, id user.ID, at time.Time, limit int) ([]auth.Session, error) {
	return ask(ctx, d.faults, "Sessions.ByUser", func() ([]auth.Session, error) { return d.next.ByUser(ctx, id, at, limit) })
}

func (d sessions) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	return ask(ctx, d.faults, "Sessions.DeleteExpired", func() (int, error) { return d.next.DeleteExpired(ctx, before) })
}

func (d sessions) DeleteOf(ctx context.Context, id user.ID) (int, error) {
	return ask(ctx, d.faults, "Sessions.DeleteOf", func() (int, error) { return d.next.DeleteOf(ctx, id) })
}

// FaultyCodes puts faults before a store of codes.
func FaultyCodes(next auth.CodeStore, f *Faults) auth.CodeStore { return codes{next, f} }

type codes struct {
	next   auth.CodeStore
	faults *Faults
}

func (d codes) Put(ctx context.Context, c auth.Code, events ...event.Event) error {
	return d.faults.do(ctx, "Codes.Put", func() error { return d.next.Put(ctx, c, events...) })
}

func (d codes) Use(ctx context.Context, hash string, at time.Time) (auth.Code, error) {
	return ask(ctx, d.faults, "Codes.Use", func() (auth.Code, error) { return d.next.Use(ctx, hash, at) })
}

func (d codes) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	return ask(ctx, d.faults, "Codes.DeleteExpired", func() (int, error) { return d.next.DeleteExpired(ctx, before) })
}

func (d codes) DeleteOf(ctx context.Context, id user.ID) (int, error) {
	return ask(ctx, d.faults, "Codes.DeleteOf", func() (int, error) { return d.next.DeleteOf(ctx, id) })
}

// FaultyFactors puts faults before a store of second factors.
func FaultyFactors(next auth.FactorStore, f *Faults) auth.FactorStore { return factors{next, f} }

type factors struct {
	next   auth.FactorStore
	faults *Faults
}

func (d factors) ByUser(ctx context.Context, id user.ID) (auth.Factor, error) {
	return ask(ctx, d.faults, "Factors.ByUser", func() (auth.Factor, error) { return d.next.ByUser(ctx, id) })
}

func (d factors) Update(ctx context.Context, id user.ID, change func(*auth.Factor) error, events ...event.Event) (auth.Factor, error) {
	return ask(ctx, d.faults, "Factors.Update", func() (auth.Factor, error) { return d.next.Update(ctx, id, change, events...) })
}

func (d factors) DeleteOf(ctx context.Context, id user.ID) (int, error) {
	return ask(ctx, d.faults, "Factors.DeleteOf", func() (int, error) { return d.next.DeleteOf(ctx, id) })
}

// FaultySignUps puts faults before a store of sign-ups.
func FaultySignUps(next auth.SignUps, f *Faults) auth.SignUps { return signUps{next, f} }

type signUps struct {
	next   auth.SignUps
	faults *Faults
}

func (d signUps) Create(ctx context.Context, w auth.WaitingSignUp, keep int, events ...event.Event) error {
	return d.faults.do(ctx, "SignUps.Create", func() error { return d.next.Create(ctx, w, keep, events...) })
}

func (d signUps) ByID(ctx context.Context, id string) (auth.WaitingSignUp, error) {
	return ask(ctx, d.faults, "SignUps.ByID", func() (auth.WaitingSignUp, error) { return d.next.ByID(ctx, id) })
}

func (d signUps) ByEmail(ctx context.Context, email user.Email) ([]auth.WaitingSignUp, error) {
	return ask(ctx, d.faults, "SignUps.ByEmail", func() ([]auth.WaitingSignUp, error) { return d.next.ByEmail(ctx, email) })
}

func (d signUps) Confirm(ctx context.Context, id string, at time.Time) (auth.WaitingSignUp, error) {
	return ask(ctx, d.faults, "SignUps.Confirm", func() (auth.WaitingSignUp, error) { return d.next.Confirm(ctx, id, at) })
}

func (d signUps) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	return ask(ctx, d.faults, "SignUps.DeleteExpired", func() (int, error) { return d.next.DeleteExpired(ctx, before) })
}

func (d signUps) DeleteOf(ctx context.Context, id user.ID) (int, error) {
	return ask(ctx, d.faults, "SignUps.DeleteOf", func() (int, error) { return d.next.DeleteOf(ctx, id) })
}

// FaultyNonces puts faults before single-use names.
func FaultyNonces(next auth.Nonces, f *Faults) auth.Nonces { return nonces{next, f} }

type nonces struct {
	next   auth.Nonces
	faults *Faults
}

func (d nonces) Spend(ctx context.Context, name string, expires time.Time) (bool, error) {
	return ask(ctx, d.faults, "Nonces.Spend", func() (bool, error) { return d.next.Spend(ctx, name, expires) })
}

func (d nonces) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	return ask(ctx, d.faults, "Nonces.DeleteExpired", func() (int, error) { return d.next.DeleteExpired(ctx, before) })
}

// FaultyLimiter puts faults before a limiter.
func FaultyLimiter(next auth.Limiter, f *Faults) auth.Limiter { return limiter{next, f} }

type limiter struct {
	next   auth.Limiter
	faults *Faults
}

func (d limiter) Allow(ctx context.Context, key string, r auth.Rate, now time.Time) (time.Duration, error) {
	return ask(ctx, d.faults, "Limiter.Allow", func() (time.Duration, error) { return d.next.Allow(ctx, key, r, now) })
}

func (d limiter) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	return ask(ctx, d.faults, "Limiter.DeleteExpired", func() (int, error) { return d.next.DeleteExpired(ctx, before) })
}

// FaultyAudit puts faults before a log of what administrators have done.
func FaultyAudit(next audit.Log, f *Faults) audit.Log { return auditLog{next, f} }

type auditLog struct {
	next   audit.Log
	faults *Faults
}

func (d auditLog) Append(ctx context.Context, e audit.Entry) error {
	return d.faults.do(ctx, "Audit.Append", func() error { return d.next.Append(ctx, e) })
}

func (d auditLog) Settle(ctx context.Context, id, outcome string) error {
	return d.faults.do(ctx, "Audit.Settle", func() error { return d.next.Settle(ctx, id, outcome) })
}

func (d auditLog) List(ctx context.Context, before string, limit int) ([]audit.Entry, error) {
	return ask(ctx, d.faults, "Audit.List", func() ([]audit.Entry, error) { return d.next.List(ctx, before, limit) })
}

func (d auditLog) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	return ask(ctx, d.faults, "Audit.DeleteExpired", func() (int, error) { return d.next.DeleteExpired(ctx, before) })
}

// FaultyDirectory puts faults before a directory of users.
func FaultyDirectory(next user.Directory, f *Faults) user.Directory { return directory{next, f} }

type directory struct {
	next   user.Directory
	faults *Faults
}

func (d directory) List(ctx context.Context, f user.Filter) ([]user.User, error) {
	return ask(ctx, d.faults, "Directory.List", func() ([]user.User, error) { return d.next.List(ctx, f) })
}

// FaultyAuthenticator puts faults before an authenticator.
func FaultyAuthenticator(next socket.Authenticator, f *Faults) socket.Authenticator {
	return authenticator{next, f}
}

type authenticator struct {
	next   socket.Authenticator
	faults *Faults
}

func (d authenticator) Token(ctx context.Context, token string) (user.Identity, error) {
	return ask(ctx, d.faults, "Authenticator.Token", func() (user.Identity, error) { return d.next.Token(ctx, token) })
}

func (d authenticator) Ticket(ctx context.Context, ticket string) (user.Identity, error) {
	return ask(ctx, d.faults, "Authenticator.Ticket", func() (user.Identity, error) { return d.next.Ticket(ctx, ticket) })
}
