package humaapi

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/parley-chat/parley/core/audit"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/settings"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
)

// AuthConfig is what [RegisterAuth] needs. Zero fields without "required" mean the default.
type AuthConfig struct {
	// Service does what is asked for. Required.
	Service *auth.Service
	// JWKS returns the JSON Web Key Set (RFC 7517) with which access tokens are verified, for
	// GET /.well-known/jwks.json. Default: none, and no such path.
	JWKS func(ctx context.Context) ([]byte, error)
	// Product is the name on the pages behind the links in mails. Default "Parley".
	Product string
	// SignInURL is where those pages send people to sign in. Default "/".
	SignInURL string
	// Erase erases the user who asks for it in what this program keeps, by the ID. Default: the account alone.
	Erase func(ctx context.Context, idOrEmail string) (parley.UserErasure, error)
	// Audit, if set, records that users have erased their own accounts, before they are erased. What cannot be recorded is refused. Default: that is not recorded.
	Audit *audit.Service
}

// jwksMaxAge is how long a key set may be kept by who fetched it; keys overlap for longer.
const jwksMaxAge = 5 * time.Minute

// emailText, nameText and passwordText put core's limits into the document without having
// Huma check them: core does, and says more exactly what is wrong.
type (
	emailText    string
	nameText     string
	passwordText string
)

// TransformSchema documents the limits of an address.
func (emailText) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Extensions = map[string]any{"format": "email", "maxLength": user.MaxEmail}
	return s
}

// TransformSchema documents the limits of a name.
func (nameText) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Extensions = map[string]any{"minLength": 1, "maxLength": user.MaxFullName}
	return s
}

// TransformSchema documents the limits of a password.
func (passwordText) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Extensions = map[string]any{"format": "password", "minLength": auth.MinPassword, "maxLength": auth.MaxPassword}
	return s
}

type signUpRequest struct {
	FullName nameText     `json:"fullName" doc:"What others see." example:"Ada Lovelace"`
	Email    emailText    `json:"email" doc:"Where the verification code goes." example:"ada@example.com"`
	Password passwordText `json:"password" doc:"Characters of any script. Passwords that many people use, and ones with the address in them, are refused." example:"correct horse battery"`
}

type codeRequest struct {
	Code string `json:"code" doc:"The code from the mail." example:"Jx2pZkq0w3vE5yTn8sBd1A"`
}

type emailRequest struct {
	Email emailText `json:"email" doc:"The address of the account." example:"ada@example.com"`
}

type signInRequest struct {
	Email    string `json:"email" doc:"The address of the account." example:"ada@example.com"`
	Password string `json:"password" doc:"The password of the account." example:"correct horse battery"`
	// Not in the example: most have none.
	DeviceToken string `json:"deviceToken,omitempty" doc:"What an earlier sign-in of this device to this account gave it. With it, guesses of strangers cannot use up its attempts; one that is not known counts as none." maxLength:"256"`
}

type refreshRequest struct {
	RefreshToken string `json:"refreshToken" doc:"The newest refresh token of the session." example:"q8Zc0n2Y.Vb1kD4xR7mTa"`
}

type resetRequest struct {
	Code     string       `json:"code" doc:"The code from the mail." example:"Jx2pZkq0w3vE5yTn8sBd1A"`
	Password passwordText `json:"password" doc:"The new password." example:"another horse entirely"`
}

type changeRequest struct {
	Current  string       `json:"current" doc:"The password as it is." example:"correct horse battery"`
	Password passwordText `json:"password" doc:"The new password." example:"another horse entirely"`
}

type account struct {
	ID         string `json:"id" doc:"Names the user for ever." example:"01kax9d8w2n4e6r8t0y2v4b6m8"`
	FullName   string `json:"fullName" example:"Ada Lovelace"`
	Email      string `json:"email" example:"ada@example.com"`
	IsVerified bool   `json:"isVerified" doc:"Whether the address was proven to be the user's." example:"true"`
	Language   string `json:"language,omitempty" doc:"A tag of BCP 47; missing if that is not known." example:"en-GB"`
	AvatarURL  string `json:"avatarUrl,omitempty" doc:"Where a picture of the user is; missing if there is none." example:"https://example.com/ada.png"`
}

