package wsclient

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/protocol"
)

// The most that the server gives a page.
const (
	publicRoomsPage = 50
	listPage        = 100
)

// RoomInfo is what a room shows of itself.
type RoomInfo struct {
	Name string        `json:"name"`
	Kind chat.RoomKind `json:"kind"`
	// Title is what people read in place of the name, and Topic what the room is about; both may be empty.
	Title string `json:"title,omitempty"`
	Topic string `json:"topic,omitempty"`
	// Data is the application's: a JSON object, or nil. That of a direct room says whose it is.
	Data json.RawMessage `json:"data,omitempty"`
	// CreatedBy is the id of who has made the room, or has joined it first.
	CreatedBy string    `json:"createdBy"`
	CreatedAt time.Time `json:"createdAt"`
	// Seq and Rev are the places of the room's last message and of its last change.
	Seq uint64 `json:"seq"`
	Rev uint64 `json:"rev"`
	// Retention is how long messages are kept. Zero: as long as the server's own setting says, or it is not the caller's to know.
	Retention time.Duration `json:"-"`
}

func (i *RoomInfo) complete() bool { return i.Name != "" && i.Kind != "" }

// UnmarshalJSON reads what the server answers.
func (i *RoomInfo) UnmarshalJSON(text []byte) error {
	type plain RoomInfo
	in := struct {
		*plain
		Retention string `json:"retention"`
	}{plain: (*plain)(i)}
	i.Retention = 0
	if err := json.Unmarshal(text, &in); err != nil || in.Retention == "" {
		return err
	}
	var err error
	if i.Retention, err = chat.ParseRetention(in.Retention); err != nil {
		return fmt.Errorf("wsclient: the retention of a room: %w", err)
	}
	return nil
}

// MyRoom is a room as one of its members has it in a list.
type MyRoom struct {
	// Room is its name, and Role what the caller is there.
	Room string    `json:"room"`
	Role chat.Role `json:"role"`
	// Seq and Rev are the places of the room's last message and of its last change.
	Seq uint64 `json:"seq"`
	Rev uint64 `json:"rev"`
	// Read is how far the caller has read: a Seq. Unread is how many messages come behind it that are stored and not deleted.
	Read   uint64 `json:"read"`
	Unread uint64 `json:"unread"`
	// Last is the last message that is stored, as it is now, also a deleted one. Its Seq is 0 if there is none.
	Last Message `json:"last"`
	// MutedUntil is when the caller may send again. Zero: they may. The year 9999: that has no end.
	MutedUntil time.Time `json:"mutedUntil,omitzero"`
}

// Member is a member of a room.
type Member struct {
	// User is who it is. The Name is empty where the server does not know it.
	User User      `json:"user"`
	Role chat.Role `json:"role"`
	// Since is when the membership began.
	Since time.Time `json:"since"`
	// Read is how far they have read: a Seq; 0 where that is not told.
	Read uint64 `json:"read,omitempty"`
	// MutedUntil is when they may send again, as of a [MyRoom].
	MutedUntil time.Time `json:"mutedUntil,omitzero"`
}

func (m *Member) complete() bool { return m.User.ID != "" && m.Role != "" }

// Restriction is a ban or a mute that holds.
type Restriction struct {
	// User is the id of whom it is about, By of who has imposed it, At when that was, and Reason what they have said to it.
	User   string    `json:"user"`
	By     string    `json:"by"`
	At     time.Time `json:"at"`
	Reason string    `json:"reason,omitempty"`
	// Until is when it ends. Zero: never.
	Until time.Time `json:"until,omitzero"`
}

// Block is somebody whom the caller has blocked.
type Block struct {
	// User is who it is. The Name is empty where the server does not know it.
	User User      `json:"user"`
	At   time.Time `json:"at"`
}

// UserSettings are what the caller has set for themselves.
type UserSettings struct {
	// ReadReceipts says whether others are told how far the caller has read: true until it is set.
	ReadReceipts bool
}

// SettingsChange is what the caller sets. What is nil stays.
type SettingsChange struct {
	ReadReceipts *bool `json:"readReceipts,omitempty"`
}

// settingsAnswer is the answer about settings.
type settingsAnswer struct {
	ReadReceipts *bool `json:"readReceipts"`
}

func (s *settingsAnswer) complete() bool { return s.ReadReceipts != nil }

