package protocol

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/parley-chat/parley/core/socket"
)

// AsyncAPI returns the socket's document, AsyncAPI 3.0, as a tree that encodes to JSON or
// YAML. It is made from the schema and [CloseCodes]. server is the host
// to name in it, for example "localhost:5002".
func AsyncAPI(schema *Schema, title, version, server string) map[string]any {
	schemas, messages, channel := map[string]any{}, map[string]any{}, map[string]any{}
	operations := map[string]any{}
	ref := func(path string) map[string]any { return map[string]any{"$ref": "#/" + path} }
	add := func(key string, event, doc string, payload map[string]any) {
		messages[key] = map[string]any{"name": event, "title": event, "summary": doc, "contentType": "application/json", "payload": payload}
		channel[key] = ref("components/messages/" + key)
	}
	envelope := func(event string, data map[string]any, dataRequired bool, id string) map[string]any {
		p := map[string]any{"event": map[string]any{"const": event}, "data": data}
		required := []string{"event"}
		if dataRequired {
			required = append(required, "data")
		}
		if id != "" {
			p["id"] = map[string]any{"type": "integer", "minimum": 0, "maximum": uint64(MaxInteger), "description": id}
		}
		return map[string]any{"type": "object", "additionalProperties": false, "properties": p, "required": required}
	}
	const idDoc = "With it there is one answer with the same id; without it there is none."
	for _, e := range schema.ClientEvents() {
		addSchema(schemas, e.Data)
		addSchema(schemas, e.Ack)
		in, out := e.messageName(), e.ackName()
		required := slices.ContainsFunc(e.Data.Fields, func(f Field) bool { return f.Required })
		add(in, e.Name, e.Doc, envelope(e.Name, ref("components/schemas/"+e.Data.Name), required, idDoc))
		answer := envelope(EventAck, ref("components/schemas/"+e.Ack.Name), true, "The id of the event that is answered.")
		add(out, EventAck, "The answer to "+e.Name+".", answer)
		operations[e.Name] = map[string]any{
			"action": "receive", "channel": ref("channels/socket"), "summary": e.Doc,
			"messages": []any{ref("channels/socket/messages/" + in)},
			"reply": map[string]any{
				"channel":  ref("channels/socket"),
				"messages": []any{ref("channels/socket/messages/" + out), ref("channels/socket/messages/Error")},
			},
		}
	}
	schemas["Error"] = map[string]any{
		"type": "object", "required": []string{"code", "title"}, "additionalProperties": false,
		"description": "Why an event had no effect.",
		"properties": map[string]any{
			"code":       map[string]any{"type": "string", "description": "Stable, lower_snake_case."},
			"title":      map[string]any{"type": "string", "description": "One sentence."},
			"detail":     map[string]any{"type": "string", "description": "What went wrong this time."},
			"retryAfter": map[string]any{"type": "integer", "description": "Seconds after which trying again makes sense."},
		},
	}
	add("Error", EventError, "The answer to an event that had no effect.", map[string]any{
		"type": "object", "additionalProperties": false, "required": []string{"id", "event", "error"},
		"properties": map[string]any{
			"id":    map[string]any{"type": "integer"},
			"event": map[string]any{"const": EventError},
			"error": ref("components/schemas/Error"),
		},
	})
	for _, e := range schema.ServerEvents() {
		addSchema(schemas, e.Data)
		add(e.messageName(), e.Name, e.Doc, envelope(e.Name, ref("components/schemas/"+e.Data.Name), true, ""))
		operations["send_"+e.Name] = map[string]any{
			"action": "send", "channel": ref("channels/socket"), "summary": e.Doc,
			"messages": []any{ref("channels/socket/messages/" + e.messageName())},
		}
	}
	var closes strings.Builder
	closes.WriteString("Close codes:\n")
	for _, c := range closeCodes {
		after := "must not come back by itself"
		switch {
		case c.NewToken:
			after = "may come back with a new token"
		case c.Later:
			after = "may come back after a while"
		case c.Return:
			after = "may come back at once"
		}
		fmt.Fprintf(&closes, "\n- %d: %s; a client %s", c.Code, c.Doc, after)
	}
	return map[string]any{
		"asyncapi": "3.0.0",
		"info": map[string]any{
			"title": title, "version": version,
			"description": "One JSON object a text frame, subprotocol " + socket.Protocol + ". What is not described here is refused, and closes the connection with 4400.\n\n" + closes.String(),
		},
		"defaultContentType": "application/json",
		"servers":            map[string]any{"socket": map[string]any{"host": server, "protocol": "ws", "security": []any{ref("components/securitySchemes/bearer"), ref("components/securitySchemes/ticket")}}},
		"channels": map[string]any{"socket": map[string]any{
			"address": "/socket", "messages": channel,
			"description": "Credentials: header Authorization (Bearer), query ticket, or an offered subprotocol bearer.<token>.",
		}},
		"operations": operations,
		"components": map[string]any{
			"schemas": schemas, "messages": messages,
			"securitySchemes": map[string]any{
				"bearer": map[string]any{"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
				"ticket": map[string]any{"type": "httpApiKey", "name": "ticket", "in": "query", "description": "From POST /auth/socket-ticket; one use."},
			},
		},
	}
}

func addSchema(schemas map[string]any, o *Object) {
	if _, ok := schemas[o.Name]; ok {
		return
	}
	properties, required := map[string]any{}, []string{}
	schemas[o.Name] = map[string]any{
		"type": "object", "description": o.Doc, "additionalProperties": false,
		"properties": properties, "required": required,
	}
	for _, f := range o.Fields {
		if f.Required {
			required = append(required, f.Name)
		}
		p := map[string]any{"description": f.Doc}
		switch f.Type {
		case String:
			p["type"] = "string"
			if f.Null {
				p["type"] = []string{"string", "null"}
			}
			if len(f.Values) > 0 {
				values := make([]any, 0, len(f.Values)+1)
				for _, v := range f.Values {
					values = append(values, v)
				}
				if f.Null {
					values = append(values, nil)
				}
				p["enum"] = values
			}
			if f.MinLength > 0 {
				p["minLength"] = f.MinLength
			}
			if f.MaxLength > 0 {
				p["maxLength"] = f.MaxLength
			}
			if f.Pattern != "" {
				p["pattern"] = f.Pattern
			}
		case Integer:
			p["type"], p["minimum"], p["maximum"] = "integer", f.Minimum, uint64(MaxInteger)
			if f.Maximum > 0 {
				p["maximum"] = f.Maximum
			}
		case Boolean:
			p["type"] = "boolean"
		case Time:
			p["type"], p["format"] = "string", "date-time"
		case Free:
			p["type"] = "object"
		case Texts:
			p["type"], p["items"] = "array", map[string]any{"type": "string"}
		case Ref:
			addSchema(schemas, f.Object)
			p = map[string]any{"$ref": "#/components/schemas/" + f.Object.Name}
		case ListOf:
			addSchema(schemas, f.Object)
			p["type"], p["items"] = "array", map[string]any{"$ref": "#/components/schemas/" + f.Object.Name}
		}
		properties[f.Name] = p
	}
	schemas[o.Name].(map[string]any)["required"] = required
}

// TypeScript returns declarations of every object and event of the schema.
func TypeScript(schema *Schema) []byte {
	var b strings.Builder
	b.WriteString("// Printed from the socket's schema. Do not edit.\n")
	done := map[string]bool{}
	var declare func(o *Object)
	declare = func(o *Object) {
		if done[o.Name] {
			return
		}
		done[o.Name] = true
		for _, f := range o.Fields {
			if f.Object != nil {
				declare(f.Object)
			}
		}
		fmt.Fprintf(&b, "\n/** %s */\nexport interface %s {\n", o.Doc, o.Name)
		for _, f := range o.Fields {
			optional := "?"
			if f.Required {
				optional = ""
			}
			fmt.Fprintf(&b, "  /** %s */\n  %s%s: %s;\n", f.Doc, f.Name, optional, f.typeScript())
		}
		b.WriteString("}\n")
	}
	table := func(doc, name string, rows func(row func(event, typ string))) {
		fmt.Fprintf(&b, "\n/** %s */\nexport interface %s {\n", doc, name)
		rows(func(event, typ string) { fmt.Fprintf(&b, "  %s: %s;\n", event, typ) })
		b.WriteString("}\n")
	}
	for _, e := range schema.ClientEvents() {
		declare(e.Data)
		declare(e.Ack)
	}
	for _, e := range schema.ServerEvents() {
		declare(e.Data)
	}
	table("What a client may send: the data of each event.", "ClientEvents", func(row func(string, string)) {
		for _, e := range schema.ClientEvents() {
			row(e.Name, e.Data.Name)
		}
	})
	table("The answer to each event of a client.", "Acks", func(row func(string, string)) {
		for _, e := range schema.ClientEvents() {
			row(e.Name, e.Ack.Name)
		}
	})
	table("What the server sends: the data of each event.", "ServerEvents", func(row func(string, string)) {
		for _, e := range schema.ServerEvents() {
			row(e.Name, e.Data.Name)
		}
	})
	return []byte(b.String())
}

func (f *Field) typeScript() string {
	switch f.Type {
	case Integer:
		return "number"
	case Boolean:
		return "boolean"
	case Free:
		return "{ [name: string]: unknown }"
	case Texts:
		return "string[]"
	case Ref:
		return f.Object.Name
	case ListOf:
		return f.Object.Name + "[]"
	}
	t := "string"
	if len(f.Values) > 0 {
		quoted := make([]string, len(f.Values))
		for i, v := range f.Values {
			quoted[i] = strconv.Quote(v)
		}
		t = strings.Join(quoted, " | ")
	}
	if f.Null {
		t += " | null"
	}
	return t
}
