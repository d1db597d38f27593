package protocol

import (
	"fmt"
	"strings"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/socket"
)

// FieldType is the type of a field in an event.
type FieldType uint8

// The types of fields.
const (
	String  FieldType = iota + 1
	Integer           // 0 to [MaxInteger]
	Boolean
	Time   // a string, RFC 3339 in UTC with microseconds
	Ref    // an object: Field.Object
	ListOf // a list of objects: Field.Object
	Free   // an object whose fields are the application's: [FreeObject]
	Texts  // a list of strings
)

// MaxInteger is the largest integer that every JSON reader keeps exactly (RFC 8259 section 6).
const MaxInteger = 1<<53 - 1

// Field is one field of an event's object.
type Field struct {
	Name     string
	Doc      string
	Type     FieldType
	Required bool
	// MinLength and MaxLength bound a string, in characters, and MaxLength a Free, in bytes. MaxLength 0 is no bound,
	// which only what the server sends may have.
	MinLength, MaxLength int
	// Check, if set, refuses further strings. The detail of its error (package fault) is told to the client.
	Check func(string) error
	// Pattern says in the words of a regular expression (ECMA-262, unicode) what Check checks. It is for
	// documents.
	Pattern string
	// Null says that the value may be null instead of a string.
	Null bool
	// Values are what a string that the server sends is one of; none is any. A newer server may know more. It is for documents.
	Values []string
	// Minimum and Maximum bound an integer; Maximum 0 means MaxInteger.
	Minimum, Maximum uint64
	// Object is the type of a Ref or ListOf.
	Object *Object

	// set puts what a client has sent where the command has a place for it; nil for Command.Data.
	set func(*Command, value)
	// missing, if set, is called for a field that a client has left out.
	missing func(*Command)
}

// Object is the shape of a JSON object. Fields that it does not name are refused.
type Object struct {
	// Name is the type's name in documents and in typed clients.
	Name   string
	Doc    string
	Fields []Field
}

// ClientEvent is an event that a client may send. What is not listed is refused.
type ClientEvent struct {
	// Name is a letter, and up to 63 further letters, digits and _.
	Name string
	Doc  string
	// Data is what the client sends, and Ack what the answer holds.
	Data *Object
	Ack  *Object
}

// ServerEvent is an event that the server sends.
type ServerEvent struct {
	// Name is a letter, and up to 63 further letters, digits and _.
	Name string
	Doc  string
	Data *Object
}

// Names of Parley's own events, and of the two answers.
const (
	EventJoinRoom    = "join_room"
	EventLeaveRoom   = "leave_room"
	EventMessage     = "message"
	EventTyping      = "isTyping"
	EventHistory     = "history"
	EventPresence    = "presence"
	EventRenew       = "renew"
	EventHealthCheck = "healthCheck"
	EventJoined      = "joined"
	EventLeft        = "left"
	EventResync      = "resync"
	EventMembership  = "membership"
	EventEdit        = "edit"
	EventDelete      = "delete"
	EventReact       = "react"
	EventChanged     = "changed"
	EventMark        = "mark"
	EventMarked      = "marked"
	EventAck         = "ack"
	EventError       = "error"
)

