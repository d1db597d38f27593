package humaapi

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/settings"
	"github.com/parley-chat/parley/core/user"
)

// WebhooksConfig is what [RegisterWebhooks] needs.
type WebhooksConfig struct {
	// Service looks into the queue of deliveries, replays and discards. Required.
	Service *mail.DeadLetterService
	// Token and CurrentToken are those of [MailConfig].
	Token        string
	CurrentToken func() string
}

type delivery struct {
	ID        string `json:"id" example:"01kax9d8w2n4e6r8t0y2v4b6m8"`
	WebhookID string `json:"webhookId" doc:"What the server is told as webhook-id, the same at each attempt."`
	Type      string `json:"type" example:"user.created"`
	State     string `json:"state" enum:"ready,running,sent,dead" example:"dead"`
	About     string `json:"about" doc:"The ID of the user or of the message that it is about, or room: and the name of the room. What is forgotten with one of them is found by it."`
	Room      string `json:"room,omitempty" example:"hall"`

	Attempts    int       `json:"attempts" doc:"Attempts since the delivery was enqueued or replayed." example:"3"`
	RunAt       time.Time `json:"runAt" doc:"The earliest time of the next attempt."`
	LeasedUntil time.Time `json:"leasedUntil,omitzero" required:"false" doc:"When a running delivery's lease ends."`
	LastError   string    `json:"lastError,omitempty" doc:"Why the last attempt failed."`

	DeferredSince time.Time `json:"deferredSince,omitzero" required:"false" doc:"When the server first asked for it later (429); what is put off is no attempt."`

	Replays int       `json:"replays" doc:"How often it was replayed; after 5 times a replay has to be forced." example:"0"`
	History []attempt `json:"history,omitempty" doc:"What became of the last attempts, at most 20, the oldest first."`

	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`

	Body json.RawMessage `json:"body,omitempty" doc:"What is delivered. Only if asked for."`
}

type deliveryPage struct {
	Deliveries []delivery `json:"deliveries" nullable:"false" doc:"Ascending by ID."`
	NextCursor string     `json:"nextCursor,omitempty" doc:"For the next page; missing on the last one."`
}

type deliveryFilter struct {
	About string `json:"about,omitempty" maxLength:"254" doc:"Only deliveries about this user or message, or room: and the name of a room."`
	Type  string `json:"type,omitempty" maxLength:"64" doc:"Only deliveries of this type." example:"user.created"`
	Error string `json:"error,omitempty" maxLength:"500" doc:"Only deliveries whose last error contains this, in whatever letter case."`
	Limit int    `json:"limit,omitempty" minimum:"0" maximum:"1000" doc:"At most so many; 0 is all of them."`
}

// choice is which dead letters the filter chooses.
func (f deliveryFilter) choice(dryRun, force bool) mail.Choice {
	return mail.Choice{To: user.Email(f.About), Kind: mail.Kind(f.Type), Error: f.Error, Limit: f.Limit, DryRun: dryRun, Force: force}
}

type replayDeliveriesRequest struct {
	Filter deliveryFilter `json:"filter,omitempty" doc:"Which dead letters; without it any."`
	DryRun bool           `json:"dryRun,omitempty" doc:"Only say which."`
	Force  bool           `json:"force,omitempty" doc:"Also those that were replayed 5 times."`
}

type replayedDeliveries struct {
	Deliveries []string `json:"deliveries" nullable:"false" doc:"The IDs of those that are, or would be, replayed."`
	Refused    []string `json:"refused" nullable:"false" doc:"The IDs of those that were replayed 5 times, and are left alone unless forced."`
	DryRun     bool     `json:"dryRun"`
}

type discardDeliveriesRequest struct {
	Filter deliveryFilter `json:"filter" doc:"Which dead letters; an empty one is all of them."`
	DryRun bool           `json:"dryRun,omitempty" doc:"Only say which."`
}

type discardedDeliveries struct {
	Deliveries []string `json:"deliveries" nullable:"false" doc:"The IDs of those that are, or would be, removed."`
	DryRun     bool     `json:"dryRun"`
}

type (
	listDeliveriesInput struct {
		State  string `query:"state" enum:"ready,running,sent,dead" doc:"Only deliveries in this state."`
		About  string `query:"about" maxLength:"254" doc:"Only deliveries about this user or message, or room: and the name of a room."`
		Cursor string `query:"cursor" maxLength:"200" doc:"nextCursor of the page before."`
		Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"50" doc:"Deliveries a page."`
		Whole  bool   `query:"body" doc:"Show the bodies too."`
	}
	getDeliveryInput struct {
		ID    string `path:"id" maxLength:"200" doc:"The delivery's ID."`
		Whole bool   `query:"body" doc:"Show the body too."`
	}
	deliveryInput struct {
		ID string `path:"id" maxLength:"200" doc:"The delivery's ID."`
	}
	replayDeliveryInput struct {
		ID    string `path:"id" maxLength:"200" doc:"The delivery's ID."`
		Force bool   `query:"force" doc:"Also if it was replayed 5 times."`
	}
	replayDeliveriesInput   struct{ Body replayDeliveriesRequest }
	discardDeliveriesInput  struct{ Body discardDeliveriesRequest }
	discardDeliveriesOutput struct{ Body discardedDeliveries }
	listDeliveriesOutput    struct{ Body deliveryPage }
	deliveryOutput          struct{ Body delivery }
	replayDeliveriesOutput  struct{ Body replayedDeliveries }
)

