package humaapi

import (
	"cmp"
	"context"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/settings"
	"github.com/parley-chat/parley/core/user"
)

var (
	// errRoomAdminOff says that there is no token with which operators could speak in rooms.
	errRoomAdminOff = fault.New(fault.Forbidden, "room_admin_disabled", "the administration of rooms is switched off")
	// errTooFast refuses a call beyond RoomsConfig.Rate.
	errTooFast = fault.New(fault.Exhausted, "too_fast", "too many calls")
)

// RoomsConfig is what [RegisterRooms] needs. Zero fields without "required" mean the default.
type RoomsConfig struct {
	// Service stores and reads. Its Run must be running. Required.
	Service *chat.Service
	// Identify returns whom an access token speaks for, or an error of kind Unauthenticated, as parley.Node.Identify does. Required.
	Identify func(ctx context.Context, accessToken string) (user.Identity, error)
	// Limiter counts the calls of each user, and Rate is how many one may make. Default: no limit. With a Rate, Limiter is required.
	Limiter auth.Limiter
	Rate    auth.Rate
	// Now is the clock of Limiter. Default time.Now.
	Now func() time.Time
}

// RoomsAdminConfig is what [RegisterRoomsAdmin] needs.
type RoomsAdminConfig struct {
	// Service stores and reads. Its Run must be running. Required.
	Service *chat.Service
	// Token and CurrentToken are as in [MailConfig].
	Token        string
	CurrentToken func() string
}

