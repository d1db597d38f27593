package humaapi

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/user"
)

// unknownDevice stands for the device of a session that did not say what it is.
const unknownDevice = "Unknown device"

type sessionEntry struct {
	ID         string    `json:"id" doc:"Names the session." example:"01kax9d8w2n4e6r8t0y2v4b6m8"`
	Device     string    `json:"device" doc:"What kind of device opened it, made of the User-Agent of the sign-in, which may say anything." maxLength:"64" example:"Firefox on Linux"`
	Network    string    `json:"network" doc:"The network from which it was opened: the first 24 bits of an IPv4 address, 48 of an IPv6 address; empty if that is not known." maxLength:"64" example:"192.0.2.0/24"`
	CreatedAt  time.Time `json:"createdAt" doc:"When it was opened."`
	LastSeenAt time.Time `json:"lastSeenAt" doc:"When it was last in use: at its sign-in, a refresh, or a socket ticket, of which one is noted in 5 minutes."`
	Current    bool      `json:"current" doc:"Whether it is the session that asks."`
}

type sessionsBody struct {
	Sessions []sessionEntry `json:"sessions" doc:"Newest first."`
}

type (
	sessionsOutput struct{ Body sessionsBody }
	sessionInput   struct {
		ID string `path:"id" maxLength:"128" doc:"ID of the session."`
	}
)

// registerMySessions puts the calls about a user's own sessions onto a.
func registerMySessions(a *API, service *auth.Service) {
	register(a, huma.Operation{
		OperationID: "list-sessions", Method: http.MethodGet, Path: "/auth/sessions", Tags: []string{"auth"},
		Summary:     "The sessions of the user",
		Description: "Those that go on, newest first: as many as a user may have, 100 unless the service says otherwise, and the one that asks.",
		Responses:   answers(http.StatusOK, "The sessions."),
		Security:    bearerSecurity(), Middlewares: huma.Middlewares{a.authenticate(service)},
	}, bearerFailures(user.ErrNotFound),
		func(ctx context.Context, _ *noInput) (*sessionsOutput, error) {
			who := identityOf(ctx)
			mine, err := service.MySessions(ctx, who)
			if err != nil {
				return nil, err
			}
			list := make([]sessionEntry, len(mine))
			for i, s := range mine {
				list[i] = sessionEntry{
					ID: s.ID, Device: cmp.Or(s.Device, unknownDevice), Network: s.Network,
					CreatedAt: s.CreatedAt, LastSeenAt: s.LastSeen(), Current: s.ID == who.SessionID,
				}
			}
			return &sessionsOutput{Body: sessionsBody{list}}, nil
		})
	register(a, huma.Operation{
		OperationID: "end-session", Method: http.MethodDelete, Path: "/auth/sessions/{id}", Tags: []string{"auth"},
		Summary: "End a session of the user",
		Description: "Open sockets of the session close, on every node. Ending the session that asks is a sign-out. " +
			"The session of somebody else is answered as one that does not exist, and so is one that has ended.",
		Responses: answers(http.StatusNoContent, "The session has ended."),
		Security:  bearerSecurity(), Middlewares: huma.Middlewares{a.authenticate(service)},
	}, bearerFailures(user.ErrNotFound, auth.ErrSessionNotFound),
		func(ctx context.Context, in *sessionInput) (*noOutput, error) {
			return nil, service.EndSession(ctx, identityOf(ctx), in.ID)
		})
}