type grant struct {
	AccessToken  string  `json:"accessToken" doc:"A JWT for the Authorization header." example:"eyJhbGciOiJFZERTQSJ9.e30.c2ln"`
	ExpiresIn    int     `json:"expiresIn" doc:"Seconds until the access token expires." example:"900"`
	RefreshToken string  `json:"refreshToken" doc:"Opaque; good for one refresh." example:"q8Zc0n2Y.Vb1kD4xR7mTa"`
	DeviceToken  string  `json:"deviceToken,omitempty" doc:"Of a sign-in only: for the device to keep, beyond the end of the session, and to send with its next sign-in to this account." example:"01kax9d8.Vb1kD4xR7mTa"`
	User         account `json:"user"`
}

type ticket struct {
	Ticket    string `json:"ticket" doc:"For one socket handshake: /socket?ticket=…" example:"eyJhbGciOiJFZERTQSJ9.e30.c2ln"`
	ExpiresIn int    `json:"expiresIn" doc:"Seconds until the ticket expires." example:"30"`
}

type (
	signUpInput struct {
		AcceptLanguage string `header:"Accept-Language" doc:"Its first choice is the first language of the user." example:"en-GB"`
		Body           signUpRequest
	}
	codeInput     struct{ Body codeRequest }
	emailInput    struct{ Body emailRequest }
	signInInput   struct{ Body signInRequest }
	refreshInput  struct{ Body refreshRequest }
	resetInput    struct{ Body resetRequest }
	changeInput   struct{ Body changeRequest }
	grantOutput   struct{ Body grant }
	accountOutput struct{ Body account }
	ticketOutput  struct{ Body ticket }
)

func accountOf(u user.User) account {
	return account{ID: string(u.ID), FullName: u.FullName, Email: string(u.Email), IsVerified: u.Verified(), Language: u.Language, AvatarURL: u.AvatarURL}
}

func granted(g auth.Grant) *grantOutput {
	return &grantOutput{Body: grant{
		AccessToken: g.AccessToken, ExpiresIn: seconds(g.ExpiresIn), RefreshToken: g.RefreshToken, DeviceToken: g.DeviceToken, User: accountOf(g.User),
	}}
}

// SignedIn returns what POST /auth/signin answers with for g, to be marshalled as JSON: for a handler of one's own that
// signs people in.
func SignedIn(g auth.Grant) any { return granted(g).Body }

func seconds(d time.Duration) int { return int(d / time.Second) }

func from(ctx context.Context) auth.Client {
	c, _ := ctx.Value(clientKey{}).(auth.Client)
	return c
}

// RegisterAuth puts the account operations onto a: those below /auth/, the pages behind the
// links in mails, and the key set.
func RegisterAuth(a *API, cfg AuthConfig) error {
	c := settings.Of("humaapi: AuthConfig")
	c.Argument("the API", a == nil)
	c.Require("Service", cfg.Service == nil)
	if err := c.Err(); err != nil {
		return err
	}
	if cfg.Product == "" {
		cfg.Product = "Parley"
	}
	if cfg.SignInURL == "" {
		cfg.SignInURL = "/"
	}
	a.scheme(schemeBearer, "The access token of POST /auth/signin or /auth/refresh.", "JWT")
	a.tag("auth", "Accounts and sessions.")
	registerAccounts(a, cfg.Service)
	registerSessions(a, cfg.Service)
	registerMySessions(a, cfg.Service)
	registerProfile(a, cfg)
	registerPasswords(a, cfg.Service)
	registerLinks(a, cfg.Service)
	registerFactors(a, cfg.Service)
	a.documentPasswords(cfg.Service.PasswordMin())
	if err := registerPages(a, cfg); err != nil {
		return fmt.Errorf("humaapi: RegisterAuth: %w", err)
	}
	if cfg.JWKS != nil {
		registerKeys(a, cfg.JWKS)
	}
	return nil
}

// documentPasswords puts the least length of a new password into the document.
func (a *API) documentPasswords(least int) {
	for _, schema := range a.OpenAPI().Components.Schemas.Map() {
		for _, property := range schema.Properties {
			if property.Extensions["format"] == "password" {
				property.Extensions["minLength"] = least
			}
		}
	}
}

