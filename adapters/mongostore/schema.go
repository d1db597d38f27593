package mongostore

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/parley-chat/parley/core/audit"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

// collection says what is in a collection. Its validator, and the check before each write, are
// made from the same fields.
type collection struct {
	name    string
	fields  []field
	indexes []index
}

// field is one field of a document.
type field struct {
	name string
	kind string // as $jsonSchema's bsonType has it
	// least and most bound the characters of a string, and the elements of an array unless most is 0; least bounds a number.
	least, most int64
	optional    bool
	values      []string // the only ones, unless empty
	items       []field  // of each document in an array
	each        *field   // each value in an array, where they are no documents
}

type index struct {
	fields         []string // a minus before one turns it round
	unique, sparse bool
}

// Kinds of fields.
const (
	kindText   = "string"
	kindNumber = "long"
	kindBytes  = "binData"
	kindBool   = "bool"
	kindList   = "array"
	kindID     = "objectId"
)

// noLeast is for numbers that may be negative, as times may.
const noLeast = -1 << 63

func text(name string, least, most int64) field {
	return field{name: name, kind: kindText, least: least, most: most}
}
func number(name string, least int64) field {
	return field{name: name, kind: kindNumber, least: least}
}
func list(name string, least, most int64, items ...field) field {
	return field{name: name, kind: kindList, least: least, most: most, items: items}
}

// oneOf is a text that has one of these values.
func oneOf[T ~string](name string, values ...T) field {
	f := field{name: name, kind: kindText}
	for _, v := range values {
		f.values = append(f.values, string(v))
		f.most = max(f.most, int64(len(v)))
	}
	return f
}
func moment(name string) field { return number(name, noLeast) }
func optional(f field) field   { f.optional = true; return f }

// Bounds follow core's limits; identifiers and hashes, which core leaves open, have 128
// characters, keys of events and names of nonces 255.
const (
	maxID     = 128
	maxKey    = 255
	maxReason = 1024
)

// carried are the fields of documents that carry the events of their changes.
var carried = []field{
	number("version", 1),
	optional(number("pending", 1)),
	optional(field{name: "events", kind: kindList, items: []field{
		number("position", 1), text("id", 1, maxID), text("topic", 0, maxID), text("type", 0, maxID), text("key", 0, maxKey),
		moment("time"), {name: "data", kind: kindBytes},
	}}),
}

// Events are found by the position of the first, by their identifiers, and by their own positions.
var carriedIndexes = []index{{fields: []string{"pending"}, sparse: true}, {fields: []string{"events.id"}, sparse: true},
	{fields: []string{"events.position"}, sparse: true}}

// carriedLater are those of documents that carried none in an earlier version, and may lack them.
var carriedLater = append([]field{optional(carried[0]), {name: "removed", kind: kindBool, optional: true}}, carried[1:]...)

// contentFields are those of content.
var contentFields = []field{
	text("text", 1, chat.MaxText), optional(number("reply_to", 1)), optional(text("data", 2, chat.MaxData)),
	number("rev", 1), optional(moment("edited_at")), optional(moment("deleted_at")),
	optional(list("reactions", 1, chat.MaxReactionKeys, text("key", 1, chat.MaxReactionKey), number("count", 1), usersOf(0, chat.MaxReactionUsers))),
	optional(list("reacted", 1, chat.MaxReactionKeys, text("key", 1, chat.MaxReactionKey), usersOf(1, chat.MaxReactions))),
}

// usersOf are users who have reacted in one way.
func usersOf(least, most int64) field {
	id := text("", 0, maxID)
	return field{name: "users", kind: kindList, least: least, most: most, each: &id}
}

// recoveryHash is each hash of a recovery code.
var recoveryHash = text("", 1, maxID)

