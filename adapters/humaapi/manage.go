package humaapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// Texts of these types are checked by core, and documented here: see [roomName].
type (
	titleText     string
	topicText     string
	retentionText string
	newKind       string
	newRole       string
)

// TransformSchema documents the limits of a title.
func (titleText) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	return textLimits(s, 0, chat.MaxTitle)
}

// TransformSchema documents the limits of a topic.
func (topicText) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	return textLimits(s, 0, chat.MaxTopic)
}

// TransformSchema documents the form of a retention.
func (retentionText) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	return textLimits(s, 1, chat.MaxRetentionText)
}

// TransformSchema documents the kinds that a room can be given.
func (newKind) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Extensions = map[string]any{"enum": []chat.RoomKind{chat.Public, chat.Private}}
	return s
}

// TransformSchema documents the roles.
func (newRole) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Extensions = map[string]any{"enum": chat.AllRoles()}
	return s
}

// roomData is an application's JSON object about a room. It stays byte for byte, but for white space between its tokens.
type roomData []byte

// UnmarshalJSON takes the text as it is.
func (d *roomData) UnmarshalJSON(text []byte) error { return (*json.RawMessage)(d).UnmarshalJSON(text) }

// MarshalJSON writes the text as it is.
func (d roomData) MarshalJSON() ([]byte, error) { return json.RawMessage(d).MarshalJSON() }

// Schema allows any object.
func (roomData) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeObject, AdditionalProperties: true,
		Description: "The application's: a JSON object of at most 4096 bytes without white space, nested at most 32 deep. {} empties it. That of a direct room is the server's: {\"users\": [id, id]}.",
	}
}

type newRoom struct {
	Name  *roomName `json:"name,omitempty" nullable:"false" doc:"What the room is called. Without it: a name that nobody can guess." example:"kitchen"`
	Kind  *newKind  `json:"kind,omitempty" nullable:"false" doc:"Without it: public." example:"private"`
	Title titleText `json:"title,omitempty" doc:"What people read instead of the name." example:"The kitchen"`
	Topic topicText `json:"topic,omitempty" doc:"What it is about." example:"Who cooks what"`
	Data  roomData  `json:"data,omitempty"`
}

type roomChange struct {
	Title     *titleText     `json:"title,omitempty" nullable:"false" doc:"What people read instead of the name; empty: none." example:"The kitchen"`
	Topic     *topicText     `json:"topic,omitempty" nullable:"false" doc:"What it is about; empty: nothing." example:"Who cooks what"`
	Kind      *newKind       `json:"kind,omitempty" nullable:"false" doc:"Who may come in." example:"private"`
	Data      roomData       `json:"data,omitempty"`
	Retention *retentionText `json:"retention,omitempty" nullable:"false" doc:"How long messages are kept, in hours, minutes and seconds, from 1m to 876000h; 0s: as long as the server's own setting says." example:"720h"`
}

// roomUser is a user, with a name where the node knows the accounts.
type roomUser struct {
	ID   string `json:"id" doc:"The user's id." example:"01kax9d8w2n4e6r8t0y2v4b6m8"`
	Name string `json:"name,omitempty" doc:"The name that they have now. Absent: the program that answers does not know it." example:"Ada Lovelace"`
}

type member struct {
	User  roomUser  `json:"user" doc:"Who it is."`
	Role  string    `json:"role" enum:"owner,moderator,member,reader" doc:"What they are in the room."`
	Since time.Time `json:"since" doc:"When their membership began."`
	Read  *uint64   `json:"read,omitempty" doc:"How far they have read: a seq. Absent: they let nobody else know." example:"41"`

	MutedUntil time.Time `json:"mutedUntil,omitzero" required:"false" doc:"Until then they cannot send, change and react here: 9999-12-31T23:59:59Z if that has no end."`
}

type memberPage struct {
	Members []member `json:"members" nullable:"false" doc:"Ascending by the bytes of the user's id."`
	Next    string   `json:"next,omitempty" doc:"For after, if there are more."`
}