// RegisterRooms puts the calls of users about rooms onto a: which rooms there are, which are the caller's, their messages, how far they
// were read, who is a member, and who runs them. The caller's role says what they may do in a room; see [chat.Role].
func RegisterRooms(a *API, cfg RoomsConfig) error {
	c := settings.Of("humaapi: RoomsConfig")
	c.Argument("the API", a == nil)
	c.Require("Service", cfg.Service == nil)
	c.Require("Identify", cfg.Identify == nil)
	limited := cfg.Rate.Burst > 0 && cfg.Rate.Per > 0
	switch {
	case cfg.Rate.Burst < 0 || cfg.Rate.Per < 0:
		c.Refuse("Rate", "is negative")
	case !limited && cfg.Rate != (auth.Rate{}):
		c.Refuse("Rate", "has no Burst or no Per")
	}
	c.Require("Limiter", limited && cfg.Limiter == nil)
	if err := c.Err(); err != nil {
		return err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	a.scheme(schemeBearer, "The access token of POST /auth/signin or /auth/refresh.", "JWT")
	middlewares := huma.Middlewares{a.identify(cfg.Identify)}
	if limited {
		middlewares = append(middlewares, a.limitUser(cfg))
	}
	calls := roomCalls{
		api: a, service: cfg.Service,
		security: bearerSecurity(), middlewares: middlewares,
		failures: func(more ...error) []error { return bearerFailures(append(more, realtime.ErrExpired, errTooFast)...) },
		inRoom:   []error{chat.ErrRoomInvalid, chat.ErrRoomNotFound, chat.ErrNotMember, chat.ErrNotAllowed},
		speaker:  func(ctx context.Context) chat.Author { return authorOf(identityOf(ctx)) },
		enter:    cfg.Service.Member,
		rooms:    cfg.Service.Rooms,
	}
	calls.enterToSpeak, calls.silenced = calls.userToSpeak, append(calls.lacks(), chat.ErrMuted)
	calls.register()
	calls.registerMine()
	calls.registerManaging()
	calls.registerDirect()
	calls.registerBlocks()
	calls.registerSettings()
	calls.registerRestrictions()
	registerSend(calls, func(in *sendInput) (sendRequest, *chat.Author) { return in.Body, nil })
	return nil
}

// RegisterRoomsAdmin puts the calls of operators about rooms onto a, at the paths of [RegisterRooms]: they need no membership, speak as
// [chat.System] or as whom they name, edit and delete what anybody has written, run every room, and ban and mute users. chat.Config.Access and Screen are asked about what they send, and
// Access about what they read.
func RegisterRoomsAdmin(a *API, cfg RoomsAdminConfig) error {
	c := settings.Of("humaapi: RoomsAdminConfig")
	c.Argument("the API", a == nil)
	c.Require("Service", cfg.Service == nil)
	current := adminTokens(c, cfg.Token, cfg.CurrentToken)
	if err := c.Err(); err != nil {
		return err
	}
	a.scheme(schemeAdmin, "The administrator's token.", "")
	calls := roomCalls{
		api: a, service: cfg.Service, prefix: "admin-", any: true,
		security:    []map[string][]string{{schemeAdmin: {}}},
		middlewares: huma.Middlewares{a.requireToken(current, errRoomAdminOff)},
		failures:    func(more ...error) []error { return adminFailures(errRoomAdminOff, more...) },
		inRoom:      []error{chat.ErrRoomInvalid, chat.ErrRoomNotFound, chat.ErrNotAllowed},
		speaker:     func(context.Context) chat.Author { return chat.System },
		enter: func(ctx context.Context, _ chat.Author, room string) (string, error) {
			return cfg.Service.Existing(ctx, room)
		},
		rooms: func(ctx context.Context, _ chat.Author, after string, limit int) ([]chat.RoomState, bool, error) {
			return cfg.Service.AllRooms(ctx, after, limit)
		},
	}
	calls.enterToSpeak = calls.enter
	calls.register()
	calls.registerManaging()
	calls.registerDirect()
	registerSend(calls, func(in *sendAsInput) (sendRequest, *chat.Author) {
		b := in.Body
		said := sendRequest{Text: b.Text, ClientID: b.ClientID, ReplyTo: b.ReplyTo, Data: b.Data}
		if b.As == nil {
			return said, nil
		}
		return said, &chat.Author{ID: user.ID(b.As.ID), Name: string(b.As.Name)}
	})
	calls.registerRestrictions()
	return nil
}

// roomCalls are the calls about rooms of one kind of callers.
type roomCalls struct {
	api         *API
	service     *chat.Service
	prefix      string // of the operations' ids
	any         bool   // they are operators: no role is asked for, and they edit and delete what others have written
	security    []map[string][]string
	middlewares huma.Middlewares
	failures    func(more ...error) []error
	// inRoom are failures of each call about one room.
	inRoom []error
	// speaker is who calls, and enter the name of a room in which they may do something.
	speaker func(ctx context.Context) chat.Author
	enter   func(ctx context.Context, who chat.Author, room string) (string, error)
	// enterToSpeak is enter for a call that sends or changes, and silenced are the refusals that it returns besides.
	enterToSpeak func(ctx context.Context, who chat.Author, room string) (string, error)
	silenced     []error
	rooms        func(ctx context.Context, who chat.Author, after string, limit int) ([]chat.RoomState, bool, error)
}

// operation completes what all of these calls have in common.
func (c roomCalls) operation(op huma.Operation) huma.Operation {
	op.OperationID = c.prefix + op.OperationID
	op.Tags, op.Security, op.Middlewares = []string{"rooms"}, c.security, c.middlewares[:len(c.middlewares):len(c.middlewares)]
	return op
}

// failuresIn are those of a call about one room.
func (c roomCalls) failuresIn(more ...error) []error { return c.failures(append(more, c.inRoom...)...) }

// says is what the document says to one kind of callers.
func (c roomCalls) says(toUsers, toOperators string) string {
	if c.any {
		return toOperators
	}
	return toUsers
}

// lacks are failures of calls that not every role may make.
func (c roomCalls) lacks() []error {
	if c.any {
		return nil
	}
	return []error{chat.ErrNotMember, chat.ErrRoleLacksRight}
}

// userToSpeak is the name of a room in which a user may send and change.
func (c roomCalls) userToSpeak(ctx context.Context, who chat.Author, room string) (string, error) {
	at, err := c.service.Standing(ctx, chat.Actor{Author: who}, room, chat.RightSpeak)
	if err != nil {
		return "", err
	}
	if at.Mute.Kind != "" {
		return "", at.Mute.Refusal()
	}
	return at.Room.Name, nil
}

// changeFailures are those of a call that changes a message.
func (c roomCalls) changeFailures(more ...error) []error {
	return c.failuresIn(append(append(more, chat.ErrMessageNotFound, chat.ErrMessageDeleted, realtime.ErrRoomBusy, chat.ErrBusy, chat.ErrClosed), c.silenced...)...)
}

// roomName, messageText and others put core's limits into the document without having Huma check them: core does, and says more exactly
// what is wrong.
type (
	roomName    string
	messageText string
	clientID    string
	reactionKey string
	authorID    string
)

func textLimits(s *huma.Schema, least, most int) *huma.Schema {
	s.Extensions = map[string]any{"minLength": least, "maxLength": most}
	return s
}

// TransformSchema documents the limits of a room's name.
func (roomName) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	return textLimits(s, 1, chat.MaxRoomName)
}

