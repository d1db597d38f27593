package humaapi

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/settings"
)

// errEventAdminOff says that there is no token with which the events could be administered.
var errEventAdminOff = fault.New(fault.Forbidden, "event_admin_disabled", "the administration of events is switched off")

// EventsConfig is what [RegisterEvents] needs.
type EventsConfig struct {
	Service *event.AsideService // Required.
	// Token and CurrentToken are as in [MailConfig].
	Token        string
	CurrentToken func() string
}

type asideEvent struct {
	ID     string    `json:"id" example:"01kax9d8w2n4e6r8t0y2v4b6m8"`
	Topic  string    `json:"topic" example:"mail"`
	Type   string    `json:"type" example:"user.created"`
	Key    string    `json:"key" doc:"Events of one topic with the same key are in order."`
	Time   time.Time `json:"time" doc:"When it happened."`
	Reason string    `json:"reason" doc:"Why it can never be published."`

	Size int             `json:"size,omitempty" doc:"Bytes of its data. Not in a list."`
	Data json.RawMessage `json:"data,omitempty" doc:"What it says: it may hold codes. Only if asked for."`
}

type eventPage struct {
	Events     []asideEvent `json:"events" nullable:"false" doc:"Ascending by ID."`
	NextCursor string       `json:"nextCursor,omitempty" doc:"For the next page; missing on the last one."`
}

type replayEventsRequest struct {
	Filter struct {
		Topic string `json:"topic,omitempty" maxLength:"200" doc:"Only events of this topic." example:"mail"`
		Type  string `json:"type,omitempty" maxLength:"200" doc:"Only events of this type." example:"user.created"`
		Key   string `json:"key,omitempty" maxLength:"300" doc:"Only events with this key."`
		Limit int    `json:"limit,omitempty" minimum:"0" maximum:"1000" doc:"At most so many; 0 is all of them."`
	} `json:"filter,omitempty" doc:"Which events; without it any."`
	DryRun bool `json:"dryRun,omitempty" doc:"Only say which."`
}

type replayedEvents struct {
	Events []string `json:"events" nullable:"false" doc:"The IDs of the events that are, or would be, replayed."`
	DryRun bool     `json:"dryRun"`
}

type (
	listEventsInput struct {
		Topic  string `query:"topic" maxLength:"200" doc:"Only events of this topic."`
		Type   string `query:"type" maxLength:"200" doc:"Only events of this type."`
		Key    string `query:"key" maxLength:"300" doc:"Only events with this key."`
		Cursor string `query:"cursor" maxLength:"200" doc:"nextCursor of the page before."`
		Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"50" doc:"Events a page."`
	}
	getEventInput struct {
		ID   string `path:"id" maxLength:"200" doc:"The event's ID."`
		Data bool   `query:"data" doc:"Show the data too."`
	}
	eventInput struct {
		ID string `path:"id" maxLength:"200" doc:"The event's ID."`
	}
	replayEventsInput  struct{ Body replayEventsRequest }
	listEventsOutput   struct{ Body eventPage }
	eventOutput        struct{ Body asideEvent }
	replayEventsOutput struct{ Body replayedEvents }
)

func asideOf(a event.Aside) asideEvent {
	return asideEvent{ID: a.Event.ID, Topic: a.Event.Topic, Type: a.Event.Type, Key: a.Event.Key, Time: a.Event.Time, Reason: a.Reason}
}

// RegisterEvents puts the administration of events that can never be published onto a: looking at them, and replaying or
// discarding them.
func RegisterEvents(a *API, cfg EventsConfig) error {
	c := settings.Of("humaapi: EventsConfig")
	c.Argument("the API", a == nil)
	c.Require("Service", cfg.Service == nil)
	current := adminTokens(c, cfg.Token, cfg.CurrentToken)
	if err := c.Err(); err != nil {
		return err
	}
	operation := a.adminOperation("events", "Events that can never be published, for administrators.", current, errEventAdminOff)
	failures := func(more ...error) []error { return adminFailures(errEventAdminOff, more...) }
	register(a, operation(huma.Operation{
		OperationID: "list-events-aside", Method: http.MethodGet, Path: "/events/aside",
		Summary:   "A page of the events that were set aside",
		Responses: answers(http.StatusOK, "The events, without their data."),
	}), failures(), func(ctx context.Context, in *listEventsInput) (*listEventsOutput, error) {
		events, err := cfg.Service.List(ctx, event.Filter{Topic: in.Topic, Type: in.Type, Key: in.Key, After: in.Cursor, Limit: in.Limit})
		if err != nil {
			return nil, err
		}
		out := eventPage{Events: make([]asideEvent, len(events))}
		for i, e := range events {
			out.Events[i] = asideOf(e)
		}
		if len(events) == in.Limit {
			out.NextCursor = events[len(events)-1].Event.ID
		}
		return &listEventsOutput{Body: out}, nil
	})
	register(a, operation(huma.Operation{
		OperationID: "get-event-aside", Method: http.MethodGet, Path: "/events/aside/{id}",
		Summary:   "One event that was set aside",
		Responses: answers(http.StatusOK, "The event."),
	}), failures(event.ErrNotAside), func(ctx context.Context, in *getEventInput) (*eventOutput, error) {
		e, err := cfg.Service.Get(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		out := asideOf(e)
		out.Size = len(e.Event.Data)
		if in.Data {
			out.Data = readable(e.Event.Data)
		}
		return &eventOutput{Body: out}, nil
	})
	register(a, operation(huma.Operation{
		OperationID: "discard-event-aside", Method: http.MethodDelete, Path: "/events/aside/{id}",
		Summary:   "Remove an event that was set aside for good",
		Responses: answers(http.StatusNoContent, "It is gone."),
	}), failures(event.ErrNotAside), func(ctx context.Context, in *eventInput) (*noOutput, error) {
		return nil, cfg.Service.Discard(ctx, in.ID)
	})
	register(a, operation(huma.Operation{
		OperationID: "replay-event-aside", Method: http.MethodPost, Path: "/events/aside/{id}/replay",
		Summary:   "Publish an event that was set aside after all",
		Responses: answers(http.StatusNoContent, "It is on its way, or will be set aside again."),
	}), failures(event.ErrNotAside), func(ctx context.Context, in *eventInput) (*noOutput, error) {
		return nil, cfg.Service.Replay(ctx, in.ID)
	})
	register(a, operation(huma.Operation{
		OperationID: "replay-events-aside", Method: http.MethodPost, Path: "/events/aside/replay",
		Summary:     "Publish events that were set aside after all",
		Description: "If a dependency fails on the way, the events before it are replayed; the others can be replayed by the same call.",
		Responses:   answers(http.StatusOK, "Which."),
	}), failures(), func(ctx context.Context, in *replayEventsInput) (*replayEventsOutput, error) {
		f := in.Body.Filter
		ids, err := cfg.Service.ReplayAll(ctx, event.Filter{Topic: f.Topic, Type: f.Type, Key: f.Key, Limit: f.Limit}, in.Body.DryRun)
		if err != nil {
			return nil, err
		}
		return &replayEventsOutput{Body: replayedEvents{Events: append([]string{}, ids...), DryRun: in.Body.DryRun}}, nil
	})
	return nil
}