type roleRequest struct {
	Role newRole `json:"role" doc:"What the user is to be in the room." example:"member"`
}

type (
	createRoomInput struct{ Body newRoom }
	oneRoomInput    struct {
		Room roomName `path:"room" doc:"The room's name, percent-encoded."`
	}
	updateRoomInput struct {
		Room roomName `path:"room" doc:"The room's name, percent-encoded."`
		Body roomChange
	}
	listMembersInput struct {
		Room  roomName `path:"room" doc:"The room's name, percent-encoded."`
		After string   `query:"after" doc:"next of the page before: only users behind this id."`
		Limit int      `query:"limit" minimum:"1" maximum:"100" default:"50" doc:"Members a page. It may have fewer."`
	}
	setRoleInput struct {
		Room roomName `path:"room" doc:"The room's name, percent-encoded."`
		User authorID `path:"userId" doc:"The user's id, percent-encoded. The server does not check that there is such a user."`
		Body roleRequest
	}
	removeMemberInput struct {
		Room roomName `path:"room" doc:"The room's name, percent-encoded."`
		User authorID `path:"userId" doc:"The user's id, percent-encoded."`
	}

	roomOutput    struct{ Body room }
	membersOutput struct{ Body memberPage }
	memberOutput  struct{ Body member }
)

// roomOf is a room as it is told.
func roomOf(r chat.RoomState) room {
	return room{
		Name: r.Name, Kind: string(r.Kind.Or()), Title: r.Title, Topic: r.Topic, Data: roomData(r.Data),
		CreatedBy: string(r.CreatedBy), CreatedAt: r.CreatedAt, Seq: r.Seq, Rev: r.Rev,
	}
}

// told is a room as it is told to whoever asks for it alone: who may set how long messages are kept is told that.
func (c roomCalls) told(r chat.RoomState) *roomOutput {
	out := roomOf(r)
	if r.Retention != 0 && (c.any || r.Role.Has(chat.RightDescribe, r.Kind)) {
		out.Retention = chat.RetentionText(r.Retention)
	}
	return &roomOutput{Body: out}
}

// toldMembers are members as they are told. Who hides how far they have read is told it themselves.
func (c roomCalls) toldMembers(ctx context.Context, entries ...chat.Entry) ([]member, error) {
	ids := make([]user.ID, len(entries))
	for i, e := range entries {
		ids[i] = e.UserID
	}
	known, _, err := c.service.People(ctx, ids...)
	if err != nil {
		return nil, err
	}
	hidden, err := c.service.ReadHidden(ctx, ids...)
	if err != nil {
		return nil, err
	}
	all, caller := make([]member, len(entries)), c.speaker(ctx).ID
	for i, e := range entries {
		all[i] = member{User: roomUser{string(e.UserID), known[e.UserID].Name}, Role: string(e.Role), Since: e.Since}
		if !hidden[e.UserID] || e.UserID == caller {
			all[i].Read = &e.Read
		}
		if e.Mute.Kind != "" {
			all[i].MutedUntil = e.Mute.End()
		}
	}
	return all, nil
}

// optional converts what may be absent.
func optional[T ~string, S ~string](s *S) *T {
	if s == nil {
		return nil
	}
	t := T(*s)
	return &t
}

// placedAt is err, with its place if it is the given failure.
func placedAt(err, failure error, place string) error {
	if !errors.Is(err, failure) {
		return err
	}
	p := document(err)
	for i := range p.Errors {
		p.Errors[i].Location = place
	}
	return p
}

// actor is who calls, to run a room.
func (c roomCalls) actor(ctx context.Context) chat.Actor {
	return chat.Actor{Author: c.speaker(ctx), Any: c.any}
}