// TransformSchema documents the limits of a text.
func (messageText) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	return textLimits(s, 1, chat.MaxText)
}

// TransformSchema documents the limits of a client id.
func (clientID) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	return textLimits(s, 0, chat.MaxClientID)
}

// TransformSchema documents the limits of a reaction.
func (reactionKey) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	return textLimits(s, 1, chat.MaxReactionKey)
}

// TransformSchema documents the limits of an author's id.
func (authorID) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	return textLimits(s, 1, chat.MaxAuthorID)
}

type room struct {
	Name      string    `json:"name" example:"hall"`
	Kind      string    `json:"kind" enum:"public,private,direct" doc:"Whoever wants may join a public room, unless the application says otherwise. Others are there for their members only; nobody is invited to a direct one."`
	Title     string    `json:"title,omitempty" doc:"What people read instead of the name." example:"The hall"`
	Topic     string    `json:"topic,omitempty" doc:"What it is about." example:"Whatever comes up"`
	Data      roomData  `json:"data,omitempty"`
	CreatedBy string    `json:"createdBy" doc:"The id of the user who has made it, or joined it first; system: an operator has made it." example:"01kax9d8w2n4e6r8t0y2v4b6m8"`
	CreatedAt time.Time `json:"createdAt"`
	Seq       uint64    `json:"seq" doc:"The last message's place; 0 if there was none." example:"44"`
	Rev       uint64    `json:"rev" doc:"The last change's place; 0 if there was none." example:"2"`
	Retention string    `json:"retention,omitempty" doc:"How long messages are kept, in hours, minutes and seconds. Absent: as long as the server's own setting says, or it is not the caller's to know." example:"720h"`
}

type roomPage struct {
	Rooms []room `json:"rooms" nullable:"false" doc:"Ascending by the bytes of the name."`
	Next  string `json:"next,omitempty" doc:"For after, if there may be more."`
}

type myRoom struct {
	Room   string      `json:"room" doc:"The room's name." example:"hall"`
	Role   string      `json:"role" enum:"owner,moderator,member,reader" doc:"What the caller is in the room."`
	Seq    uint64      `json:"seq" doc:"The last message's place; 0 if there was none." example:"44"`
	Rev    uint64      `json:"rev" doc:"The last change's place; 0 if there was none." example:"2"`
	Read   uint64      `json:"read" doc:"How far the caller has read: a seq." example:"41"`
	Unread uint64      `json:"unread" doc:"How many messages come behind read that are stored and not deleted." example:"3"`
	Last   lastMessage `json:"last" doc:"The last message that is stored, as it is now, also a deleted one; null if there is none."`

	MutedUntil time.Time `json:"mutedUntil,omitzero" required:"false" doc:"Until then the caller cannot send, change and react here: 9999-12-31T23:59:59Z if that has no end. Absent: they can."`
}

type myRoomPage struct {
	Rooms []myRoom `json:"rooms" nullable:"false" doc:"The one that was active last comes first: by the last message, or by when the caller joined, if that was later."`
	Next  string   `json:"next,omitempty" doc:"For cursor, if there may be more."`
}

type messagePage struct {
	Messages []chatMessage `json:"messages" nullable:"false" doc:"Ascending by seq; with changedAfter by rev."`
	More     bool          `json:"more" doc:"The range holds further messages."`
}

type sendRequest struct {
	Text     messageText `json:"text" doc:"What is said. It has a character that can be seen." example:"Good morning"`
	ClientID clientID    `json:"clientId,omitempty" doc:"The sender's own name for the message, visible ASCII. Sending the same again stores nothing and has the same answer." example:"a1b2"`
	ReplyTo  uint64      `json:"replyTo,omitempty" minimum:"1" maximum:"9007199254740991" doc:"The seq of the message in this room that it answers."`
	Data     attached    `json:"data,omitempty"`
}

