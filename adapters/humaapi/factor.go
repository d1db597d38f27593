package humaapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/user"
)

type factorSignInRequest struct {
	Challenge   string `json:"challenge" maxLength:"1024" doc:"What the answer second_factor_required to a sign-in has." example:"kq0w3vE5yTn8sBd1AJx2pZ"`
	Code        string `json:"code" maxLength:"128" doc:"The six digits that the authenticator app shows, or a recovery code. Spaces and hyphens do not count." example:"492039"`
	DeviceToken string `json:"deviceToken,omitempty" doc:"As in POST /auth/signin." maxLength:"256"`
}

type proofRequest struct {
	Password string `json:"password,omitempty" doc:"The password as it is: for a user without a second factor." example:"correct horse battery"`
	Code     string `json:"code,omitempty" maxLength:"128" doc:"A code of the authenticator app, or a recovery code: for a user with a second factor."`
}

type totpCodeRequest struct {
	Code string `json:"code" maxLength:"128" doc:"The six digits that the authenticator app shows." example:"492039"`
}

type factorState struct {
	Enabled       bool      `json:"enabled" doc:"Whether a sign-in takes a code of an authenticator app." example:"true"`
	Since         time.Time `json:"since,omitzero" doc:"Since when; missing if it does not."`
	RecoveryCodes int       `json:"recoveryCodes" doc:"How many recovery codes are not used yet." example:"10"`
}

type totpSecret struct {
	Secret string `json:"secret" doc:"For an authenticator app, to be typed in: base32 (RFC 4648), without padding." example:"JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"`
	URI    string `json:"uri" doc:"The same for an app that opens a link or scans a QR code." example:"otpauth://totp/Parley:ada@example.com?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP&issuer=Parley&algorithm=SHA1&digits=6&period=30"`
}

type recoveryCodes struct {
	RecoveryCodes []string `json:"recoveryCodes" nullable:"false" doc:"Each is good for one sign-in without the app. They are shown this once."`
}

type (
	factorSignInInput struct{ Body factorSignInRequest }
	proofInput        struct{ Body proofRequest }
	totpCodeInput     struct{ Body totpCodeRequest }
	factorOutput      struct{ Body factorState }
	totpOutput        struct{ Body totpSecret }
	recoveryOutput    struct{ Body recoveryCodes }
)

