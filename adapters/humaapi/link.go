package humaapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/user"
)

type methods struct {
	Password bool `json:"password" doc:"POST /auth/signin takes an address and a password." example:"true"`
	Link     bool `json:"link" doc:"POST /auth/link mails a link to sign in by." example:"false"`
	TOTP     bool `json:"totp" doc:"Users may have an authenticator app as a second factor: then a sign-in is answered by a challenge." example:"false"`
}

type (
	methodsOutput struct{ Body methods }
	linkRequest   struct {
		Code        string `json:"code" doc:"The code from the mail." example:"Jx2pZkq0w3vE5yTn8sBd1A"`
		DeviceToken string `json:"deviceToken,omitempty" doc:"What an earlier sign-in of this device to this account gave it: with it the owner is not told of a new device." maxLength:"256"`
	}
	linkInput struct{ Body linkRequest }
)

func registerLinks(a *API, service *auth.Service) {
	register(a, huma.Operation{
		OperationID: "sign-in-methods", Method: http.MethodGet, Path: "/auth/methods", Tags: []string{"auth"},
		Summary:   "The ways to sign in here",
		Responses: answers(http.StatusOK, "The ways in. There may be others one day, as further members."),
	}, storeFailures(),
		func(context.Context, *noInput) (*methodsOutput, error) {
			return &methodsOutput{Body: methods{Password: true, Link: service.Links(), TOTP: service.Factors()}}, nil
		})
	register(a, huma.Operation{
		OperationID: "request-link", Method: http.MethodPost, Path: "/auth/link", Tags: []string{"auth"},
		Summary: "Mail a link to sign in by",
		Description: "The answer does not tell whether the address has an account. Mails to one address are throttled. " +
			"A service that is not set to mail such links answers 404.",
		DefaultStatus: http.StatusAccepted, Responses: answers(http.StatusAccepted, "If the address has an account, a mail is on its way."),
	}, storeFailures(user.ErrEmailInvalid, auth.ErrLinksOff, auth.ErrTooMany),
		func(ctx context.Context, in *emailInput) (*messageOutput, error) {
			if err := service.RequestLink(ctx, from(ctx), string(in.Body.Email)); err != nil {
				return nil, err
			}
			return said("If the address has an account, a mail is on its way."), nil
		})
	register(a, huma.Operation{
		OperationID: "sign-in-by-link", Method: http.MethodPost, Path: "/auth/link/signin", Tags: []string{"auth"},
		Summary:     "Open a session by a mailed link",
		Description: "The code is good once, for 15 minutes unless the service says otherwise, and until the password or the address changes. It proves the address. A user with a second factor gets a challenge, as from POST /auth/signin.",
		Responses:   answers(http.StatusOK, "The session's first pair of tokens."),
	}, storeFailures(auth.ErrCodeUnknown, auth.ErrCodeGone, auth.ErrLinksOff, auth.ErrInvalidCredentials, auth.ErrFactorRequired, auth.ErrTooMany),
		func(ctx context.Context, in *linkInput) (*grantOutput, error) {
			client := from(ctx)
			client.Device = in.Body.DeviceToken
			if err := service.AllowCode(ctx, client); err != nil {
				return nil, err
			}
			g, err := service.SignInByLink(ctx, client, in.Body.Code)
			if err != nil {
				return nil, err
			}
			return granted(g), nil
		})
}