var (
	users = &collection{
		name: "parley_users",
		fields: append([]field{
			text("_id", 1, maxID), text("full_name", 1, user.MaxFullName), text("email", 1, user.MaxEmail), text("password_hash", 0, 512),
			moment("created_at"), optional(moment("verified_at")), optional(moment("password_changed_at")),
			optional(moment("sessions_from")), optional(text("kept_session", 0, maxID)), optional(text("role", 1, 16)), optional(moment("disabled_at")),
			optional(text("language", 1, user.MaxLanguage)), optional(text("avatar_url", 1, user.MaxAvatarURL)), optional(text("new_email", 1, user.MaxEmail)), optional(text("new_email_code", 1, maxID)),
		}, carried...),
		indexes: append([]index{{fields: []string{"email"}, unique: true}, {fields: []string{"role", "_id"}}}, carriedIndexes...),
	}
	sessions = &collection{
		name: "parley_sessions",
		fields: append([]field{
			text("_id", 1, maxID), text("user_id", 0, maxID), text("family_hash", 0, maxID), text("token_hash", 0, maxID),
			moment("created_at"), optional(moment("rotated_at")), moment("expires_at"), optional(moment("revoked_at")),
			{name: "removed", kind: kindBool, optional: true},
			optional(text("previous_hash", 0, maxID)), optional(text("rotation_key", 0, maxID)), optional(text("device_hash", 0, maxID)),
			optional(text("device", 0, 64)), optional(text("network", 0, 64)), optional(moment("seen_at")), optional(moment("proven_at")),
		}, carried...),
		indexes: append([]index{{fields: []string{"user_id", "created_at", "_id"}}, {fields: []string{"user_id", "revoked_at", "created_at", "_id"}}, {fields: []string{"expires_at"}}}, carriedIndexes...),
	}
	codes = &collection{
		name: "parley_codes",
		fields: append([]field{
			text("_id", 1, maxID), text("user_id", 0, maxID), moment("created_at"), moment("expires_at"), optional(moment("used_at")),
		}, carriedLater...),
		indexes: append([]index{{fields: []string{"expires_at"}}}, carriedIndexes...),
	}
	factors = &collection{
		name: "parley_factors",
		fields: append([]field{
			text("_id", 1, maxID), {name: "secret", kind: kindBytes}, optional(moment("created_at")), optional(moment("confirmed_at")), number("last_step", 0),
			optional(field{name: "recovery", kind: kindList, least: 1, most: auth.RecoveryCodes, each: &recoveryHash}),
		}, carriedLater...),
		indexes: carriedIndexes,
	}
	signUps = &collection{
		name: "parley_sign_ups",
		fields: append([]field{
			text("_id", 1, maxID), text("user_id", 1, maxID), text("full_name", 1, user.MaxFullName), text("email", 1, user.MaxEmail),
			text("password_hash", 0, 512), text("network", 0, 64),
			moment("created_at"), moment("expires_at"), optional(moment("confirmed_at")), {name: "removed", kind: kindBool, optional: true},
			optional(text("language", 1, user.MaxLanguage)),
		}, carried...),
		indexes: append([]index{{fields: []string{"email", "created_at", "_id"}}, {fields: []string{"expires_at"}}}, carriedIndexes...),
	}
	nonces = &collection{
		name:    "parley_nonces",
		fields:  []field{text("_id", 0, maxKey), moment("expires_at")},
		indexes: []index{{fields: []string{"expires_at"}}},
	}
	limits = &collection{
		name:    "parley_limits",
		fields:  []field{text("_id", 1, maxID), moment("whole_at")},
		indexes: []index{{fields: []string{"whole_at"}}},
	}
	rooms = &collection{
		name: "parley_rooms",
		fields: []field{
			text("_id", 1, chat.MaxRoomName), text("created_by", 0, maxID), moment("created_at"),
			optional(oneOf("kind", chat.Public, chat.Private, chat.Direct)), optional(text("title", 1, chat.MaxTitle)), optional(text("topic", 1, chat.MaxTopic)),
			optional(text("data", 2, chat.MaxData)), optional(number("retention", 1)), optional(moment("deleted_at")),
			optional(number("version", 1)), optional(number("decided", 1)), optional(list("intents", 1, chunk,
				text("user_id", 0, maxID), field{name: "member", kind: kindID}, optional(oneOf("role", chat.AllRoles()...)), field{name: "begins", kind: kindBool, optional: true},
				optional(list("restricts", 1, 1, restrictions.fields...)))),
			// The version is that of what was decided.
			carried[1], carried[2],
		},
		// Of rooms alone that carry events.
		indexes: carriedIndexes,
	}
	members = &collection{
		name: "parley_members",
		fields: []field{
			{name: "_id", kind: kindID}, text("user_id", 0, maxID), text("room", 1, chat.MaxRoomName), moment("since"),
			optional(number("read", 0)), optional(number("moved_by", 1)),
			optional(oneOf("role", chat.AllRoles()...)), optional(text("owner_of", 1, chat.MaxRoomName)), optional(number("ruled", 1)),
			{name: "unproven", kind: kindBool, optional: true}, carriedLater[0], carriedLater[1], carriedLater[2], carriedLater[3],
		},
		// Those of events hold memberships alone that carry some.
		indexes: append([]index{
			{fields: []string{"user_id", "room"}, unique: true}, {fields: []string{"room", "user_id"}},
			// Of owners alone.
			{fields: []string{"owner_of"}, sparse: true},
		}, carriedIndexes...),
	}
	restrictions = &collection{
		name: "parley_restrictions",
		fields: []field{
			{name: "_id", kind: kindID}, text("room", 1, chat.MaxRoomName), text("user_id", 0, maxID), text("kind", 1, maxKind),
			text("by", 0, maxID), text("reason", 0, chat.MaxReason), moment("at"), optional(moment("until")),
		},
		indexes: []index{{fields: []string{"room", "user_id", "kind"}, unique: true}, {fields: []string{"at", "room", "user_id", "kind"}}},
	}
	blocks = &collection{
		name:    "parley_blocks",
		fields:  []field{{name: "_id", kind: kindID}, text("by", 1, maxID), text("whom", 1, maxID), moment("at")},
		indexes: []index{{fields: []string{"by", "whom"}, unique: true}, {fields: []string{"whom", "by"}}},
	}
	// auditLog is what administrators have done.
	auditLog = &collection{
		name: "parley_audit",
		fields: []field{
			text("_id", 1, audit.MaxID), moment("at"), text("actor", 0, audit.MaxActor), text("action", 0, audit.MaxAction), text("target", 0, audit.MaxTarget),
			text("detail", 0, audit.MaxDetail), text("network", 0, audit.MaxNetwork), text("outcome", 0, audit.MaxOutcome),
		},
		indexes: []index{{fields: []string{"at"}}},
	}
	userSettings = &collection{
		name:   "parley_settings",
		fields: []field{text("_id", 1, maxID), {name: "hides_read", kind: kindBool}},
	}
	messages = &collection{
		name: "parley_messages",
		fields: append([]field{
			{name: "_id", kind: kindID}, text("room", 1, chat.MaxRoomName), number("seq", 1), text("once", 2, 2*maxID+chat.MaxClientID),
			text("id", 1, maxID), optional(text("client_id", 1, chat.MaxClientID)), text("author_id", 0, maxID),
			text("author_name", 0, user.MaxFullName), contentFields[0], moment("at"),
			contentFields[1], contentFields[2], optional(contentFields[3]), contentFields[4], contentFields[5], contentFields[6], contentFields[7],
			optional(text("changed_in", 1, chat.MaxRoomName)), optional(text("deleted_in", 1, chat.MaxRoomName)), optional(number("deleted_seq", 1)),
		}, carriedLater...),
		// Those of events hold messages alone that carry some.
		indexes: append([]index{
			{fields: []string{"room", "seq"}, unique: true}, {fields: []string{"room", "once"}, unique: true},
			// Of messages that were changed alone. The heads see to it that no two have one Rev.
			{fields: []string{"changed_in", "rev"}, sparse: true},
			// Of messages that were deleted alone.
			{fields: []string{"deleted_in", "deleted_seq"}, sparse: true},
			{fields: []string{"author_id", "room", "seq"}},
		}, carriedIndexes...),
	}
	// changes are the heads of rooms in which a message was changed.
	changes = &collection{
		name: "parley_changes",
		fields: []field{
			text("_id", 1, chat.MaxRoomName), number("rev", 1), optional(list("writes", 1, chunk, append([]field{
				number("seq", 1), optional(list("events", 1, chunk, carried[2].items...)), optional(field{name: "forgets", kind: kindBool}),
			}, contentFields...)...)),
			optional(number("counted", 0)),
		},
	}
	// aside is what can never be published: the event as it was in its document, and why. One that is replayed carries
	// the event, and is removed with it.
	aside = &collection{
		name: "parley_outbox_aside",
		fields: append([]field{
			text("_id", 1, maxID), text("topic", 0, maxID), text("type", 0, maxID), text("key", 0, maxKey), moment("time"),
			{name: "data", kind: kindBytes}, text("reason", 0, maxReason),
		}, carriedLater...),
		indexes: carriedIndexes,
	}
	clock       = &collection{name: "parley_clock", fields: []field{number("_id", 1)}}
	mailJobs    = jobs("parley_mail_jobs")
	webhookJobs = jobs("parley_webhook_jobs")
	schema      = &collection{
		name:   "parley_schema",
		fields: []field{text("_id", 1, maxID), number("version", 1), optional(number("additions", 0)), number("confirmations", 0)},
	}
)

