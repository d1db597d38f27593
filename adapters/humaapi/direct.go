package humaapi

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// directPath is one that the mux of the API cannot have: it and /rooms/{room}/read would both have /rooms/direct/read.
const directPath = "/rooms/direct/{userId}"

// routes puts operations onto the mux of the API, and that one onto the mux beside it.
type routes struct{ mux, beside *http.ServeMux }

// HandleFunc implements humago.Mux.
func (r routes) HandleFunc(pattern string, handle func(http.ResponseWriter, *http.Request)) {
	if strings.HasSuffix(pattern, " "+directPath) {
		r.beside.HandleFunc(pattern, handle)
		return
	}
	r.mux.HandleFunc(pattern, handle)
}

// ServeHTTP implements humago.Mux.
func (r routes) ServeHTTP(w http.ResponseWriter, req *http.Request) { r.mux.ServeHTTP(w, req) }

// find returns the mux that serves a request, with what it has for it. /rooms/direct/read is how far the room "direct" was read; a user who is called so is /rooms/direct/%72ead.
func (a *API) find(r *http.Request) (mux *http.ServeMux, handler http.Handler, pattern string) {
	if path := r.URL.EscapedPath(); strings.HasPrefix(path, "/rooms/direct/") && path != "/rooms/direct/read" {
		if handler, pattern = a.beside.Handler(r); pattern != "" {
			return a.beside, handler, pattern
		}
	}
	handler, pattern = a.mux.Handler(r)
	return a.mux, handler, pattern
}

// allowed returns the methods of a path for which there is no handler, given that of the mux; nothing if there are none.
func (a *API) allowed(handler http.Handler, r *http.Request) string {
	allow := allowed(handler, r)
	if allow == "" {
		beside, _ := a.beside.Handler(r)
		allow = allowed(beside, r)
	}
	return allow
}

type blockedUser struct {
	User roomUser  `json:"user" doc:"Who is blocked."`
	At   time.Time `json:"at" doc:"Since when."`
}

type blockPage struct {
	Blocks []blockedUser `json:"blocks" nullable:"false" doc:"Ascending by the bytes of the user's id."`
	Next   string        `json:"next,omitempty" doc:"For after, if there are more."`
}

type (
	directInput struct {
		User authorID `path:"userId" doc:"The other user's id, percent-encoded."`
	}
	blockInput struct {
		User authorID `path:"userId" doc:"The user's id, percent-encoded."`
	}
	listBlocksInput struct {
		After string `query:"after" doc:"next of the page before: only users behind this id."`
		Limit int    `query:"limit" minimum:"1" maximum:"100" default:"50" doc:"Users a page. It may have fewer."`
	}

	directOutput struct {
		Status int
		Body   room
	}
	blocksOutput struct{ Body blockPage }
)

// registerDirect puts the call for direct rooms onto the API.
func (c roomCalls) registerDirect() {
	responses := answers(http.StatusOK, "It was there.")
	responses["201"] = &huma.Response{Description: "It is made."}
	register(c.api, c.operation(huma.Operation{
		OperationID: "direct-room", Method: http.MethodPut, Path: directPath,
		Summary: "The direct room of the caller and another user",
		Description: "Two users have one direct room. The first of them to ask makes it, with both as members. Whoever has left it is a member again when either of them asks. " +
			"Its data is {\"users\": [id, id]}. The answer is the same for a user who is not known and for one who has blocked the caller.",
		Responses: responses,
	}), c.failures(chat.ErrDirectInvalid, user.ErrNotFound, chat.ErrBlocking, chat.ErrBanned, chat.ErrNotAllowed, chat.ErrRoomTaken, chat.ErrNoRoles), c.direct)
	responses["201"].Content = responses["200"].Content
	c.api.slashes(http.MethodPut, directPath)
}

func (c roomCalls) direct(ctx context.Context, in *directInput) (*directOutput, error) {
	r, made, err := c.service.Direct(ctx, c.speaker(ctx), user.ID(in.User))
	if err != nil {
		return nil, err
	}
	out := &directOutput{Status: http.StatusOK, Body: c.told(r).Body}
	if made {
		out.Status = http.StatusCreated
	}
	return out, nil
}

// registerBlocks puts the calls onto the API by which a user blocks others.
func (c roomCalls) registerBlocks() {
	register(c.api, c.operation(huma.Operation{
		OperationID: "list-blocks", Method: http.MethodGet, Path: "/me/blocks",
		Summary: "A page of those whom the caller has blocked", Responses: answers(http.StatusOK, "The blocks."),
	}), c.failures(chat.ErrNoBlocks), c.blocks)
	register(c.api, c.operation(huma.Operation{
		OperationID: "block-user", Method: http.MethodPut, Path: "/me/blocks/{userId}",
		Summary: "Block a user",
		Description: "From now on, on every node, neither of the two can begin a direct room with the other. In the one that they have, both can only read. That ends when neither blocks the other. " +
			"Other rooms stay as they are. To block somebody again is no error.",
		Responses: answers(http.StatusNoContent, "They are blocked."),
	}), c.failures(chat.ErrBlockInvalid, chat.ErrTooManyBlocks, user.ErrNotFound, chat.ErrNoBlocks), func(ctx context.Context, in *blockInput) (*noOutput, error) {
		_, err := c.service.Block(ctx, c.speaker(ctx).ID, user.ID(in.User))
		return nil, err
	})
	register(c.api, c.operation(huma.Operation{
		OperationID: "unblock-user", Method: http.MethodDelete, Path: "/me/blocks/{userId}",
		Summary: "End a block", Description: "To end one that is not there is no error.",
		Responses: answers(http.StatusNoContent, "They are not blocked."),
	}), c.failures(chat.ErrNoBlocks), func(ctx context.Context, in *blockInput) (*noOutput, error) {
		return nil, c.service.Unblock(ctx, c.speaker(ctx).ID, user.ID(in.User))
	})
	c.api.slashes(http.MethodPut, "/me/blocks/{userId}")
	c.api.slashes(http.MethodDelete, "/me/blocks/{userId}")
}

func (c roomCalls) blocks(ctx context.Context, in *listBlocksInput) (*blocksOutput, error) {
	blocks, more, err := c.service.Blocks(ctx, c.speaker(ctx).ID, user.ID(in.After), in.Limit)
	if err != nil {
		return nil, err
	}
	ids := make([]user.ID, len(blocks))
	for i, b := range blocks {
		ids[i] = b.Whom
	}
	known, _, err := c.service.People(ctx, ids...)
	if err != nil {
		return nil, err
	}
	out := blockPage{Blocks: make([]blockedUser, len(blocks))}
	for i, b := range blocks {
		out.Blocks[i] = blockedUser{User: roomUser{string(b.Whom), known[b.Whom].Name}, At: b.At}
	}
	if more {
		out.Next = string(ids[len(ids)-1])
	}
	return &blocksOutput{Body: out}, nil
}