// NewRoom is a room to be made. All fields may be left out.
type NewRoom struct {
	// Name is what it is called for ever. Default: a name that nobody can guess.
	Name string `json:"name,omitempty"`
	// Kind is chat.Public or chat.Private. Default: public.
	Kind  chat.RoomKind `json:"kind,omitempty"`
	Title string        `json:"title,omitempty"`
	Topic string        `json:"topic,omitempty"`
	// Data is the application's: as of a [Draft].
	Data any `json:"data,omitempty"`
}

// RoomChange is what a room is to show of itself. What is nil stays.
type RoomChange struct {
	Title *string        `json:"title,omitempty"`
	Topic *string        `json:"topic,omitempty"`
	Kind  *chat.RoomKind `json:"kind,omitempty"`
	// Data replaces all of the data: as of a [NewRoom].
	Data any `json:"data,omitempty"`
	// Retention is how long messages are kept, in whole seconds; 0: as long as the server's own setting says.
	Retention *time.Duration `json:"-"`
}

// MarshalJSON writes what the server takes.
func (c RoomChange) MarshalJSON() ([]byte, error) {
	type plain RoomChange
	out := struct {
		plain
		Retention *string `json:"retention,omitempty"`
	}{plain: plain(c)}
	if c.Retention != nil {
		text := chat.RetentionText(*c.Retention)
		out.Retention = &text
	}
	return encode(out)
}

// MyRooms lists the rooms that the caller is a member of, the one that was active last first. Pages are asked for as they are needed. A failure is
// yielded with a zero room, and ends the list.
func (r *REST) MyRooms(ctx context.Context) iter.Seq2[MyRoom, error] {
	return list[MyRoom](ctx, r, "rooms", "cursor", listPage, "/rooms/mine")
}

// PublicRooms lists the public rooms that the caller may join, by name, as [REST.MyRooms] lists.
func (r *REST) PublicRooms(ctx context.Context) iter.Seq2[RoomInfo, error] {
	return list[RoomInfo](ctx, r, "rooms", "after", publicRoomsPage, "/rooms")
}

// Room returns what a room shows of itself. One that is private is chat.ErrRoomNotFound for who is not in it.
func (r *REST) Room(ctx context.Context, name string) (RoomInfo, error) {
	var i RoomInfo
	err := r.of(ctx, question{method: http.MethodGet, bearer: true, twice: true}, &i, "/rooms/", name)
	return i, err
}

// CreateRoom makes a room, which the caller owns. A name that is in use is chat.ErrRoomTaken.
func (r *REST) CreateRoom(ctx context.Context, n NewRoom) (RoomInfo, error) {
	var i RoomInfo
	encoded, err := attached(n.Data)
	if err != nil {
		return i, err
	}
	if n.Data = nil; encoded != nil {
		n.Data = encoded
	}
	err = r.do(ctx, question{method: http.MethodPost, path: "/rooms", body: n, bearer: true}, &i)
	return i, err
}

// UpdateRoom changes what a room shows of itself, and returns that.
func (r *REST) UpdateRoom(ctx context.Context, name string, c RoomChange) (RoomInfo, error) {
	var i RoomInfo
	encoded, err := attached(c.Data)
	if err != nil {
		return i, err
	}
	if c.Data = nil; encoded != nil {
		c.Data = encoded
	}
	err = r.of(ctx, question{method: http.MethodPatch, body: c, bearer: true, twice: true}, &i, "/rooms/", name)
	return i, err
}

// DeleteRoom deletes a room with its messages.
func (r *REST) DeleteRoom(ctx context.Context, name string) error {
	return r.of(ctx, question{method: http.MethodDelete, bearer: true}, nil, "/rooms/", name)
}

// Direct returns the one room of the caller and somebody else, which is made if there is none.
func (r *REST) Direct(ctx context.Context, userID string) (RoomInfo, error) {
	var i RoomInfo
	err := r.of(ctx, question{method: http.MethodPut, bearer: true, twice: true}, &i, "/rooms/direct/", userID)
	return i, err
}

// Members lists the members of a room by their ids, as [REST.MyRooms] lists.
func (r *REST) Members(ctx context.Context, name string) iter.Seq2[Member, error] {
	return list[Member](ctx, r, "members", "after", listPage, "/rooms/", name, "/members")
}