// jobs is a collection of jobs: of mails, or of deliveries.
func jobs(name string) *collection {
	return &collection{
		name: name,
		fields: []field{
			text("_id", 1, maxID), number("position", 1), text("key", 1, maxKey), text("kind", 0, 64), text("recipient", 0, user.MaxEmail),
			text("recipient_name", 0, user.MaxFullName), {name: "data", kind: kindBytes},
			{name: "state", kind: kindText, most: 16, values: []string{string(mail.Ready), string(mail.Running), string(mail.Sent), string(mail.Dead)}},
			{name: "open", kind: kindBool}, moment("due_at"), number("attempts", 0), number("claims", 0),
			moment("run_at"), optional(moment("leased_until")), optional(moment("deferred_since")), text("last_error", 0, maxLastError), moment("created_at"), moment("updated_at"),
			{name: "history", kind: kindBytes, optional: true}, optional(number("replays", 0)),
		},
		indexes: []index{
			{fields: []string{"key"}, unique: true}, {fields: []string{"position"}}, {fields: []string{"open", "position", "_id", "due_at"}},
			{fields: []string{"state", "_id"}}, {fields: []string{"recipient", "_id"}}, {fields: []string{"state", "updated_at"}},
		},
	}
}

// collections are all there are. The schema's comes last: its document says that the others are there.
var collections = []*collection{users, signUps, sessions, codes, factors, nonces, limits, rooms, members, restrictions, blocks, userSettings, auditLog, messages, changes, aside, clock, mailJobs, webhookJobs, schema}