var (
	roomField = Field{
		Name: "room", Type: String, Required: true, MinLength: 1, MaxLength: chat.MaxRoomName,
		Pattern: `^(?! )(?:[^\p{C}\p{Zl}\p{Zp}]|[\u200C\u200D]|[\u{E0020}-\u{E007F}])+(?<! )$`, Check: chat.CheckRoom, set: func(c *Command, v value) { c.Room = v.text },
		Doc: "The room's name: visible characters, no space at either end. U+200C and U+200D may stand where a script or an emoji needs them. Answers and events have it in Unicode's form NFC.",
	}
	textField = Field{
		Name: "text", Type: String, Required: true, MinLength: 1, MaxLength: chat.MaxText,
		Pattern: `^[^\u0000]+$`, Check: noNUL, set: func(c *Command, v value) { c.Text = v.text },
		Doc: "What is said. U+0000 is refused, and so, by an error, is a text without a character that can be seen.",
	}
	clientIDField = Field{
		Name: "clientId", Type: String, MaxLength: chat.MaxClientID, Pattern: `^[!-~]*$`, Check: chat.CheckClientID, set: func(c *Command, v value) { c.ClientID = v.text },
		Doc: "The sender's own name for the message. Sending the same again stores nothing and has the same answer.",
	}
	tokenField = Field{
		Name: "token", Type: String, Required: true, MinLength: 1, MaxLength: maxToken, Pattern: `^[!-~]+$`, Check: checkToken, set: func(c *Command, v value) { c.Token = v.text },
		Doc: "An access token, as for the handshake.",
	}
	replyToDoc   = "The seq of the message in this room that it answers."
	replyToField = Field{
		Name: "replyTo", Type: Integer, Minimum: 1, set: func(c *Command, v value) { c.ReplyTo = v.number },
		Doc: replyToDoc + " One that the room has not reached is refused by an error.",
	}
	dataDoc = fmt.Sprintf("The application's: a JSON object of at most %d bytes, written without white space between tokens, and at most %d levels deep. "+
		"All else stays byte for byte.", chat.MaxData, chat.MaxDataDepth)
	dataField = Field{
		Name: "data", Type: Free, MaxLength: chat.MaxData, set: func(c *Command, v value) { c.Attached = v.text },
		Doc: dataDoc + " U+0000 is refused, in names too.",
	}
	seqField = Field{Name: "seq", Type: Integer, Required: true, Minimum: 1, Doc: "The place in the room's sequence 1, 2, 3, … without gaps."}
	idField  = Field{Name: "id", Type: String, Required: true, Doc: "Names the message everywhere and for ever."}
	atField  = Field{Name: "at", Type: Time, Required: true, Doc: "When the message was committed."}

	revDoc    = "The room's sequence of changes: each edit, deletion and reaction counts one, 1, 2, 3, … without gaps."
	changeSeq = Field{Name: "seq", Type: Integer, Required: true, Minimum: 1, set: func(c *Command, v value) { c.Seq = v.number }, Doc: "Which message of the room."}
	changeAck = &Object{Name: "ChangeAck", Doc: "The message has changed. What it is now comes to all by changed.", Fields: []Field{
		ackedRoomField, {Name: "seq", Type: Integer, Required: true, Minimum: 1, Doc: "Which message of the room."},
		{Name: "rev", Type: Integer, Required: true, Doc: "The message's last change. What changes nothing has the one that was last."},
	}}
	keyField = Field{
		Name: "key", Type: String, Required: true, MinLength: 1, MaxLength: chat.MaxReactionKey,
		set: func(c *Command, v value) { c.Text = v.text },
		Doc: "A short text that can be seen, mostly an emoji. Another one is refused by an error.",
	}
	reactionObject = &Object{Name: "Reaction", Doc: "What users think of a message.", Fields: []Field{
		{Name: "key", Type: String, Required: true, Doc: "A short text, mostly an emoji."},
		{Name: "count", Type: Integer, Required: true, Minimum: 1, Doc: "How many users have reacted so."},
		{Name: "users", Type: Texts, Required: true, Doc: fmt.Sprintf("The ids of some of them, at most %d.", chat.MaxReactionUsers)},
	}}

	userObject = &Object{Name: "User", Doc: "Somebody, as others see them.", Fields: []Field{
		{Name: "id", Type: String, Required: true, Doc: "The user's id."},
		{Name: "name", Type: String, Required: true, Doc: "The user's full name."},
	}}
	userField = Field{Name: "user", Type: Ref, Object: userObject, Required: true, Doc: "Who it is about."}

	messageObject = &Object{Name: "ChatMessage", Doc: "A stored message, as it is now.", Fields: []Field{
		{Name: "room", Type: String, Required: true, Doc: "The room's name."}, seqField,
		{Name: "rev", Type: Integer, Required: true, Doc: "The place of its last change in the room's sequence of changes; 0: it was never changed."}, idField,
		{Name: "clientId", Type: String, Doc: "The sender's own name for the message, if it has one."},
		{Name: "user", Type: Ref, Object: userObject, Required: true, Doc: "Who said it."}, {Name: "text", Type: String, Required: true, Doc: "What is said; empty if it was deleted."}, atField,
		{Name: "editedAt", Type: Time, Doc: "When it was last edited."},
		{Name: "deletedAt", Type: Time, Doc: "When it was deleted: text, data, replyTo and reactions are gone."},
		{Name: "replyTo", Type: Integer, Minimum: 1, Doc: replyToDoc}, {Name: "data", Type: Free, Doc: dataDoc},
		{Name: "reactions", Type: ListOf, Object: reactionObject, Doc: fmt.Sprintf("In the order in which their keys came, at most %d.", chat.MaxReactionKeys)},
	}}
	readField = Field{Name: "read", Type: Integer, Required: true, Doc: "How far the user has read the room: a seq."}

	messagesField = Field{Name: "messages", Type: ListOf, Object: messageObject, Required: true, Doc: "Ascending by seq."}
	emptyObject   = &Object{Name: "Empty", Doc: "Nothing."}
	okObject      = &Object{Name: "HealthCheckAck", Doc: "The answer to healthCheck.", Fields: []Field{
		{Name: "message", Type: String, Required: true, Doc: "OK"},
	}}
	ackedRoomField = Field{Name: "room", Type: String, Required: true, Doc: "The room's name."}
)

