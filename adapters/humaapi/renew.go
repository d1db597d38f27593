package humaapi

import (
	"cmp"
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/settings"
)

// RenewalConfig is what [RegisterRenewal] needs.
type RenewalConfig struct {
	// Renew returns new data for a mail job whose code has expired, mail.ErrNotNeeded for one that nobody needs any more, and nil for any other, as
	// auth.Service.RenewMail does. Required.
	Renew func(ctx context.Context, j mail.Job) ([]byte, error)
	// Token is what a mailer sends as bearer, at least [MinAdminToken] characters. Without one every call answers 403.
	Token string
	// CurrentToken, if set, is asked for the token at each call instead. It must not block.
	CurrentToken func() string
}

type renewal struct {
	Kind string `json:"kind" minLength:"1" maxLength:"64" doc:"The template's name." example:"verification"`
	Data []byte `json:"data" doc:"What the template is rendered with."`
}

type renewed struct {
	Data      []byte `json:"data,omitempty" doc:"What it is to be rendered with instead; missing if the old data will do."`
	NotNeeded string `json:"notNeeded,omitempty" doc:"Why nobody needs the mail any more, if so."`
}

type (
	renewalInput  struct{ Body renewal }
	renewalOutput struct{ Body renewed }
)

// RegisterRenewal puts the operation onto a by which a mailer in a process of its own gets a fresh
// code for a mail that has waited for too long, or that it replays.
func RegisterRenewal(a *API, cfg RenewalConfig) error {
	c := settings.Of("humaapi: RenewalConfig")
	c.Argument("the API", a == nil)
	c.Require("Renew", cfg.Renew == nil)
	current := adminTokens(c, cfg.Token, cfg.CurrentToken)
	if err := c.Err(); err != nil {
		return err
	}
	register(a, a.mailOperation(current)(huma.Operation{
		OperationID: "renew-mail", Method: http.MethodPost, Path: "/auth/mail/renew",
		Summary: "A fresh code for a mail whose code has expired", Description: "For mailers. The answer holds a code.",
		Responses: answers(http.StatusOK, "What the mail is rendered with."),
	}), adminFailures(errMailAdminOff), func(ctx context.Context, in *renewalInput) (*renewalOutput, error) {
		data, err := cfg.Renew(ctx, mail.Job{Kind: mail.Kind(in.Body.Kind), Data: in.Body.Data})
		if errors.Is(err, mail.ErrNotNeeded) {
			public := fault.Public(err)
			return &renewalOutput{Body: renewed{NotNeeded: cmp.Or(public.Detail, public.Title)}}, nil
		}
		if err != nil {
			return nil, err
		}
		return &renewalOutput{Body: renewed{Data: data}}, nil
	})
	return nil
}