// validator is what the server is told to check.
func (c *collection) validator() bson.D {
	return bson.D{{Key: "$jsonSchema", Value: objectSchema(c.fields)}}
}

func objectSchema(fields []field) bson.D {
	required, properties := bson.A{}, bson.D{}
	for _, f := range fields {
		if !f.optional {
			required = append(required, f.name)
		}
		properties = append(properties, bson.E{Key: f.name, Value: f.schema()})
	}
	return bson.D{{Key: "bsonType", Value: "object"}, {Key: "required", Value: required}, {Key: "properties", Value: properties}}
}

func (f field) schema() bson.D {
	s := bson.D{{Key: "bsonType", Value: f.kind}}
	switch f.kind {
	case kindText:
		s = append(s, bson.E{Key: "minLength", Value: f.least}, bson.E{Key: "maxLength", Value: f.most})
		if len(f.values) > 0 {
			s = append(s, bson.E{Key: "enum", Value: f.values})
		}
	case kindNumber:
		if f.least != noLeast {
			s = append(s, bson.E{Key: "minimum", Value: f.least})
		}
	case kindList:
		if f.most > 0 {
			s = append(s, bson.E{Key: "minItems", Value: f.least}, bson.E{Key: "maxItems", Value: f.most})
		}
		items := objectSchema(f.items)
		if f.each != nil {
			items = f.each.schema()
		}
		s = append(s, bson.E{Key: "items", Value: items})
	}
	return s
}