// noNUL refuses what closes the connection. A text that chat refuses besides is answered by an error:
// whoever sent only spaces should not lose the connection.
func noNUL(text string) error {
	if strings.IndexByte(text, 0) >= 0 {
		return chat.ErrTextInvalid.Detail("it has a NUL character")
	}
	return nil
}

// clientEvents are the events that a client may send. A new one of Parley's own is a row here, and one in
// the table of handlers in package realtime. Its fields reach the handler in Command.Data, unless they have
// a place of their own.
var clientEvents = []ClientEvent{
	{
		Name: EventJoinRoom, Doc: "Join a room, or come back to it: with since, the answer holds what was missed.",
		Data: &Object{Name: "JoinRoom", Doc: "Which room, and what was seen of it.", Fields: []Field{
			roomField, {Name: "since", Type: Integer, set: func(c *Command, v value) { c.Since = &v.number }, Doc: "The last sequence that the client has seen; without it the answer holds the newest messages."},
			{Name: "rev", Type: Integer, set: func(c *Command, v value) { c.Rev = &v.number }, Doc: "With since: the rev of the room as the client knows it. Then the answer has changes."},
		}},
		Ack: &Object{Name: "JoinRoomAck", Doc: "The room as it stands. Live messages follow from seq+1 on.", Fields: []Field{
			ackedRoomField, {Name: "seq", Type: Integer, Required: true, Doc: "The room's last sequence; 0 if it has no messages. If messages ends before it, ask for the rest with history."},
			{Name: "rev", Type: Integer, Required: true, Doc: revDoc + " What the answer holds is at least as new."},
			readField,
			{Name: "recovered", Type: Boolean, Required: true, Doc: "False if messages after since were deleted, or since or rev is ahead of the room: show the room anew."},
			messagesField,
			{Name: "changes", Type: ListOf, Object: messageObject, Doc: "With rev: the messages up to since, or up to the last one that this connection was given live, that were changed after it, as they are now, ascending by rev. If the last one's rev is lower than rev, ask for the rest with history and changedAfter."},
		}},
	},
	{
		Name: EventLeaveRoom, Doc: "Leave a room.",
		Data: &Object{Name: "LeaveRoom", Doc: "Which room.", Fields: []Field{roomField}}, Ack: emptyObject,
	},
	{
		Name: EventMessage, Doc: "Say something in a room that was joined. The answer comes after the durable commit.",
		Data: &Object{Name: "SendMessage", Doc: "What is said where.", Fields: []Field{roomField, textField, clientIDField, replyToField, dataField}},
		Ack: &Object{Name: "SendMessageAck", Doc: "The message's place. The same clientId again has the same answer.", Fields: []Field{
			ackedRoomField, seqField, idField, atField,
		}},
	},
	{
		Name: EventEdit, Doc: "Give a message of one's own another text. The answer comes after the durable commit.",
		Data: &Object{Name: "EditMessage", Doc: "Which message, and what it says from now on.", Fields: []Field{
			roomField, changeSeq, textField,
			{Name: "data", Type: Free, MaxLength: chat.MaxData, set: dataField.set, Doc: "Takes the place of the message's data; without it that stays. " + dataField.Doc},
		}}, Ack: changeAck,
	},
	{
		Name: EventDelete, Doc: "Erase a message of one's own: its text, data and reactions. Its place stays.",
		Data: &Object{Name: "DeleteMessage", Doc: "Which message.", Fields: []Field{roomField, changeSeq}}, Ack: changeAck,
	},
	{
		Name: EventReact, Doc: "React to a message, or take the reaction back. To do it again changes nothing.",
		Data: &Object{Name: "React", Doc: "Which message, and how.", Fields: []Field{
			roomField, changeSeq, keyField, {
				Name: "on", Type: Boolean, Doc: "False: take it back. True unless given.",
				set: func(c *Command, v value) { c.Off = !v.flag },
			},
		}}, Ack: changeAck,
	},
	{
		Name: EventMark, Doc: "Say how far one has read a room that was joined. It never goes back. The answer comes after the durable commit. To send a message marks it too.",
		Data: &Object{Name: "MarkRead", Doc: "Which room, and up to where.", Fields: []Field{
			roomField, {
				Name: "read", Type: Integer, Required: true, set: func(c *Command, v value) { c.Seq = v.number },
				Doc: "The seq of the last message that was read. One behind the room's last message means that one; 0 only asks.",
			},
		}},
		Ack: &Object{Name: "MarkReadAck", Doc: "How far the user has read.", Fields: []Field{
			ackedRoomField, readField,
			{Name: "unread", Type: Integer, Required: true, Doc: "How many messages come behind it that are stored and not deleted."},
		}},
	},
	{
		Name: EventTyping, Doc: "Say that one is typing, or has stopped. It expires by itself; more often than a stated rate it has no effect.",
		Data: &Object{Name: "IsTyping", Doc: "Who types is known; where is not.", Fields: []Field{
			roomField, {
				Name: "typing", Type: Boolean, Doc: "True unless given.",
				set: func(c *Command, v value) { c.Typing = v.flag }, missing: func(c *Command) { c.Typing = true },
			},
		}},
		Ack: emptyObject,
	},
	{
		Name: EventHistory, Doc: "Read older or newer messages of a room that was joined.",
		Data: &Object{Name: "History", Doc: "Which messages. Without before, after and changedAfter: the newest.", Fields: []Field{
			roomField,
			{Name: "before", Type: Integer, Minimum: 1, set: func(c *Command, v value) { c.Before = &v.number }, Doc: "Only messages with a lower sequence, the highest of them first to be taken."},
			{Name: "after", Type: Integer, set: func(c *Command, v value) { c.After = &v.number }, Doc: "Only messages with a higher sequence, the lowest of them first to be taken."},
			{Name: "changedAfter", Type: Integer, set: func(c *Command, v value) { c.ChangedAfter = &v.number }, Doc: "Only messages with a higher rev, ascending by rev. Before and after have no effect then."},
			{Name: "limit", Type: Integer, Minimum: 1, Maximum: 1000, set: func(c *Command, v value) { c.Limit = v.number }, Doc: "How many at most; the server may give fewer."},
		}},
		Ack: &Object{Name: "HistoryAck", Doc: "A page.", Fields: []Field{
			messagesField, {Name: "more", Type: Boolean, Required: true, Doc: "The range holds further messages."},
		}},
	},
	{
		Name: EventPresence, Doc: "Ask who is in a room that was joined.",
		Data: &Object{Name: "Presence", Doc: "Which room.", Fields: []Field{roomField}},
		Ack: &Object{Name: "PresenceAck", Doc: "Who is there, on any node.", Fields: []Field{
			{Name: "members", Type: ListOf, Object: userObject, Required: true, Doc: "At most a stated number of them, by id."},
			{Name: "count", Type: Integer, Required: true, Doc: "How many there are."},
		}},
	},
	{
		Name: EventRenew, Doc: "Go on with a new access token of the same user and session. A connection ends with 4401 when its token does; one that a ticket opened, when the access token does that asked for the ticket.",
		Data: &Object{Name: "Renew", Doc: "The new token.", Fields: []Field{tokenField}},
		Ack: &Object{Name: "RenewAck", Doc: "The connection goes on.", Fields: []Field{
			{Name: "expiresIn", Type: Integer, Required: true, Doc: "Seconds until it ends, unless it is renewed again."},
		}},
	},
	{
		Name: EventHealthCheck, Doc: "Ask whether the server answers; it then closes the connection.",
		Data: &Object{Name: "HealthCheck", Doc: "Nothing."}, Ack: okObject,
	},
}