func registerAccounts(a *API, service *auth.Service) {
	register(a, huma.Operation{
		OperationID: "sign-up", Method: http.MethodPost, Path: "/auth/signup", Tags: []string{"auth"},
		Summary: "Make an account and mail its verification code",
		Description: "The answer is the same whether or not the address was taken: its owner gets a mail either way. " +
			"A service that is set to tell answers a taken address with 409.",
		DefaultStatus: http.StatusAccepted, Responses: answers(http.StatusAccepted, "A mail is on its way."),
	}, storeFailures(user.ErrFullNameInvalid, user.ErrEmailInvalid, auth.ErrPasswordInvalid, user.ErrEmailTaken, auth.ErrTooMany),
		func(ctx context.Context, in *signUpInput) (*messageOutput, error) {
			err := service.SignUp(ctx, from(ctx), auth.SignUp{
				FullName: string(in.Body.FullName), Email: string(in.Body.Email), Password: string(in.Body.Password),
				AcceptLanguage: in.AcceptLanguage,
			})
			if err != nil {
				return nil, err
			}
			return said("Check your mail: a link to verify the address is on its way."), nil
		})
	register(a, huma.Operation{
		OperationID: "verify", Method: http.MethodPost, Path: "/auth/verify", Tags: []string{"auth"},
		Summary:   "Prove an address by the code that was mailed to it",
		Responses: answers(http.StatusOK, "The address is verified."),
	}, storeFailures(auth.ErrCodeUnknown, auth.ErrCodeGone, auth.ErrTooMany),
		func(ctx context.Context, in *codeInput) (*messageOutput, error) {
			if err := service.AllowCode(ctx, from(ctx)); err != nil {
				return nil, err
			}
			if err := service.Verify(ctx, in.Body.Code); err != nil {
				return nil, err
			}
			return said("The address is verified. You can sign in now."), nil
		})
	register(a, huma.Operation{
		OperationID: "resend-verification", Method: http.MethodPost, Path: "/auth/verify/resend", Tags: []string{"auth"},
		Summary:       "Mail a new verification code",
		Description:   "The answer does not tell whether the address has an account. Mails to one address are throttled.",
		DefaultStatus: http.StatusAccepted, Responses: answers(http.StatusAccepted, "If the address waits for verification, a mail is on its way."),
	}, storeFailures(user.ErrEmailInvalid, auth.ErrTooMany),
		func(ctx context.Context, in *emailInput) (*messageOutput, error) {
			if err := service.ResendVerification(ctx, from(ctx), string(in.Body.Email)); err != nil {
				return nil, err
			}
			return said("If the address waits for verification, a mail is on its way."), nil
		})
	register(a, huma.Operation{
		OperationID: "me", Method: http.MethodGet, Path: "/auth/me", Tags: []string{"auth"},
		Summary:   "The user who asks",
		Responses: answers(http.StatusOK, "The user."),
		Security:  bearerSecurity(), Middlewares: huma.Middlewares{a.authenticate(service)},
	}, bearerFailures(user.ErrNotFound),
		func(ctx context.Context, _ *noInput) (*accountOutput, error) {
			u, err := service.Me(ctx, identityOf(ctx))
			if err != nil {
				return nil, err
			}
			return &accountOutput{Body: accountOf(u)}, nil
		})
}