// registerManaging puts the calls onto the API by which rooms are made, described and deleted, and their members are named.
func (c roomCalls) registerManaging() {
	owned := append(c.lacks(), chat.ErrAuthorInvalid, chat.ErrNoRoles)
	if !c.any {
		owned = append(owned, chat.ErrLastOwner)
	}
	direct := append(c.lacks(), chat.ErrRoleLacksRight) // of what nobody may in a direct room
	described := []error{chat.ErrTitleInvalid, chat.ErrTopicInvalid, chat.ErrDataInvalid, chat.ErrKindInvalid}
	register(c.api, c.operation(huma.Operation{
		OperationID: "create-room", Method: http.MethodPost, Path: "/rooms",
		Summary:       "Make a room",
		Description:   c.says("The caller owns it.", "Nobody owns it until an owner is named.") + " Private rooms of others take names too, and a deleted room keeps its name until it is erased.",
		DefaultStatus: http.StatusCreated, Responses: answers(http.StatusCreated, "It is stored."),
	}), c.failures(append(described, chat.ErrRoomInvalid, chat.ErrRoomTaken, chat.ErrNotAllowed, chat.ErrNoRoles)...), c.createRoom)
	register(c.api, c.operation(huma.Operation{
		OperationID: "get-room", Method: http.MethodGet, Path: "/rooms/{room}",
		Summary: "One room",
		Description: c.says(
			"A public one, or one of which the caller is a member. Whoever may set retention is told it. GET /rooms/mine is the list of the caller's rooms: the room that is called mine is at /rooms/%6Dine.",
			"It may be of any kind.",
		),
		Responses: answers(http.StatusOK, "The room."),
	}), c.failures(chat.ErrRoomInvalid, chat.ErrRoomNotFound), func(ctx context.Context, in *oneRoomInput) (*roomOutput, error) {
		r, err := c.service.Room(ctx, c.actor(ctx), string(in.Room))
		if err != nil {
			return nil, err
		}
		return c.told(r), nil
	})
	register(c.api, c.operation(huma.Operation{
		OperationID: "update-room", Method: http.MethodPatch, Path: "/rooms/{room}",
		Summary:     "Describe a room, or change who may come in",
		Description: "What is not given stays. " + c.says("Moderators and owners describe a room; owners change its kind. ", "") + "Members stay members. A direct room cannot be changed.",
		Responses:   answers(http.StatusOK, "It is stored."),
	}), c.failuresIn(append(append(direct, described...), chat.ErrRetentionInvalid, chat.ErrNoRoles)...), c.updateRoom)
	register(c.api, c.operation(huma.Operation{
		OperationID: "delete-room", Method: http.MethodDelete, Path: "/rooms/{room}",
		Summary:     "Delete a room with its messages",
		Description: c.says("Owners only. ", "") + "From now on, on every node, it looks as if it was not there.",
		Responses:   answers(http.StatusNoContent, "It is deleted."),
	}), c.failuresIn(append(c.lacks(), chat.ErrNoRoles)...), func(ctx context.Context, in *oneRoomInput) (*noOutput, error) {
		return nil, c.service.DeleteRoom(ctx, c.actor(ctx), string(in.Room))
	})
	register(c.api, c.operation(huma.Operation{
		OperationID: "list-members", Method: http.MethodGet, Path: "/rooms/{room}/members",
		Summary:   "A page of the members of a room",
		Responses: answers(http.StatusOK, "The members."),
	}), c.failuresIn(chat.ErrNoRoles), c.members)
	register(c.api, c.operation(huma.Operation{
		OperationID: "set-member", Method: http.MethodPut, Path: "/rooms/{room}/members/{userId}",
		Summary: "Make somebody a member of a room, or change what they are there",
		Description: c.says(
			"Owners give every role. In a private room, moderators can add a user as a member or a reader. A room that has an owner keeps at least one. A direct room stays between its two.",
			"The last owner of a room can lose the role too. A direct room stays between its two.",
		),
		Responses: answers(http.StatusOK, "They have the role."),
	}), c.failuresIn(append(append(direct, owned...), chat.ErrRoleInvalid, chat.ErrBanned)...), c.setRole)
	register(c.api, c.operation(huma.Operation{
		OperationID: "remove-member", Method: http.MethodDelete, Path: "/rooms/{room}/members/{userId}",
		Summary: c.says("Take somebody out of a room, or leave it", "Take somebody out of a room"),
		Description: c.says(
			"Whoever removes themselves leaves; the last owner names another one first. Moderators and owners remove members and readers, and owners also moderators. ", "The last owner can be removed too. ",
		) + "Nothing more of the room reaches who was removed, on every node. To remove somebody who is no member is no error.",
		Responses: answers(http.StatusNoContent, "They are no member any more."),
	}), c.failuresIn(owned...), func(ctx context.Context, in *removeMemberInput) (*noOutput, error) {
		err := c.service.RemoveMember(ctx, c.actor(ctx), string(in.Room), user.ID(in.User), "")
		return nil, placedAt(err, chat.ErrAuthorInvalid, "path.userId")
	})
	for _, method := range []string{http.MethodGet, http.MethodPatch, http.MethodDelete} {
		c.api.slashes(method, "/rooms/{room}")
	}
	c.api.slashes(http.MethodGet, "/rooms/{room}/members")
	for _, method := range []string{http.MethodPut, http.MethodDelete} {
		c.api.slashes(method, "/rooms/{room}/members/{userId}")
	}
}