// models are the collection's indexes in the driver's terms. Their names say their fields.
func (c *collection) models() []mongo.IndexModel {
	models := make([]mongo.IndexModel, len(c.indexes))
	for i, x := range c.indexes {
		opts := options.Index().SetName(strings.ReplaceAll(strings.Join(x.fields, "_"), ".", "_"))
		if x.unique {
			opts.SetUnique(true)
		}
		if x.sparse {
			opts.SetSparse(true)
		}
		models[i] = mongo.IndexModel{Keys: ascending(x.fields...), Options: opts}
	}
	return models
}

// What a document is refused for.
var (
	errText   = fault.New(fault.Invalid, "text_not_storable", "a text is not valid UTF-8 or has a NUL character")
	errBounds = fault.New(fault.Invalid, "value_out_of_bounds", "a value is too short, too long or too small to be stored")
)

// storable reports whether every server keeps the texts byte by byte.
func storable(texts ...string) bool {
	for _, s := range texts {
		if strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s) {
			return false
		}
	}
	return true
}

// encode makes the document that is stored, and refuses one that the validator would refuse.
func (c *collection) encode(doc any) (bson.Raw, error) {
	raw, err := bson.Marshal(doc)
	if err == nil {
		err = check(c.fields, raw)
	}
	if err != nil {
		if fault.KindOf(err) == fault.Invalid {
			return nil, err
		}
		return nil, fmt.Errorf("mongostore: encode a document of %s: %w", c.name, err)
	}
	return raw, nil
}

func check(fields []field, doc bson.Raw) error {
	elements, err := doc.Elements()
	if err != nil {
		return err
	}
	found := make(map[string]bson.RawValue, len(elements))
	for _, e := range elements {
		found[e.Key()] = e.Value()
	}
	for _, f := range fields {
		v, ok := found[f.name]
		delete(found, f.name)
		switch {
		case ok:
			if err := f.check(v); err != nil {
				return err
			}
		case !f.optional:
			return fmt.Errorf("the field %s is missing", f.name)
		}
	}
	for name := range found {
		return fmt.Errorf("the field %s is not declared", name)
	}
	return nil
}

func (f field) check(v bson.RawValue) error {
	wrong := fmt.Errorf("the field %s is a %s, not a %s", f.name, v.Type, f.kind)
	switch f.kind {
	case kindText:
		s, ok := v.StringValueOK()
		if !ok {
			return wrong
		}
		if !storable(s) {
			return errText
		}
		if n := int64(utf8.RuneCountInString(s)); n < f.least || n > f.most {
			return errBounds.Detail("%s has %d characters, and may have %d to %d", strings.TrimPrefix(f.name, "_"), n, f.least, f.most)
		}
		if len(f.values) > 0 && !slices.Contains(f.values, s) {
			return errBounds.Detail("%s is not one of %s", f.name, strings.Join(f.values, ", "))
		}
	case kindNumber:
		n, ok := v.Int64OK()
		if !ok {
			return wrong
		}
		if n < f.least {
			return errBounds.Detail("%s is %d, and may not be less than %d", strings.TrimPrefix(f.name, "_"), n, f.least)
		}
	case kindBytes:
		if v.Type != bson.TypeBinary {
			return wrong
		}
	case kindBool:
		if v.Type != bson.TypeBoolean {
			return wrong
		}
	case kindID:
		if v.Type != bson.TypeObjectID {
			return wrong
		}
	case kindList:
		list, ok := v.ArrayOK()
		if !ok {
			return wrong
		}
		values, err := list.Values()
		if err != nil {
			return err
		}
		if n := int64(len(values)); f.most > 0 && (n < f.least || n > f.most) {
			return errBounds.Detail("%s has %d elements, and may have %d to %d", f.name, n, f.least, f.most)
		}
		for _, item := range values {
			if f.each != nil {
				if err := f.each.check(item); err != nil {
					return err
				}
				continue
			}
			doc, ok := item.DocumentOK()
			if !ok {
				return wrong
			}
			if err := check(f.items, doc); err != nil {
				return err
			}
		}
	}
	return nil
}