// SetRole gives somebody a role in a room, which invites them if they are no member.
func (r *REST) SetRole(ctx context.Context, name, userID string, role chat.Role) (Member, error) {
	var m Member
	err := r.of(ctx, question{method: http.MethodPut, body: map[string]chat.Role{"role": role}, bearer: true, twice: true}, &m, "/rooms/", name, "/members/", userID)
	return m, err
}

// RemoveMember removes somebody from a room. To remove oneself is to leave.
func (r *REST) RemoveMember(ctx context.Context, name, userID string) error {
	return r.of(ctx, question{method: http.MethodDelete, bearer: true}, nil, "/rooms/", name, "/members/", userID)
}

// Bans lists the bans that hold in a room by the ids of the users, as [REST.MyRooms] lists.
func (r *REST) Bans(ctx context.Context, name string) iter.Seq2[Restriction, error] {
	return list[Restriction](ctx, r, "bans", "after", listPage, "/rooms/", name, "/bans")
}

// Ban keeps somebody out of a room, until a time in the future or, if that is zero, for ever. The reason is told; it may be empty.
func (r *REST) Ban(ctx context.Context, name, userID string, until time.Time, reason string) error {
	return r.restrict(ctx, name, "/bans/", userID, until, reason)
}

// Unban lets somebody who was banned join again.
func (r *REST) Unban(ctx context.Context, name, userID string) error {
	return r.of(ctx, question{method: http.MethodDelete, bearer: true, twice: true}, nil, "/rooms/", name, "/bans/", userID)
}

// Mutes lists the mutes that hold in a room by the ids of the users, as [REST.MyRooms] lists.
func (r *REST) Mutes(ctx context.Context, name string) iter.Seq2[Restriction, error] {
	return list[Restriction](ctx, r, "mutes", "after", listPage, "/rooms/", name, "/mutes")
}

// Mute lets somebody only read and mark in a room, as [REST.Ban] keeps them out.
func (r *REST) Mute(ctx context.Context, name, userID string, until time.Time, reason string) error {
	return r.restrict(ctx, name, "/mutes/", userID, until, reason)
}

// Unmute lets somebody who was muted speak again.
func (r *REST) Unmute(ctx context.Context, name, userID string) error {
	return r.of(ctx, question{method: http.MethodDelete, bearer: true, twice: true}, nil, "/rooms/", name, "/mutes/", userID)
}

func (r *REST) restrict(ctx context.Context, name, kind, userID string, until time.Time, reason string) error {
	body := struct {
		Until  time.Time `json:"until,omitzero"`
		Reason string    `json:"reason,omitempty"`
	}{until, reason}
	return r.of(ctx, question{method: http.MethodPut, body: body, bearer: true, twice: true}, nil, "/rooms/", name, kind, userID)
}

// Blocks lists those whom the caller has blocked by their ids, as [REST.MyRooms] lists.
func (r *REST) Blocks(ctx context.Context) iter.Seq2[Block, error] {
	return list[Block](ctx, r, "blocks", "after", listPage, "/me/blocks")
}

// Block keeps somebody from writing to the caller directly.
func (r *REST) Block(ctx context.Context, userID string) error {
	return r.of(ctx, question{method: http.MethodPut, bearer: true, twice: true}, nil, "/me/blocks/", userID)
}

// Unblock takes a block back.
func (r *REST) Unblock(ctx context.Context, userID string) error {
	return r.of(ctx, question{method: http.MethodDelete, bearer: true, twice: true}, nil, "/me/blocks/", userID)
}

// Settings returns what the caller has set for themselves.
func (r *REST) Settings(ctx context.Context) (UserSettings, error) {
	return r.settings(ctx, http.MethodGet, nil)
}

// UpdateSettings changes what the caller has set for themselves, and returns it as it is then.
func (r *REST) UpdateSettings(ctx context.Context, c SettingsChange) (UserSettings, error) {
	return r.settings(ctx, http.MethodPatch, c)
}

func (r *REST) settings(ctx context.Context, method string, body any) (UserSettings, error) {
	var s settingsAnswer
	if err := r.of(ctx, question{method: method, body: body, bearer: true, twice: true}, &s, "/me/settings"); err != nil {
		return UserSettings{}, err
	}
	return UserSettings{ReadReceipts: *s.ReadReceipts}, nil
}

func (p *Page) complete() bool { return p.Messages != nil }