// sendAsRequest is sendRequest and As: Huma does not look into what is embedded and not exported.
type sendAsRequest struct {
	Text     messageText `json:"text" doc:"What is said. It has a character that can be seen." example:"Good morning"`
	ClientID clientID    `json:"clientId,omitempty" doc:"The sender's own name for the message, visible ASCII. Sending the same again stores nothing and has the same answer." example:"a1b2"`
	ReplyTo  uint64      `json:"replyTo,omitempty" minimum:"1" maximum:"9007199254740991" doc:"The seq of the message in this room that it answers."`
	Data     attached    `json:"data,omitempty"`

	As *speaker `json:"as,omitempty" doc:"Who is to be seen as the sender. Without it: system."`
}

type speaker struct {
	ID   authorID `json:"id" doc:"Names the sender: a user of the service, or anybody else." example:"weather-bot"`
	Name nameText `json:"name" doc:"What others see." example:"Weather"`
}

type editRequest struct {
	Text messageText `json:"text" doc:"What the message says from now on." example:"Good evening"`
	Data attached    `json:"data,omitempty"`
}

type readRequest struct {
	Seq uint64 `json:"seq" maximum:"9007199254740991" doc:"The seq of the last message that was read. One behind the room's last message means that one; 0 only asks." example:"44"`
}

type changed struct {
	Seq uint64 `json:"seq" doc:"Which message of the room." example:"44"`
	Rev uint64 `json:"rev" doc:"The message's last change. What changes nothing has the one that was last." example:"3"`
}

type marked struct {
	Read   uint64 `json:"read" doc:"How far the caller has read. It never goes back." example:"44"`
	Unread uint64 `json:"unread" doc:"How many messages come behind it that are stored and not deleted." example:"0"`
}

type (
	listRoomsInput struct {
		After string `query:"after" doc:"next of the page before: only rooms behind this name."`
		Limit int    `query:"limit" minimum:"1" maximum:"50" default:"50" doc:"Rooms a page. It may have fewer."`
	}
	myRoomsInput struct {
		Cursor string `query:"cursor" doc:"next of the page before."`
		Limit  int    `query:"limit" minimum:"1" maximum:"100" default:"50" doc:"Rooms a page. It may have fewer."`
	}
	historyInput struct {
		Room         roomName    `path:"room" doc:"The room's name, percent-encoded."`
		Before       optionalSeq `query:"before" minimum:"1" maximum:"9007199254740991" doc:"Only messages with a lower seq, the highest of them first to be taken."`
		After        optionalSeq `query:"after" maximum:"9007199254740991" doc:"Only messages with a higher seq, the lowest of them first to be taken."`
		ChangedAfter optionalSeq `query:"changedAfter" maximum:"9007199254740991" doc:"Only messages with a higher rev, ascending by rev. Before and after have no effect then."`
		Limit        int         `query:"limit" minimum:"1" maximum:"1000" doc:"How many at most; the server may give fewer."`
	}
	sendInput struct {
		Room roomName `path:"room" doc:"The room's name, percent-encoded."`
		Body sendRequest
	}
	sendAsInput struct {
		Room roomName `path:"room" doc:"The room's name, percent-encoded."`
		Body sendAsRequest
	}
	editInput struct {
		Room roomName `path:"room" doc:"The room's name, percent-encoded."`
		Seq  uint64   `path:"seq" minimum:"1" maximum:"9007199254740991" doc:"Which message of the room."`
		Body editRequest
	}
	deleteInput struct {
		Room roomName `path:"room" doc:"The room's name, percent-encoded."`
		Seq  uint64   `path:"seq" minimum:"1" maximum:"9007199254740991" doc:"Which message of the room."`
	}
	reactInput struct {
		Room roomName    `path:"room" doc:"The room's name, percent-encoded."`
		Seq  uint64      `path:"seq" minimum:"1" maximum:"9007199254740991" doc:"Which message of the room."`
		Key  reactionKey `path:"key" doc:"A short text that can be seen, mostly an emoji, percent-encoded."`
	}
	readInput struct {
		Room roomName `path:"room" doc:"The room's name, percent-encoded."`
		Body readRequest
	}

	listRoomsOutput struct{ Body roomPage }
	myRoomsOutput   struct{ Body myRoomPage }
	historyOutput   struct{ Body messagePage }
	sendOutput      struct{ Body sentMessage }
	changeOutput    struct{ Body changed }
	readOutput      struct{ Body marked }
)