// serverEvents are the events that the server sends.
var serverEvents = []ServerEvent{
	{Name: EventMessage, Doc: "A message in a room that was joined, also the receiver's own.", Data: messageObject},
	{Name: EventChanged, Doc: "A message as it is after an edit, a deletion or a reaction. Those of a room come in the order of rev; some that an event with a higher rev has overtaken do not come.", Data: messageObject},
	{Name: EventTyping, Doc: "Somebody else types, or has stopped.", Data: &Object{Name: "Typing", Doc: "Who types where.", Fields: []Field{
		ackedRoomField, userField, {Name: "typing", Type: Boolean, Required: true, Doc: "False: has stopped."},
	}}},
	{Name: EventJoined, Doc: "A user's first connection came into the room. Not sent in large rooms.", Data: &Object{Name: "Joined", Doc: "Who came.", Fields: []Field{ackedRoomField, userField}}},
	{Name: EventLeft, Doc: "A user's last connection left the room. Not sent in large rooms.", Data: &Object{Name: "Left", Doc: "Who left.", Fields: []Field{ackedRoomField, userField}}},
	{Name: EventMembership, Doc: "What a user is in a room has changed: they were invited or given another role, were muted or are no longer, or are no member any more, and get nothing more of the room. Everybody who is in the room gets it, and every connection of the user, joined or not. Where nobody is told who comes and goes, nobody else is told who leaves by themselves.", Data: &Object{Name: "MembershipChange", Doc: "Who may do what from now on.", Fields: []Field{
		ackedRoomField, userField, {Name: "role", Type: String, Required: true, Null: true, Values: roleNames(), Doc: "What the user may do in the room from now on; null: no longer a member."},
		{Name: "mutedUntil", Type: Time, Doc: "Until then the user cannot send, change, react or type here: 9999-12-31T23:59:59Z if that has no end. Absent: they can."},
		{Name: "by", Type: String, Doc: "The id of who has done it."},
		{Name: "reason", Type: String, Doc: "What they said to it."},
	}}},
	{Name: EventMarked, Doc: "A user has said how far they have read, on any of their connections. Not sent in large rooms, not for what they sent themselves, and only to their own connections if they let nobody else know.", Data: &Object{Name: "Marked", Doc: "Who has read how far.", Fields: []Field{
		ackedRoomField, userField, readField,
	}}},
	{Name: EventResync, Doc: "Messages of the room may have been missed: join it again with since.", Data: &Object{Name: "Resync", Doc: "Which room.", Fields: []Field{ackedRoomField}}},
}

