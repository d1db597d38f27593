package humaapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/parley-chat/parley/core/audit"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// languageText and avatarText are as emailText.
type (
	languageText string
	avatarText   string
)

// TransformSchema documents the limits of a language.
func (languageText) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Extensions = map[string]any{"maxLength": user.MaxLanguage}
	return s
}

// TransformSchema documents the limits of an avatar.
func (avatarText) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Extensions = map[string]any{"maxLength": user.MaxAvatarURL}
	return s
}

type profileRequest struct {
	FullName  *nameText     `json:"fullName,omitempty" required:"false" doc:"What others see." example:"Ada King"`
	Language  *languageText `json:"language,omitempty" required:"false" doc:"A tag of BCP 47 that is well-formed (RFC 5646); empty for none." example:"en-GB"`
	AvatarURL *avatarText   `json:"avatarUrl,omitempty" required:"false" doc:"An absolute address of http or https, percent-encoded; empty for none. Nobody fetches it here." example:"https://example.com/ada.png"`
}

type passwordRequest struct {
	Password string `json:"password" doc:"The password as it is." example:"correct horse battery"`
}

type newEmailRequest struct {
	Email    emailText `json:"email" doc:"The new address." example:"ada@example.org"`
	Password string    `json:"password" doc:"The password as it is." example:"correct horse battery"`
}

type (
	profileInput  struct{ Body profileRequest }
	passwordInput struct{ Body passwordRequest }
	newEmailInput struct{ Body newEmailRequest }
)

// registerProfile puts what users do to their own account onto the API.
func registerProfile(a *API, cfg AuthConfig) {
	service := cfg.Service
	register(a, huma.Operation{
		OperationID: "change-me", Method: http.MethodPatch, Path: "/auth/me", Tags: []string{"auth"},
		Summary: "Change one's name, language or avatar",
		Description: "What is not named stays. A name is in the access tokens that are made from then on: a socket that is open shows the one that it was opened with, " +
			"and a message the one that it was sent with.",
		Responses: answers(http.StatusOK, "The user as it is now."),
		Security:  bearerSecurity(), Middlewares: huma.Middlewares{a.authenticate(service)},
	}, bearerFailures(user.ErrNotFound, user.ErrFullNameInvalid, user.ErrLanguageInvalid, user.ErrAvatarURLInvalid),
		func(ctx context.Context, in *profileInput) (*accountOutput, error) {
			b := in.Body
			u, err := service.ChangeProfile(ctx, identityOf(ctx), auth.ProfileChange{
				FullName: (*string)(b.FullName), Language: (*string)(b.Language), AvatarURL: (*string)(b.AvatarURL),
			})
			if err != nil {
				return nil, err
			}
			return &accountOutput{Body: accountOf(u)}, nil
		})
	failures := bearerFailures(user.ErrNotFound, auth.ErrInvalidCredentials, auth.ErrReauthenticate, auth.ErrTooMany, auth.ErrLastAdmin, chat.ErrStillTalking)
	if cfg.Audit != nil {
		failures = append(failures, audit.ErrUnrecorded)
	}
	register(a, huma.Operation{
		OperationID: "delete-me", Method: http.MethodDelete, Path: "/auth/me", Tags: []string{"auth"}, DefaultStatus: http.StatusNoContent,
		Summary: "Erase one's own account",
		Description: "Erases what this program keeps of the user, as an administrator would, and answers when that is done, which may take minutes where there are millions of messages. " +
			"It goes on if the client does not wait. Every session ends, and every open socket closes. It cannot be undone.",
		Responses: answers(http.StatusNoContent, "The account is erased."),
		Security:  bearerSecurity(), Middlewares: huma.Middlewares{a.authenticate(service), unbounded},
	}, failures,
		func(ctx context.Context, in *passwordInput) (*noOutput, error) {
			u, err := service.Reauthenticate(ctx, identityOf(ctx), in.Body.Password)
			if err != nil {
				return nil, err
			}
			return nil, cfg.eraseMe(ctx, u.ID)
		})
	register(a, huma.Operation{
		OperationID: "request-email", Method: http.MethodPost, Path: "/auth/me/email", Tags: []string{"auth"}, DefaultStatus: http.StatusAccepted,
		Summary: "Mail a code to a new address",
		Description: "Nothing changes until the code comes back. The answer does not tell whether the address is taken; then nobody gets a mail. Mails to one address are throttled. " +
			"A later request takes the place of an earlier one.",
		Responses: answers(http.StatusAccepted, "If the address can be had, a mail is on its way."),
		Security:  bearerSecurity(), Middlewares: huma.Middlewares{a.authenticate(service)},
	}, bearerFailures(user.ErrNotFound, user.ErrEmailInvalid, auth.ErrEmailSame, auth.ErrInvalidCredentials, auth.ErrReauthenticate, auth.ErrTooMany),
		func(ctx context.Context, in *newEmailInput) (*messageOutput, error) {
			if err := service.RequestEmail(ctx, from(ctx), identityOf(ctx), string(in.Body.Email), in.Body.Password); err != nil {
				return nil, err
			}
			return said("If the address can be had, a mail with a code is on its way to it."), nil
		})
	register(a, huma.Operation{
		OperationID: "confirm-email", Method: http.MethodPost, Path: "/auth/me/email/verify", Tags: []string{"auth"},
		Summary: "Take the new address by the code that was mailed to it",
		Description: "A mail tells the old address. Every other session ends, and codes that were mailed to the old address are no good any more. " +
			"Of several users who want one address, the first has it.",
		Responses: answers(http.StatusOK, "The user, with the new address."),
		Security:  bearerSecurity(), Middlewares: huma.Middlewares{a.authenticate(service)},
	}, bearerFailures(user.ErrNotFound, user.ErrEmailTaken, auth.ErrCodeUnknown, auth.ErrCodeGone, auth.ErrTooMany),
		func(ctx context.Context, in *codeInput) (*accountOutput, error) {
			if err := service.AllowCode(ctx, from(ctx)); err != nil {
				return nil, err
			}
			u, err := service.ConfirmEmail(ctx, identityOf(ctx), in.Body.Code)
			if err != nil {
				return nil, err
			}
			return &accountOutput{Body: accountOf(u)}, nil
		})
}

// unbounded is middleware: it asks a server that bounds each answer not to, where it can be asked.
func unbounded(ctx huma.Context, next func(huma.Context)) {
	_, w := humago.Unwrap(ctx)
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
	next(ctx)
}

// eraseMe erases the user who asks for it, whether or not they wait, and records it.
func (cfg *AuthConfig) eraseMe(ctx context.Context, id user.ID) error {
	ctx = context.WithoutCancel(ctx)
	if cfg.Audit == nil {
		return cfg.erase(ctx, id)
	}
	end, err := cfg.Audit.Begin(ctx, audit.Entry{
		Actor: "user:" + string(id), Action: "delete-me", Target: string(id), Network: auth.NetworkOf(from(ctx).Address),
	})
	if err != nil {
		return err
	}
	outcome := "failed 500" // if it panics
	defer func() { end(outcome) }()
	err = cfg.erase(ctx, id)
	outcome = outcomeOf(http.StatusNoContent)
	if err != nil {
		outcome = outcomeOf(document(err).Status)
	}
	return err
}

func (cfg *AuthConfig) erase(ctx context.Context, id user.ID) (err error) {
	if cfg.Erase != nil {
		_, err = cfg.Erase(ctx, string(id))
	} else {
		_, err = cfg.Service.Erase(ctx, id)
	}
	return err
}
