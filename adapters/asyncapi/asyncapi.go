// Package asyncapi makes the AsyncAPI 3.0 document: the events of the socket, as [protocol.AsyncAPI]
// describes them, and the events between the parts of the system, which are on the topics of core/mail,
// core/auth and core/webhook. It implements no port.
//
// # Guarantees
//
// The document depends on the configuration alone: it is the same in each run, and JSON and YAML say the
// same. The schema of an event's data is made from its Go type, by huma v2.37.
//
// # Closing
//
// There is nothing to close.
package asyncapi

import (
	"bytes"
	"encoding/json"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/yaml"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/settings"
	"github.com/parley-chat/parley/core/webhook"
)

// busEvents are the events between the parts of the system.
var busEvents = []struct {
	topic, typ, doc string
	data            any
}{
	{mail.Topic, mail.TypeUserCreated, "Somebody signed up; the code proves the address.", mail.UserCreated{}},
	{mail.Topic, mail.TypeVerificationAgain, "A user asked for another code.", mail.UserCreated{}},
	{mail.Topic, mail.TypeAddressTaken, "Somebody signed up with the address of an account; its owner is told.", mail.AddressTaken{}},
	{mail.Topic, mail.TypePasswordForgotten, "A user asked for a code to set a new password.", mail.PasswordForgotten{}},
	{mail.Topic, mail.TypePasswordChanged, "A password was changed; the user is told.", mail.PasswordChanged{}},
	{mail.Topic, mail.TypeFactorChanged, "A second factor was added, removed or used by a recovery code; the user is told.", mail.FactorChanged{}},
	{mail.Topic, mail.TypeDeviceSignedIn, "A device that was not known opened a session; the user is told.", mail.DeviceSignedIn{}},
	{mail.Topic, mail.TypeEmailChangeRequested, "A user wants another address: a mail to that address with the code that proves it.", mail.EmailChangeRequested{}},
	{mail.Topic, mail.TypeEmailChanged, "A user has another address: a mail to the old one.", mail.EmailChanged{}},
	{mail.Topic, mail.TypeLinkRequested, "A user asked for a link to sign in by; whoever has the code signs in.", mail.LinkRequested{}},
	{mail.Topic, mail.TypeUserInvited, "An administrator made an account and invites its owner: a mail by which a password is chosen.", mail.UserInvited{}},
	{mail.Topic, mail.TypeUserDisabled, "A user was disabled: whatever was to be mailed to the address is forgotten.", mail.UserDisabled{}},
	{mail.Topic, mail.TypeUserErased, "A user was erased: whatever is to be mailed to the address, or was, is forgotten.", mail.UserErased{}},
	{mail.Topic, mail.TypeNothing, "Somebody asked for a mail to an address that gets none. Ignore it: it is there so that the request costs the same work.", mail.Nothing{}},
	{auth.Topic, auth.TypeSessionRevoked, "A session ended before its time: its sockets close.", auth.SessionRevoked{}},
	{auth.Topic, auth.TypeSessionsRevoked, "All sessions of a user that were opened before a time ended, but one to keep: their sockets close. With erased, the account was erased: one of the nodes erases what the user has said. Nodes that do not know this type leave those open until their tokens end.", auth.SessionsRevoked{}},
	{webhook.Topic, webhook.UserCreated, "An account is there: its address is proven.", webhook.FactData{}},
	{webhook.Topic, webhook.UserVerified, "The address of an account that an older version had made is proven.", webhook.FactData{}},
	{webhook.Topic, webhook.UserErased, "An account was erased: what waits about the user is not delivered any more.", webhook.FactData{}},
	{webhook.Topic, webhook.SessionEnded, "A session ended before its time, or all older ones of the user did.", webhook.FactData{}},
	{webhook.Topic, webhook.MessageCreated, "A message was stored.", webhook.FactData{}},
	{webhook.Topic, webhook.MessageChanged, "A message was edited, deleted, erased or reacted to. If its text is gone, what waits about it is not delivered any more.", webhook.FactData{}},
	{webhook.Topic, webhook.RoomCreated, "A room was stored: somebody has made it, or joined it first.", webhook.FactData{}},
	{webhook.Topic, webhook.RoomChanged, "What a room shows of itself was changed.", webhook.FactData{}},
	{webhook.Topic, webhook.RoomDeleted, "A room was deleted, and with it its memberships: what waits about the room itself is not delivered any more.", webhook.FactData{}},
	{webhook.Topic, webhook.MembershipChanged, "Somebody is a member of a room now, has another role, or is no member any more.", webhook.FactData{}},
}

// Config is what the document says besides the events.
type Config struct {
	// Schema has the events of the socket. Required.
	Schema *protocol.Schema
	// Title and Version are those of the document. Required.
	Title, Version string
	// Server is the host of the socket, for example "chat.example.com" or "localhost:5002". Required.
	Server string
	// ReasonHeader names the header that says why a message is on a dead topic. Required.
	ReasonHeader string
}