func deliveryOf(j mail.Job, body bool) delivery {
	out := delivery{
		ID: j.ID, WebhookID: j.Key, Type: string(j.Kind), State: string(j.State), About: string(j.To), Room: j.Name,
		Attempts: j.Attempts, RunAt: j.RunAt, LeasedUntil: j.LeasedUntil, LastError: j.LastError,
		DeferredSince: j.DeferredSince, Replays: j.Replays, History: attemptsOf(j), CreatedAt: j.CreatedAt, UpdatedAt: j.UpdatedAt,
	}
	if body {
		out.Body = readable(j.Data)
	}
	return out
}

// RegisterWebhooks puts the administration of webhooks onto a: looking into the queue of deliveries, and replaying or discarding dead letters.
func RegisterWebhooks(a *API, cfg WebhooksConfig) error {
	c := settings.Of("humaapi: WebhooksConfig")
	c.Argument("the API", a == nil)
	c.Require("Service", cfg.Service == nil)
	current := adminTokens(c, cfg.Token, cfg.CurrentToken)
	if err := c.Err(); err != nil {
		return err
	}
	operation := a.adminOperation("webhooks", "The deliveries of webhooks and their dead letters, for administrators.", current, errAdminOff)
	register(a, operation(huma.Operation{
		OperationID: "list-webhook-deliveries", Method: http.MethodGet, Path: "/webhooks/deliveries",
		Summary:   "A page of the deliveries of webhooks",
		Responses: answers(http.StatusOK, "The deliveries."),
	}), adminFailures(errAdminOff), func(ctx context.Context, in *listDeliveriesInput) (*listDeliveriesOutput, error) {
		jobs, err := cfg.Service.List(ctx, mail.Filter{State: mail.State(in.State), To: user.Email(in.About), After: in.Cursor, Limit: in.Limit})
		if err != nil {
			return nil, err
		}
		out := deliveryPage{Deliveries: make([]delivery, len(jobs))}
		for i, j := range jobs {
			out.Deliveries[i] = deliveryOf(j, in.Whole)
		}
		if len(jobs) == in.Limit {
			out.NextCursor = jobs[len(jobs)-1].ID
		}
		return &listDeliveriesOutput{Body: out}, nil
	})
	register(a, operation(huma.Operation{
		OperationID: "get-webhook-delivery", Method: http.MethodGet, Path: "/webhooks/deliveries/{id}",
		Summary:   "One delivery",
		Responses: answers(http.StatusOK, "The delivery."),
	}), adminFailures(errAdminOff, mail.ErrJobNotFound), func(ctx context.Context, in *getDeliveryInput) (*deliveryOutput, error) {
		j, err := cfg.Service.Get(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		return &deliveryOutput{Body: deliveryOf(j, in.Whole)}, nil
	})
	register(a, operation(huma.Operation{
		OperationID: "discard-webhook-delivery", Method: http.MethodDelete, Path: "/webhooks/deliveries/{id}",
		Summary:   "Remove a dead letter of a webhook for good",
		Responses: answers(http.StatusNoContent, "It is gone."),
	}), adminFailures(errAdminOff, mail.ErrJobNotFound, mail.ErrNotDead), func(ctx context.Context, in *deliveryInput) (*noOutput, error) {
		return nil, cfg.Service.Discard(ctx, in.ID)
	})
	register(a, operation(huma.Operation{
		OperationID: "webhook-stats", Method: http.MethodGet, Path: "/webhooks/stats",
		Summary:   "How many deliveries are in each state",
		Responses: answers(http.StatusOK, "The counts."),
	}), adminFailures(errAdminOff), statsOf(cfg.Service))
	register(a, operation(huma.Operation{
		OperationID: "replay-webhook-delivery", Method: http.MethodPost, Path: "/webhooks/deliveries/{id}/replay",
		Summary:   "Try a dead letter of a webhook again, with its full attempts and the same webhook-id",
		Responses: answers(http.StatusNoContent, "It is ready to be delivered."),
	}), adminFailures(errAdminOff, mail.ErrJobNotFound, mail.ErrNotDead, mail.ErrReplayedTooOften), func(ctx context.Context, in *replayDeliveryInput) (*noOutput, error) {
		return nil, cfg.Service.Replay(ctx, in.ID, in.Force)
	})
	register(a, operation(huma.Operation{
		OperationID: "replay-webhook-deliveries", Method: http.MethodPost, Path: "/webhooks/deliveries/replay",
		Summary:     "Try dead letters of webhooks again",
		Description: "If a dependency fails on the way, the letters before it are replayed; the others can be replayed by the same call.",
		Responses:   answers(http.StatusOK, "Which."),
	}), adminFailures(errAdminOff), func(ctx context.Context, in *replayDeliveriesInput) (*replayDeliveriesOutput, error) {
		done, err := cfg.Service.ReplayAll(ctx, in.Body.Filter.choice(in.Body.DryRun, in.Body.Force))
		if err != nil {
			return nil, err
		}
		return &replayDeliveriesOutput{Body: replayedDeliveries{Deliveries: done.Jobs, Refused: done.Refused, DryRun: in.Body.DryRun}}, nil
	})
	register(a, operation(huma.Operation{
		OperationID: "discard-webhook-deliveries", Method: http.MethodPost, Path: "/webhooks/deliveries/discard",
		Summary:     "Remove dead letters of webhooks for good",
		Description: "If a dependency fails on the way, the letters before it are gone; the others can be removed by the same call.",
		Responses:   answers(http.StatusOK, "Which."),
	}), adminFailures(errAdminOff), func(ctx context.Context, in *discardDeliveriesInput) (*discardDeliveriesOutput, error) {
		ids, err := cfg.Service.DiscardAll(ctx, in.Body.Filter.choice(in.Body.DryRun, false))
		if err != nil {
			return nil, err
		}
		return &discardDeliveriesOutput{Body: discardedDeliveries{Deliveries: ids, DryRun: in.Body.DryRun}}, nil
	})
	return nil
}