// History returns a part of a room's history, as [Client.History] does.
func (r *REST) History(ctx context.Context, name string, part Range) (Page, error) {
	query := url.Values{}
	switch {
	case part.Changed:
		query.Set("changedAfter", fmt.Sprint(part.After))
	case part.After != 0:
		query.Set("after", fmt.Sprint(part.After))
	case part.Before != 0:
		query.Set("before", fmt.Sprint(part.Before))
	}
	if part.Limit != 0 {
		query.Set("limit", strconv.Itoa(part.Limit))
	}
	var p Page
	err := r.of(ctx, question{method: http.MethodGet, query: query, bearer: true, twice: true}, &p, "/rooms/", name, "/messages")
	return p, err
}

func (s *Sent) complete() bool { return s.Seq != 0 && s.ID != "" }

// Send sends a message, as [Client.Send] does.
func (r *REST) Send(ctx context.Context, name, text string) (Sent, error) {
	return r.SendDraft(ctx, name, Draft{Text: text})
}

// SendDraft sends a message that has more than a text, as [Client.SendDraft] does.
func (r *REST) SendDraft(ctx context.Context, name string, d Draft) (Sent, error) {
	if d.ClientID == "" {
		d.ClientID = r.cfg.NewID()
	}
	body := data{Text: d.Text, ClientID: d.ClientID, ReplyTo: d.ReplyTo}
	var err error
	if body.Data, err = attached(d.Data); err != nil {
		return Sent{}, err
	}
	sent := Sent{ClientID: d.ClientID}
	err = r.of(ctx, question{method: http.MethodPost, body: body, bearer: true, twice: true}, &sent, "/rooms/", name, "/messages")
	return sent, err
}

// changed is the answer to a change of a message.
type changed struct {
	Seq uint64 `json:"seq"`
	Rev uint64 `json:"rev"`
}

func (c *changed) complete() bool { return c.Seq != 0 }

func (r *REST) change(ctx context.Context, method string, body any, name string, seq uint64, rest ...string) (rev uint64, err error) {
	var c changed
	parts := append([]string{"/rooms/", name, "/messages/", fmt.Sprint(seq)}, rest...)
	err = r.of(ctx, question{method: method, body: body, bearer: true, twice: true}, &c, parts...)
	return c.Rev, err
}

// Edit gives a message of the caller's another text, and returns its Rev when that is stored. Like all calls that change messages it is made again
// after a lost connection: what the same user has made of the message meanwhile is overwritten.
func (r *REST) Edit(ctx context.Context, name string, seq uint64, text string) (rev uint64, err error) {
	return r.EditData(ctx, name, seq, text, nil)
}

// EditData is like [REST.Edit], and gives the message other data too, as of a [Draft]. With nil it keeps what it has.
func (r *REST) EditData(ctx context.Context, name string, seq uint64, text string, extra any) (rev uint64, err error) {
	encoded, err := attached(extra)
	if err != nil {
		return 0, err
	}
	return r.change(ctx, http.MethodPatch, data{Text: text, Data: encoded}, name, seq)
}

// Delete erases a message: one of the caller's, or of somebody whose messages their role lets them delete.
func (r *REST) Delete(ctx context.Context, name string, seq uint64) (rev uint64, err error) {
	return r.change(ctx, http.MethodDelete, nil, name, seq)
}

// React reacts to a message with a key, as [Client.React] does.
func (r *REST) React(ctx context.Context, name string, seq uint64, key string) (rev uint64, err error) {
	return r.change(ctx, http.MethodPut, nil, name, seq, "/reactions/", key)
}

// Unreact takes a reaction back.
func (r *REST) Unreact(ctx context.Context, name string, seq uint64, key string) (rev uint64, err error) {
	return r.change(ctx, http.MethodDelete, nil, name, seq, "/reactions/", key)
}

// marking is the answer to a mark.
type marking struct{ Read, Unread *uint64 }

func (m *marking) complete() bool { return m.Read != nil && m.Unread != nil }

// Mark says that the caller has read a room up to a message, as [Client.Mark] does; 0 only asks.
func (r *REST) Mark(ctx context.Context, name string, read uint64) (Marked, error) {
	var m marking
	body := map[string]uint64{"seq": min(read, protocol.MaxInteger)}
	err := r.of(ctx, question{method: http.MethodPut, body: body, bearer: true, twice: true}, &m, "/rooms/", name, "/read")
	if err != nil {
		return Marked{}, err
	}
	return Marked{Read: *m.Read, Unread: *m.Unread}, nil
}