// Document returns the AsyncAPI 3.0 document of the socket and of the events between the parts, in JSON and in
// YAML. Both have the same content in the same order. It depends on cfg alone.
func Document(cfg Config) (asJSON, asYAML []byte, err error) {
	c := settings.Of("asyncapi: Config")
	c.Require("Schema", cfg.Schema == nil)
	c.Require("Title", cfg.Title == "")
	c.Require("Version", cfg.Version == "")
	c.Require("Server", cfg.Server == "")
	c.Require("ReasonHeader", cfg.ReasonHeader == "")
	if err := c.Err(); err != nil {
		return nil, nil, err
	}
	doc := protocol.AsyncAPI(cfg.Schema, cfg.Title, cfg.Version, cfg.Server)
	components := doc["components"].(map[string]any)
	messages, schemas := components["messages"].(map[string]any), components["schemas"].(map[string]any)
	channels, operations := doc["channels"].(map[string]any), doc["operations"].(map[string]any)
	ref := func(path string) map[string]any { return map[string]any{"$ref": "#/" + path} }
	types := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	for _, e := range busEvents {
		key, keyed, unknown := e.typ, "user", "ignored"
		if e.topic == webhook.Topic { // it has types that have the name of one of mail.Topic
			key, keyed, unknown = e.topic+"."+e.typ, "room, or else by user", "delivered as well"
		}
		channel, ok := channels[e.topic].(map[string]any)
		if !ok {
			channel = map[string]any{
				"address": e.topic, "messages": map[string]any{},
				"description": "CloudEvents 1.0 in binary mode, keyed by " + keyed + ". An event may come twice, with the same ce_id. Types that a consumer does not know are " + unknown + ".",
			}
			channels[e.topic] = channel
			describeDead(channels, operations, ref, e.topic)
		}
		channel["messages"].(map[string]any)[e.typ] = ref("components/messages/" + key)
		messages[key] = map[string]any{
			"name": e.typ, "title": e.typ, "summary": e.doc, "contentType": "application/json",
			"headers": ref("components/schemas/CloudEvent"),
			"payload": types.Schema(reflect.TypeOf(e.data), true, ""),
		}
		operations["publish."+key] = map[string]any{
			"action": "send", "channel": ref("channels/" + e.topic), "summary": e.doc,
			"messages": []any{ref("channels/" + e.topic + "/messages/" + e.typ)},
		}
	}
	for name, s := range types.Map() {
		schemas[name] = s
	}
	header := map[string]any{"type": "string"}
	schemas["CloudEvent"] = map[string]any{
		"type": "object", "description": "Attributes of CloudEvents 1.0.", "required": []string{"ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "content-type"},
		"properties": map[string]any{
			"ce_specversion": map[string]any{"const": "1.0"}, "ce_id": header, "ce_source": header, "ce_type": header,
			"ce_time":         map[string]any{"type": "string", "format": "date-time"},
			"ce_partitionkey": map[string]any{"type": "string", "description": "What orders: the room, or else the user."}, "content-type": map[string]any{"const": "application/json"},
		},
	}
	messages["dead"] = map[string]any{
		"name": "dead", "title": "dead", "summary": "A message that can never be handled, as it came: headers, key and data.",
		"headers": map[string]any{
			"type": "object", "required": []string{cfg.ReasonHeader},
			"properties": map[string]any{cfg.ReasonHeader: map[string]any{"type": "string", "description": "Why, for a person to read."}},
		},
		"payload": map[string]any{},
	}
	if asJSON, err = json.MarshalIndent(doc, "", "  "); err != nil {
		return nil, nil, err
	}
	asJSON = append(asJSON, '\n')
	var text bytes.Buffer
	if err := yaml.Convert(&text, bytes.NewReader(asJSON)); err != nil { // so that both say the same in the same order
		return nil, nil, err
	}
	return asJSON, text.Bytes(), nil
}

// describeDead adds the dead topic of a topic.
func describeDead(channels, operations map[string]any, ref func(string) map[string]any, topic string) {
	dead, ok := event.DeadTopic(topic)
	if !ok {
		return
	}
	channels[dead] = map[string]any{
		"address": dead, "messages": map[string]any{"dead": ref("components/messages/dead")},
		"description": "What can never be handled on the topic " + topic + ", kept for a person to look at: messages that are not events, and events that a consumer refuses for good.",
	}
	operations["publish."+dead] = map[string]any{
		"action": "send", "channel": ref("channels/" + dead), "summary": "A consumer set a message aside.",
		"messages": []any{ref("channels/" + dead + "/messages/dead")},
	}
}