// roleNames are the roles of members.
func roleNames() (names []string) {
	for _, r := range chat.AllRoles() {
		names = append(names, string(r))
	}
	return names
}

// CloseCodes are the close codes a client can meet, and what it may do after each.
func CloseCodes() []CloseCode { return closeCodes }

// CloseCode is a reason for which a connection ends.
type CloseCode struct {
	Code int
	Doc  string
	// Return says whether a client may come back by itself.
	Return bool
	// Later says that it should wait a while before.
	Later bool
	// NewToken says that it needs a new token first.
	NewToken bool
}

var closeCodes = []CloseCode{
	{Code: socket.CloseNormal, Doc: "done: the answer to healthCheck was the last"},
	{Code: socket.CloseGoingAway, Doc: "the server goes away", Return: true},
	{Code: socket.CloseProtocolError, Doc: "the WebSocket framing is wrong (RFC 6455)"},
	{Code: socket.CloseInvalidUTF8, Doc: "a text frame is not UTF-8"},
	{Code: socket.CloseInternalError, Doc: "something failed on the server's side", Return: true, Later: true},
	{Code: socket.CloseServiceRestart, Doc: "this node restarts", Return: true},
	{Code: socket.CloseTryAgainLater, Doc: "this node takes no more connections", Return: true, Later: true},
	{Code: socket.CloseBadEvent, Doc: "an unknown event, a payload against its schema, a binary or malformed message"},
	{Code: socket.CloseUnauthenticated, Doc: "not or no longer authenticated", Return: true, NewToken: true},
	{Code: socket.CloseForbidden, Doc: "not allowed"},
	{Code: socket.CloseSlow, Doc: "the reader did not keep up", Return: true},
	{Code: socket.CloseTooLarge, Doc: "a message is too large"},
	{Code: socket.CloseTooFast, Doc: "too many events"},
}

// maxToken bounds the token of a renew, in characters.
const maxToken = 8192

// checkToken refuses what is not visible ASCII.
func checkToken(s string) error {
	for i := range len(s) {
		if s[i] < '!' || s[i] > '~' {
			return ErrBadEvent.Detail("a token is visible ASCII")
		}
	}
	return nil
}