func registerSessions(a *API, service *auth.Service) {
	register(a, huma.Operation{
		OperationID: "sign-in", Method: http.MethodPost, Path: "/auth/signin", Tags: []string{"auth"},
		Summary: "Open a session",
		Description: "Attempts are limited: those of a device that has signed in to the account before (deviceToken) by themselves, all others per network and address, " +
			"per address, and per network. A user has at most 100 sessions unless the service says otherwise; one more ends the oldest. " +
			"A user with a second factor gets 401 of the type second_factor_required, whose challenge POST /auth/signin/factor takes.",
		Responses: answers(http.StatusOK, "The session's first pair of tokens."),
	}, storeFailures(auth.ErrInvalidCredentials, auth.ErrFactorRequired, auth.ErrNotVerified, auth.ErrTooMany),
		func(ctx context.Context, in *signInInput) (*grantOutput, error) {
			client := from(ctx)
			client.Device = in.Body.DeviceToken
			g, err := service.SignIn(ctx, client, in.Body.Email, in.Body.Password)
			if err != nil {
				return nil, err
			}
			return granted(g), nil
		})
	register(a, huma.Operation{
		OperationID: "refresh", Method: http.MethodPost, Path: "/auth/refresh", Tags: []string{"auth"},
		Summary: "Exchange a refresh token for a new pair",
		Description: "Each refresh token is good for one exchange. For 10 seconds a second use of the last one is answered with the same new one, since the answer may have been lost; " +
			"any other second use ends the session. A session ends without a refresh for its idle time, and at its greatest age in any case; the access token does not outlive it.",
		Responses: answers(http.StatusOK, "The session's new pair of tokens."),
	}, storeFailures(auth.ErrTokenInvalid, auth.ErrSessionEnded, auth.ErrTooMany),
		func(ctx context.Context, in *refreshInput) (*grantOutput, error) {
			if err := service.AllowRefresh(ctx, from(ctx)); err != nil {
				return nil, err
			}
			g, err := service.Refresh(ctx, in.Body.RefreshToken)
			if err != nil {
				return nil, err
			}
			return granted(g), nil
		})
	register(a, huma.Operation{
		OperationID: "sign-out", Method: http.MethodPost, Path: "/auth/signout", Tags: []string{"auth"},
		Summary:     "End this session",
		Description: "Open sockets of the session close.",
		Responses:   answers(http.StatusNoContent, "The session has ended."),
		Security:    bearerSecurity(), Middlewares: huma.Middlewares{a.authenticate(service)},
	}, bearerFailures(),
		func(ctx context.Context, _ *noInput) (*noOutput, error) {
			return nil, service.SignOut(ctx, identityOf(ctx))
		})
	register(a, huma.Operation{
		OperationID: "sign-out-all", Method: http.MethodPost, Path: "/auth/signout/all", Tags: []string{"auth"},
		Summary:     "End every session of the user",
		Description: "Open sockets of all of them close.",
		Responses:   answers(http.StatusNoContent, "Every session has ended."),
		Security:    bearerSecurity(), Middlewares: huma.Middlewares{a.authenticate(service)},
	}, bearerFailures(),
		func(ctx context.Context, _ *noInput) (*noOutput, error) {
			return nil, service.SignOutAll(ctx, identityOf(ctx))
		})
	register(a, huma.Operation{
		OperationID: "socket-ticket", Method: http.MethodPost, Path: "/auth/socket-ticket", Tags: []string{"auth"},
		Summary:     "A ticket for one socket handshake",
		Description: "For browsers, which cannot set a header on a WebSocket. The socket ends with 4401 when the access token does that asked for the ticket, unless it is renewed.",
		Responses:   answers(http.StatusOK, "The ticket."),
		Security:    bearerSecurity(), Middlewares: huma.Middlewares{a.authenticate(service)},
	}, bearerFailures(auth.ErrTooMany),
		func(ctx context.Context, _ *noInput) (*ticketOutput, error) {
			text, lasts, err := service.SocketTicket(ctx, identityOf(ctx))
			if err != nil {
				return nil, err
			}
			return &ticketOutput{Body: ticket{Ticket: text, ExpiresIn: seconds(lasts)}}, nil
		})
}