// registerFactors puts second factors onto the API.
func registerFactors(a *API, service *auth.Service) {
	register(a, huma.Operation{
		OperationID: "sign-in-factor", Method: http.MethodPost, Path: "/auth/signin/factor", Tags: []string{"auth"},
		Summary: "Open a session by the code of a second factor",
		Description: "For whoever got a challenge from another sign-in. Each code is good once. A challenge lasts 5 minutes and for 5 codes, unless the service says otherwise, and opens one session. " +
			"A service without second factors answers 404.",
		Responses: answers(http.StatusOK, "The session's first pair of tokens."),
	}, storeFailures(auth.ErrFactorCode, auth.ErrChallengeUnknown, auth.ErrChallengeGone, auth.ErrInvalidCredentials, auth.ErrNotVerified, auth.ErrFactorsOff, auth.ErrTooMany),
		func(ctx context.Context, in *factorSignInInput) (*grantOutput, error) {
			client := from(ctx)
			client.Device = in.Body.DeviceToken
			g, err := service.SignInFactor(ctx, client, in.Body.Challenge, in.Body.Code)
			if err != nil {
				return nil, err
			}
			return granted(g), nil
		})
	bearer := func(op huma.Operation) huma.Operation {
		op.Tags, op.Security, op.Middlewares = []string{"auth"}, bearerSecurity(), huma.Middlewares{a.authenticate(service)}
		return op
	}
	register(a, bearer(huma.Operation{
		OperationID: "reauthenticate", Method: http.MethodPost, Path: "/auth/reauthenticate", DefaultStatus: http.StatusNoContent,
		Summary: "Prove once more who one is",
		Description: "For 10 minutes, unless the service says otherwise, the session is fresh, as after a sign-in: then the second factor can be changed. " +
			"With a second factor only a code of it will do, and the password, the address and the account can be changed by a fresh session alone.",
		Responses: answers(http.StatusNoContent, "The session is fresh."),
	}), bearerFailures(user.ErrNotFound, auth.ErrInvalidCredentials, auth.ErrFactorRequired, auth.ErrFactorCode, auth.ErrTooMany),
		func(ctx context.Context, in *proofInput) (*noOutput, error) {
			return nil, service.ProveAgain(ctx, identityOf(ctx), in.Body.Password, in.Body.Code)
		})
	register(a, bearer(huma.Operation{
		OperationID: "factor", Method: http.MethodGet, Path: "/auth/factor",
		Summary:   "The second factor of the user",
		Responses: answers(http.StatusOK, "Whether there is one."),
	}), bearerFailures(auth.ErrFactorsOff),
		func(ctx context.Context, _ *noInput) (*factorOutput, error) {
			f, err := service.Factor(ctx, identityOf(ctx))
			if err != nil {
				return nil, err
			}
			return &factorOutput{Body: factorState{Enabled: !f.ConfirmedAt.IsZero(), Since: f.ConfirmedAt, RecoveryCodes: f.Recovery}}, nil
		})
	register(a, bearer(huma.Operation{
		OperationID: "add-totp", Method: http.MethodPost, Path: "/auth/factor/totp",
		Summary:     "A secret for an authenticator app",
		Description: "Nothing changes at sign-in until a code of the app confirms it. A later secret takes the place of an earlier one.",
		Responses:   answers(http.StatusOK, "The secret, to be shown once."),
	}), bearerFailures(user.ErrNotFound, auth.ErrReauthenticate, auth.ErrFactorExists, auth.ErrFactorsOff),
		func(ctx context.Context, _ *noInput) (*totpOutput, error) {
			made, err := service.AddTOTP(ctx, identityOf(ctx))
			if err != nil {
				return nil, err
			}
			return &totpOutput{Body: totpSecret{Secret: made.Secret, URI: made.URI}}, nil
		})
	register(a, bearer(huma.Operation{
		OperationID: "confirm-totp", Method: http.MethodPost, Path: "/auth/factor/totp/confirm",
		Summary:     "Make the authenticator app the second factor",
		Description: "From then on each sign-in takes a code of it. Every other session ends, and a mail tells the owner.",
		Responses:   answers(http.StatusOK, "The recovery codes."),
	}), bearerFailures(user.ErrNotFound, auth.ErrReauthenticate, auth.ErrFactorCode, auth.ErrFactorExists, auth.ErrFactorNotFound, auth.ErrFactorsOff, auth.ErrTooMany),
		func(ctx context.Context, in *totpCodeInput) (*recoveryOutput, error) {
			codes, err := service.ConfirmTOTP(ctx, identityOf(ctx), in.Body.Code)
			if err != nil {
				return nil, err
			}
			return &recoveryOutput{Body: recoveryCodes{codes}}, nil
		})
	register(a, bearer(huma.Operation{
		OperationID: "new-recovery-codes", Method: http.MethodPost, Path: "/auth/factor/recovery-codes",
		Summary:     "New recovery codes",
		Description: "Those before are no good any more. A mail tells the owner.",
		Responses:   answers(http.StatusOK, "The recovery codes."),
	}), bearerFailures(user.ErrNotFound, auth.ErrReauthenticate, auth.ErrFactorNotFound, auth.ErrFactorsOff),
		func(ctx context.Context, _ *noInput) (*recoveryOutput, error) {
			codes, err := service.NewRecoveryCodes(ctx, identityOf(ctx))
			if err != nil {
				return nil, err
			}
			return &recoveryOutput{Body: recoveryCodes{codes}}, nil
		})
	register(a, bearer(huma.Operation{
		OperationID: "remove-factor", Method: http.MethodDelete, Path: "/auth/factor", DefaultStatus: http.StatusNoContent,
		Summary:     "Take the second factor away",
		Description: "A mail tells the owner.",
		Responses:   answers(http.StatusNoContent, "A sign-in takes no code any more."),
	}), bearerFailures(user.ErrNotFound, auth.ErrReauthenticate, auth.ErrFactorNotFound, auth.ErrFactorsOff),
		func(ctx context.Context, _ *noInput) (*noOutput, error) {
			return nil, service.RemoveFactor(ctx, identityOf(ctx))
		})
}