func (in *sendInput) room() roomName   { return in.Room }
func (in *sendAsInput) room() roomName { return in.Room }

// authorOf is how others see who calls.
func authorOf(who user.Identity) chat.Author { return chat.Author{ID: who.UserID, Name: who.Name} }

// limitUser is middleware behind identify: it lets a user make no more calls than the rate allows.
func (a *API) limitUser(cfg RoomsConfig) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		wait, err := cfg.Limiter.Allow(ctx.Context(), "rooms:"+string(identityOf(ctx.Context()).UserID), cfg.Rate, cfg.Now().UTC())
		if err == nil && wait > 0 {
			err = errTooFast.RetryAfter(wait)
		}
		if err != nil {
			a.note(ctx.Context(), ctx.Operation().OperationID, err)
			refuse(ctx, err)
			return
		}
		next(ctx)
	}
}

// register puts those calls onto the API that all callers have in one form.
func (c roomCalls) register() {
	c.api.tag("rooms", "Rooms and their messages. What is sent and changed here reaches the members live, on every node, as if it came from a socket.")
	register(c.api, c.operation(huma.Operation{
		OperationID: "list-rooms", Method: http.MethodGet, Path: "/rooms",
		Summary:     c.says("A page of the public rooms that one may join", "A page of all rooms, of every kind"),
		Description: c.says("Rooms that an application's rule keeps the caller from joining are left out. ", "") + "A page may be shorter than limit although there is more.",
		Responses:   answers(http.StatusOK, "The rooms."),
	}), c.failures(), c.list)
	register(c.api, c.operation(huma.Operation{
		OperationID: "list-messages", Method: http.MethodGet, Path: "/rooms/{room}/messages",
		Summary:     "Messages of a room",
		Description: "Without before, after and changedAfter: the newest.",
		Responses:   answers(http.StatusOK, "The messages, as they are now."),
	}), c.failuresIn(), c.history)
	register(c.api, c.operation(huma.Operation{
		OperationID: "edit-message", Method: http.MethodPatch, Path: "/rooms/{room}/messages/{seq}",
		Summary:     "Give a message another text",
		Description: "Without data it keeps what it has. An edit keeps no history.",
		Responses:   answers(http.StatusOK, "It is stored."),
	}), c.changeFailures(chat.ErrTextInvalid, chat.ErrDataInvalid, chat.ErrRefused, chat.ErrUnscreened),
		func(ctx context.Context, in *editInput) (*changeOutput, error) {
			return c.change(ctx, in.Room, chat.Change{Kind: chat.Edit, Seq: in.Seq, Text: string(in.Body.Text), Data: string(in.Body.Data)})
		})
	register(c.api, c.operation(huma.Operation{
		OperationID: "delete-message", Method: http.MethodDelete, Path: "/rooms/{room}/messages/{seq}",
		Summary:     "Erase a message",
		Description: "Its text, data, replyTo and reactions are erased; its place stays.",
		Responses:   answers(http.StatusOK, "It is stored."),
	}), c.changeFailures(),
		func(ctx context.Context, in *deleteInput) (*changeOutput, error) {
			return c.change(ctx, in.Room, chat.Change{Kind: chat.Delete, Seq: in.Seq})
		})
	register(c.api, c.operation(huma.Operation{
		OperationID: "add-reaction", Method: http.MethodPut, Path: "/rooms/{room}/messages/{seq}/reactions/{key}",
		Summary:   "React to a message",
		Responses: answers(http.StatusOK, "It is stored."),
	}), c.changeFailures(chat.ErrReactionInvalid, chat.ErrReactionsFull),
		func(ctx context.Context, in *reactInput) (*changeOutput, error) {
			return c.change(ctx, in.Room, chat.Change{Kind: chat.React, Seq: in.Seq, Key: string(in.Key)})
		})
	register(c.api, c.operation(huma.Operation{
		OperationID: "remove-reaction", Method: http.MethodDelete, Path: "/rooms/{room}/messages/{seq}/reactions/{key}",
		Summary:   "Take a reaction back",
		Responses: answers(http.StatusOK, "It is stored."),
	}), c.changeFailures(chat.ErrReactionInvalid),
		func(ctx context.Context, in *reactInput) (*changeOutput, error) {
			return c.change(ctx, in.Room, chat.Change{Kind: chat.Unreact, Seq: in.Seq, Key: string(in.Key)})
		})
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		c.api.slashes(method, "/rooms/{room}/messages")
	}
	for _, method := range []string{http.MethodPatch, http.MethodDelete} {
		c.api.slashes(method, "/rooms/{room}/messages/{seq}")
	}
	for _, method := range []string{http.MethodPut, http.MethodDelete} {
		c.api.slashes(method, "/rooms/{room}/messages/{seq}/reactions/{key}")
	}
}