func registerPasswords(a *API, service *auth.Service) {
	register(a, huma.Operation{
		OperationID: "forgot-password", Method: http.MethodPost, Path: "/auth/password/forgot", Tags: []string{"auth"},
		Summary:       "Mail a code for a new password",
		Description:   "The answer does not tell whether the address has an account. Mails to one address are throttled.",
		DefaultStatus: http.StatusAccepted, Responses: answers(http.StatusAccepted, "If the address has an account, a mail is on its way."),
	}, storeFailures(user.ErrEmailInvalid, auth.ErrTooMany),
		func(ctx context.Context, in *emailInput) (*messageOutput, error) {
			if err := service.ForgotPassword(ctx, from(ctx), string(in.Body.Email)); err != nil {
				return nil, err
			}
			return said("If the address has an account, a mail is on its way."), nil
		})
	register(a, huma.Operation{
		OperationID: "reset-password", Method: http.MethodPost, Path: "/auth/password/reset", Tags: []string{"auth"},
		Summary:     "Set a new password by a mailed code",
		Description: "It proves the address and ends every session.",
		Responses:   answers(http.StatusNoContent, "The password is set."),
	}, storeFailures(auth.ErrPasswordInvalid, auth.ErrCodeUnknown, auth.ErrCodeGone, auth.ErrTooMany),
		func(ctx context.Context, in *resetInput) (*noOutput, error) {
			if err := service.AllowCode(ctx, from(ctx)); err != nil {
				return nil, err
			}
			return nil, service.ResetPassword(ctx, in.Body.Code, string(in.Body.Password))
		})
	register(a, huma.Operation{
		OperationID: "change-password", Method: http.MethodPost, Path: "/auth/password/change", Tags: []string{"auth"},
		Summary:     "Set a new password by the current one",
		Description: "It ends every other session.",
		Responses:   answers(http.StatusNoContent, "The password is set."),
		Security:    bearerSecurity(), Middlewares: huma.Middlewares{a.authenticate(service)},
	}, bearerFailures(user.ErrNotFound, auth.ErrPasswordInvalid, auth.ErrInvalidCredentials, auth.ErrReauthenticate, auth.ErrTooMany),
		func(ctx context.Context, in *changeInput) (*noOutput, error) {
			return nil, service.ChangePassword(ctx, identityOf(ctx), in.Body.Current, string(in.Body.Password))
		})
}

func registerKeys(a *API, keys func(context.Context) ([]byte, error)) {
	op := huma.Operation{
		OperationID: "jwks", Method: http.MethodGet, Path: "/.well-known/jwks.json", Tags: []string{"auth"},
		Summary: "The public keys of access tokens", Description: "A JSON Web Key Set (RFC 7517).",
		Responses: map[string]*huma.Response{"200": {
			Description: "The keys that are or were lately used.",
			Headers: map[string]*huma.Param{"Cache-Control": {
				Description: "How long the keys may be kept.", Schema: &huma.Schema{Type: huma.TypeString},
			}},
			Content: map[string]*huma.MediaType{"application/jwk-set+json": {Schema: &huma.Schema{
				Type:     huma.TypeObject,
				Required: []string{"keys"},
				Properties: map[string]*huma.Schema{"keys": {
					Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true},
				}},
			}}},
		}},
	}
	a.serve(op, storeFailures(), func(ctx huma.Context) {
		set, err := keys(ctx.Context())
		if err != nil {
			a.note(ctx.Context(), op.OperationID, err)
			refuse(ctx, err)
			return
		}
		ctx.SetHeader("Content-Type", "application/jwk-set+json")
		ctx.SetHeader("Cache-Control", fmt.Sprintf("public, max-age=%d", seconds(jwksMaxAge)))
		ctx.SetStatus(http.StatusOK)
		_, _ = ctx.BodyWriter().Write(set) // the client may be gone
	})
}

type identityKey struct{}

// authenticate is middleware: it lets only requests with a good access token through.
func (a *API) authenticate(service *auth.Service) func(huma.Context, func(huma.Context)) {
	return a.identify(service.Authenticate)
}

// identify is middleware: it lets only requests through whose access token speaks for somebody.
func (a *API) identify(whose func(ctx context.Context, accessToken string) (user.Identity, error)) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		token := socket.BearerToken(ctx.Header("Authorization"))
		if token == "" {
			refuse(ctx, fault.Unauthenticated)
			return
		}
		who, err := whose(ctx.Context(), token)
		if err != nil {
			a.note(ctx.Context(), ctx.Operation().OperationID, err)
			refuse(ctx, err)
			return
		}
		next(huma.WithValue(ctx, identityKey{}, who))
	}
}

func identityOf(ctx context.Context) user.Identity {
	who, _ := ctx.Value(identityKey{}).(user.Identity)
	return who
}

func bearerSecurity() []map[string][]string { return []map[string][]string{{schemeBearer: {}}} }

func bearerFailures(more ...error) []error {
	return storeFailures(append(more, fault.Unauthenticated, auth.ErrTokenInvalid, auth.ErrSessionEnded)...)
}
