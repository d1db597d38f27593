package humaapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// reasonText documents the limits of a reason; core checks them.
type reasonText string

// TransformSchema documents the limits of a reason.
func (reasonText) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	return textLimits(s, 0, chat.MaxReason)
}

type restrictRequest struct {
	Until  *time.Time `json:"until,omitempty" nullable:"false" doc:"When it ends, in the future. Without it: never." example:"2030-01-01T00:00:00Z"`
	Reason reasonText `json:"reason,omitempty" doc:"What the user is told about it." example:"spam"`
}

type restriction struct {
	User   string    `json:"user" doc:"The id of whom it keeps from something." example:"01kax9d8w2n4e6r8t0y2v4b6m8"`
	By     string    `json:"by" doc:"The id of who has imposed it." example:"system"`
	At     time.Time `json:"at" doc:"When it was imposed."`
	Until  time.Time `json:"until,omitzero" required:"false" doc:"When it ends. Without it: never."`
	Reason string    `json:"reason,omitempty" doc:"What the user is told about it." example:"spam"`
}

type banPage struct {
	Bans []restriction `json:"bans" nullable:"false" doc:"Those that hold, ascending by the bytes of the user's id."`
	Next string        `json:"next,omitempty" doc:"For after, if there are more."`
}

type mutePage struct {
	Mutes []restriction `json:"mutes" nullable:"false" doc:"Those that hold, ascending by the bytes of the user's id."`
	Next  string        `json:"next,omitempty" doc:"For after, if there are more."`
}

type (
	restrictInput struct {
		Room roomName `path:"room" doc:"The room's name, percent-encoded."`
		User authorID `path:"userId" doc:"The user's id, percent-encoded. The server does not check that there is such a user."`
		Body restrictRequest
	}
	liftInput struct {
		Room roomName `path:"room" doc:"The room's name, percent-encoded."`
		User authorID `path:"userId" doc:"The user's id, percent-encoded."`
	}
	listRestrictedInput struct {
		Room  roomName `path:"room" doc:"The room's name, percent-encoded."`
		After string   `query:"after" doc:"next of the page before: only users behind this id."`
		Limit int      `query:"limit" minimum:"1" maximum:"100" default:"50" doc:"How many a page. It may have fewer."`
	}
	bansOutput  struct{ Body banPage }
	mutesOutput struct{ Body mutePage }
)

// registerRestrictions puts the calls onto the API that ban and mute users in rooms.
func (c roomCalls) registerRestrictions() {
	failures := c.failures(append(c.lacks(), chat.ErrRoomInvalid, chat.ErrRoomNotFound, chat.ErrRestrictionInvalid, chat.ErrNoRestrictions)...)
	for _, k := range []struct {
		kind                                           chat.RestrictionKind
		at, imposed, imposedMore, lifted, list, answer string
	}{
		{
			chat.Ban, "bans", "Ban a user from a room",
			"They are out of the room at once, on every node, and cannot join it until the ban ends. It takes the place of a ban that they had there.",
			"Let a banned user join again", "A page of those who are banned from a room", "The bans.",
		},
		{
			chat.Mute, "mutes", "Mute a user in a room",
			"At once, on every node, they can only read and mark there until the mute ends. They need not be a member. It takes the place of a mute that they had there.",
			"Let a muted user speak again", "A page of those who are muted in a room", "The mutes.",
		},
	} {
		path := "/rooms/{room}/" + k.at
		register(c.api, c.operation(huma.Operation{
			OperationID: string(k.kind) + "-user", Method: http.MethodPut, Path: path + "/{userId}",
			Summary: k.imposed, Description: k.imposedMore,
			Responses: answers(http.StatusNoContent, "It is stored."),
		}), failures, func(ctx context.Context, in *restrictInput) (*noOutput, error) {
			r := c.restriction(ctx, k.kind, in.Room, in.User)
			r.Reason = string(in.Body.Reason)
			if in.Body.Until != nil {
				if r.Until = *in.Body.Until; r.Until.IsZero() { // which would mean never
					return nil, chat.ErrRestrictionInvalid.Detail("its end has passed")
				}
			}
			_, err := c.service.Restrict(ctx, c.actor(ctx), r)
			return nil, err
		})
		register(c.api, c.operation(huma.Operation{
			OperationID: "un" + string(k.kind) + "-user", Method: http.MethodDelete, Path: path + "/{userId}",
			Summary: k.lifted, Description: "To lift what is not there is no error.",
			Responses: answers(http.StatusNoContent, "It does not hold any more."),
		}), failures, func(ctx context.Context, in *liftInput) (*noOutput, error) {
			r := c.restriction(ctx, k.kind, in.Room, in.User)
			_, err := c.service.Lift(ctx, c.actor(ctx), r)
			return nil, err
		})
		op := c.operation(huma.Operation{
			OperationID: "list-" + k.at, Method: http.MethodGet, Path: path,
			Summary: k.list, Responses: answers(http.StatusOK, k.answer),
		})
		if k.kind == chat.Ban {
			register(c.api, op, failures, func(ctx context.Context, in *listRestrictedInput) (*bansOutput, error) {
				page, next, err := c.restricted(ctx, chat.Ban, in)
				if err != nil {
					return nil, err
				}
				return &bansOutput{Body: banPage{Bans: page, Next: next}}, nil
			})
		} else {
			register(c.api, op, failures, func(ctx context.Context, in *listRestrictedInput) (*mutesOutput, error) {
				page, next, err := c.restricted(ctx, chat.Mute, in)
				if err != nil {
					return nil, err
				}
				return &mutesOutput{Body: mutePage{Mutes: page, Next: next}}, nil
			})
		}
		c.api.slashes(http.MethodPut, path+"/{userId}")
		c.api.slashes(http.MethodDelete, path+"/{userId}")
		c.api.slashes(http.MethodGet, path)
	}
}

// restriction is what who calls imposes or lifts.
func (c roomCalls) restriction(ctx context.Context, kind chat.RestrictionKind, in roomName, whom authorID) chat.Restriction {
	return chat.Restriction{Room: string(in), UserID: user.ID(whom), Kind: kind, By: c.speaker(ctx).ID}
}

func (c roomCalls) restricted(ctx context.Context, kind chat.RestrictionKind, in *listRestrictedInput) (page []restriction, next string, err error) {
	room := string(in.Room)
	if !c.any {
		at, err := c.service.Standing(ctx, c.actor(ctx), room, chat.RightModerate)
		if err != nil {
			return nil, "", err
		}
		room = at.Room.Name
	}
	held, more, err := c.service.Restrictions(ctx, room, kind, user.ID(in.After), in.Limit)
	if err != nil {
		return nil, "", err
	}
	page = make([]restriction, len(held))
	for i, r := range held {
		page[i] = restriction{User: string(r.UserID), By: string(r.By), At: r.At, Until: r.Until, Reason: r.Reason}
	}
	if more {
		next = page[len(page)-1].User
	}
	return page, next, nil
}