func (c roomCalls) createRoom(ctx context.Context, in *createRoomInput) (*roomOutput, error) {
	b := in.Body
	name := ""
	if b.Name != nil {
		name = string(*b.Name)
		if err := chat.CheckRoom(name); err != nil { // an empty one would be none
			return nil, placedAt(err, chat.ErrRoomInvalid, "body.name")
		}
	}
	d := chat.Details{Kind: optional[chat.RoomKind](b.Kind), Title: optional[string](&b.Title), Topic: optional[string](&b.Topic)}
	data := string(b.Data)
	d.Data = &data
	r, err := c.service.CreateRoom(ctx, c.actor(ctx), name, d)
	if err != nil {
		return nil, placedAt(err, chat.ErrRoomInvalid, "body.name")
	}
	return c.told(r), nil
}

func (c roomCalls) updateRoom(ctx context.Context, in *updateRoomInput) (*roomOutput, error) {
	b := in.Body
	d := chat.Details{Kind: optional[chat.RoomKind](b.Kind), Title: optional[string](b.Title), Topic: optional[string](b.Topic)}
	if b.Data != nil {
		data := string(b.Data)
		d.Data = &data
	}
	if b.Retention != nil {
		keep, err := chat.ParseRetention(string(*b.Retention))
		if err != nil {
			return nil, err
		}
		d.Retention = &keep
	}
	r, err := c.service.UpdateRoom(ctx, c.actor(ctx), string(in.Room), d)
	if err != nil {
		return nil, err
	}
	return c.told(r), nil
}

func (c roomCalls) members(ctx context.Context, in *listMembersInput) (*membersOutput, error) {
	all, more, err := c.service.RoomMembers(ctx, c.actor(ctx), string(in.Room), user.ID(in.After), in.Limit)
	if err != nil {
		return nil, err
	}
	out := memberPage{}
	if out.Members, err = c.toldMembers(ctx, all...); err != nil {
		return nil, err
	}
	if more {
		out.Next = out.Members[len(all)-1].User.ID
	}
	return &membersOutput{Body: out}, nil
}

func (c roomCalls) setRole(ctx context.Context, in *setRoleInput) (*memberOutput, error) {
	m, err := c.service.SetRole(ctx, c.actor(ctx), string(in.Room), user.ID(in.User), chat.Role(in.Body.Role))
	if err != nil {
		return nil, placedAt(err, chat.ErrAuthorInvalid, "path.userId")
	}
	mutes, err := c.service.Mutes(ctx, m.UserID, m.Room)
	if err != nil {
		return nil, err
	}
	told, err := c.toldMembers(ctx, chat.Entry{Membership: m, Mute: mutes[m.Room]})
	if err != nil {
		return nil, err
	}
	return &memberOutput{Body: told[0]}, nil
}