func (c roomCalls) list(ctx context.Context, in *listRoomsInput) (*listRoomsOutput, error) {
	rooms, more, err := c.rooms(ctx, c.speaker(ctx), in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	out := roomPage{Rooms: make([]room, len(rooms))}
	for i, r := range rooms {
		out.Rooms[i] = roomOf(r)
	}
	if more {
		out.Next = rooms[len(rooms)-1].Name
	}
	return &listRoomsOutput{Body: out}, nil
}

func (c roomCalls) history(ctx context.Context, in *historyInput) (*historyOutput, error) {
	who := c.speaker(ctx)
	name, err := c.enter(ctx, who, string(in.Room))
	if err != nil {
		return nil, err
	}
	r := chat.Range{Before: in.Before.Value, After: in.After.Value, Limit: in.Limit, Newest: !in.After.set}
	if in.ChangedAfter.set {
		r = chat.Range{Changed: true, After: in.ChangedAfter.Value, Limit: in.Limit}
	}
	p, err := c.service.History(ctx, who, name, r)
	if err != nil {
		return nil, err
	}
	out := messagePage{Messages: make([]chatMessage, len(p.Messages)), More: p.More}
	for i, m := range p.Messages {
		out.Messages[i] = chatMessage{m}
	}
	return &historyOutput{Body: out}, nil
}

func (c roomCalls) change(ctx context.Context, in roomName, change chat.Change) (*changeOutput, error) {
	var err error
	change.By, change.Any = c.speaker(ctx), c.any
	if change.Room, err = c.enterToSpeak(ctx, change.By, string(in)); err != nil {
		return nil, err
	}
	now, err := c.service.Change(ctx, change)
	if err != nil {
		return nil, err
	}
	return &changeOutput{Body: changed{Seq: change.Seq, Rev: now.Rev}}, nil
}

// registerSend puts the call onto the API by which messages are sent. of returns what is to be sent, and who is to speak, nil for who calls.
func registerSend[I any, P interface {
	*I
	room() roomName
}](c roomCalls, of func(P) (sendRequest, *chat.Author)) {
	failures := []error{chat.ErrTextInvalid, chat.ErrClientIDInvalid, chat.ErrReplyToInvalid, chat.ErrDataInvalid, chat.ErrRefused, chat.ErrUnscreened, realtime.ErrRoomBusy, chat.ErrBusy, chat.ErrClosed}
	failures = append(failures, c.silenced...)
	if c.any {
		failures = append(failures, chat.ErrAuthorInvalid)
	}
	register(c.api, c.operation(huma.Operation{
		OperationID: "send-message", Method: http.MethodPost, Path: "/rooms/{room}/messages",
		Summary:       "Say something",
		Description:   "The answer comes after the durable commit. With a clientId it is safe to send again.",
		DefaultStatus: http.StatusCreated, Responses: answers(http.StatusCreated, "It is stored."),
	}), c.failuresIn(failures...),
		func(ctx context.Context, in *I) (*sendOutput, error) {
			said, as := of(P(in))
			who := c.speaker(ctx)
			name, err := c.enterToSpeak(ctx, who, string(P(in).room()))
			if err == nil && as != nil {
				who, err = *as, chat.CheckAuthor(*as)
			}
			if err != nil {
				return nil, err
			}
			stored, err := c.service.Send(ctx, chat.Draft{
				Room: name, Author: who, Text: string(said.Text), ClientID: string(said.ClientID), ReplyTo: said.ReplyTo, Data: string(said.Data),
			})
			if err != nil {
				return nil, err
			}
			return &sendOutput{Body: sentMessage{stored.Message}}, nil
		})
}

// registerMine puts those calls onto the API that make sense for a member only.
func (c roomCalls) registerMine() {
	register(c.api, c.operation(huma.Operation{
		OperationID: "my-rooms", Method: http.MethodGet, Path: "/rooms/mine",
		Summary:     "The rooms of which one is a member",
		Description: "A room that becomes active moves to the front, and is not met again on later pages. Rooms that an application's rule keeps the caller from reading are left out.",
		Responses:   answers(http.StatusOK, "The rooms, with what is unread in each."),
	}), c.failures(), func(ctx context.Context, in *myRoomsInput) (*myRoomsOutput, error) {
		behind, ok := parsePlace(in.Cursor)
		if !ok {
			return nil, invalidAt("query.cursor", "it is not the next of a page")
		}
		rooms, next, err := c.service.MyRooms(ctx, c.speaker(ctx), behind, in.Limit)
		if err != nil {
			return nil, err
		}
		out := myRoomPage{Rooms: make([]myRoom, len(rooms))}
		for i, r := range rooms {
			out.Rooms[i] = myRoom{Room: r.Room, Role: string(cmp.Or(r.Role, chat.Regular)), Seq: r.Seq, Rev: r.Rev, Read: r.Read, Unread: r.Unread, Last: lastMessage{r.Last}}
			if r.Mute.Kind != "" {
				out.Rooms[i].MutedUntil = r.Mute.End()
			}
		}
		if next != nil {
			out.Next = placeText(*next)
		}
		return &myRoomsOutput{Body: out}, nil
	})
	register(c.api, c.operation(huma.Operation{
		OperationID: "mark-read", Method: http.MethodPut, Path: "/rooms/{room}/read",
		Summary:     "Say how far one has read a room",
		Description: "It never goes back. To send a message marks it too.",
		Responses:   answers(http.StatusOK, "It is stored."),
	}), c.failuresIn(chat.ErrBusy, chat.ErrClosed), func(ctx context.Context, in *readInput) (*readOutput, error) {
		who := c.speaker(ctx)
		name, err := c.enter(ctx, who, string(in.Room))
		if err != nil {
			return nil, err
		}
		now, err := c.service.Mark(ctx, chat.Mark{Room: name, User: who, Read: in.Body.Seq})
		if err != nil {
			return nil, err
		}
		return &readOutput{Body: marked{Read: now.Read, Unread: now.Unread}}, nil
	})
	c.api.slashes(http.MethodPut, "/rooms/{room}/read")
	c.api.wordFor(http.MethodGet, "/rooms/mine", "room")
}

// placeText writes a place in a list of rooms as a cursor, and parsePlace reads it. The empty text is the beginning.
func placeText(p chat.Place) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(p.Active.UnixMicro(), 10) + " " + p.Room))
}

func parsePlace(cursor string) (chat.Place, bool) {
	if cursor == "" {
		return chat.Place{}, true
	}
	text, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil {
		return chat.Place{}, false
	}
	at, name, ok := strings.Cut(string(text), " ")
	micros, err := strconv.ParseInt(at, 10, 64)
	if !ok || err != nil || chat.CheckRoom(name) != nil {
		return chat.Place{}, false
	}
	p := chat.Place{Active: time.UnixMicro(micros).UTC(), Room: name}
	return p, placeText(p) == cursor && p.Active.Year() > 0 && p.Active.Year() < 10_000
}

// The objects of the socket's protocol that these calls answer with.
var (
	messageObject = protocol.Own().ServerEvent(protocol.EventMessage).Data
	sentObject    = ackOf(protocol.EventMessage)
)

func ackOf(event string) *protocol.Object {
	for _, e := range protocol.Own().ClientEvents() {
		if e.Name == event {
			return e.Ack
		}
	}
	panic("humaapi: the protocol has no event " + event)
}
