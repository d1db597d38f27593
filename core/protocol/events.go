package protocol

import (
	"errors"
	"fmt"
	"slices"
)

// Schema is what may be said on the connections of a hub: Parley's own events, and those that an
// application adds. It is not changed once it is made, and may be used from many goroutines.
type Schema struct {
	client []ClientEvent
	server []ServerEvent
	byName map[string]*ClientEvent
	sends  map[string]*ServerEvent
}

// NewSchema makes a schema of Parley's own events, and of an application's: what its clients may send,
// and what the server sends besides. Every event of an application is about a room: the field room is
// put before those of its Data, and of an event of the server. It returns all that is wrong with them at
// once:
//
//   - a name that is not made as [ClientEvent] and [ServerEvent] say, or is one of Parley's own, or
//     stands twice in a list (a client's and a server's event may have the same one);
//   - two objects of the same name, an object that holds itself, or more than 63 fields;
//   - a field of another type than String, Integer, Boolean or Free in what a client sends, a String or a Free without
//     MaxLength there, or bounds that nothing can keep.
//
// Data and Ack may be nil: no fields.
func NewSchema(client []ClientEvent, server []ServerEvent) (*Schema, error) {
	s := &Schema{byName: map[string]*ClientEvent{}, sends: map[string]*ServerEvent{}}
	a := adder{objects: map[string]*Object{}, made: map[roomed]*Object{}}
	for _, e := range clientEvents {
		s.client = append(s.client, e)
		a.own(e.Data, e.Ack)
		a.input("event "+quote(e.Name)+" of clients", e.Data)
	}
	for _, e := range serverEvents {
		s.server = append(s.server, e)
		a.own(e.Data)
	}
	taken := func(name string) bool {
		return name == EventAck || name == EventError ||
			slices.ContainsFunc(clientEvents, func(e ClientEvent) bool { return e.Name == name }) ||
			slices.ContainsFunc(serverEvents, func(e ServerEvent) bool { return e.Name == name })
	}
	for i, e := range client {
		at := fmt.Sprintf("event %s of clients", quote(e.Name))
		a.name(at, e.Name, taken(e.Name), slices.ContainsFunc(client[:i], func(o ClientEvent) bool { return o.Name == e.Name }))
		e.Data = a.object(at, e.Data, &roomField, e.Name+"Data")
		a.input(at, e.Data)
		e.Ack = a.object(at, e.Ack, nil, e.Name+"Ack")
		s.client = append(s.client, e)
	}
	for i, e := range server {
		at := fmt.Sprintf("event %s of the server", quote(e.Name))
		a.name(at, e.Name, taken(e.Name), slices.ContainsFunc(server[:i], func(o ServerEvent) bool { return o.Name == e.Name }))
		e.Data = a.object(at, e.Data, &ackedRoomField, e.Name+"Event")
		s.server = append(s.server, e)
	}
	a.messages(s)
	if err := errors.Join(a.errs...); err != nil {
		return nil, err
	}
	for i := range s.client {
		s.byName[s.client[i].Name] = &s.client[i]
	}
	for i := range s.server {
		s.sends[s.server[i].Name] = &s.server[i]
	}
	return s, nil
}

// Own returns the schema of Parley's own events alone.
func Own() *Schema { return own }

var own = func() *Schema {
	s, err := NewSchema(nil, nil)
	if err != nil {
		panic(err) // the tables of Parley's own events have a mistake
	}
	return s
}()

// ClientEvents is what a client may send, Parley's own events first. It is the source of the run-time
// check, the allow-list, the AsyncAPI document and the typed clients. The result must not be changed.
func (s *Schema) ClientEvents() []ClientEvent { return s.client }

// ServerEvents is what the server sends besides answers, Parley's own events first. The result must not
// be changed.
func (s *Schema) ServerEvents() []ServerEvent { return s.server }

// ServerEvent returns an event of the server by its name, or nil. The result must not be changed.
func (s *Schema) ServerEvent(name string) *ServerEvent { return s.sends[name] }

// adder checks what an application adds to a schema, and collects what is wrong with it.
type adder struct {
	errs    []error
	objects map[string]*Object // all objects by name
	made    map[roomed]*Object // with the field room before the others
}

// roomed is an application's object that gets the field room.
type roomed struct {
	object *Object
	room   *Field
}

func (a *adder) wrong(at, format string, args ...any) {
	a.errs = append(a.errs, fmt.Errorf("%s: %s", at, fmt.Sprintf(format, args...)))
}

// own notes the names of Parley's own objects.
func (a *adder) own(objects ...*Object) {
	for _, o := range objects {
		a.objects[o.Name] = o
		for _, f := range o.Fields {
			if f.Object != nil {
				a.own(f.Object)
			}
		}
	}
}

func (a *adder) name(at, name string, taken, twice bool) {
	switch {
	case !isName(name):
		a.wrong(at, "the name must be a letter, and up to 63 further letters, digits and _")
	case taken:
		a.wrong(at, "the name is Parley's own")
	case twice:
		a.wrong(at, "the name stands twice")
	}
}

// isName reports whether s may name an event, an object or a field: documents and typed clients have it
// as it is.
func isName(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
		case i > 0 && (c >= '0' && c <= '9' || c == '_'):
		default:
			return false
		}
	}
	return true
}

// reserved are the names of types that typed clients and documents have besides the objects.
var reserved = []string{"ClientEvents", "ServerEvents", "Acks", "Error"}

// object checks an object of an event and returns it with the field room before the others, if that is
// to be.
func (a *adder) object(at string, o *Object, room *Field, name string) *Object {
	if o == nil {
		o = &Object{Name: name, Doc: "Nothing."}
		if room != nil {
			o.Doc = "Which room."
		}
	}
	if room != nil {
		key := roomed{o, room}
		if known := a.made[key]; known != nil {
			return known
		}
		with := *o
		with.Fields = append([]Field{*room}, o.Fields...)
		a.made[key] = &with
		o = &with
	}
	a.check(at, o, nil)
	return o
}

func (a *adder) check(at string, o *Object, within []*Object) {
	switch known := a.objects[o.Name]; {
	case slices.Contains(within, o):
		a.wrong(at, "the object %s holds itself", o.Name)
		return
	case known == o:
		return
	case !isName(o.Name):
		a.wrong(at, "the object's name %s must be a letter, and up to 63 further letters, digits and _", quote(o.Name))
	case known != nil, slices.Contains(reserved, o.Name):
		a.wrong(at, "another object is called %s", o.Name)
	}
	if len(o.Fields) > 63 {
		a.wrong(at, "the object %s has more than 63 fields", o.Name)
	}
	for i := range o.Fields {
		f := &o.Fields[i]
		here := fmt.Sprintf("%s: field %s of %s", at, quote(f.Name), o.Name)
		switch {
		case !isName(f.Name):
			a.wrong(here, "the name must be a letter, and up to 63 further letters, digits and _")
		case slices.ContainsFunc(o.Fields[:i], func(g Field) bool { return g.Name == f.Name }):
			a.wrong(here, "the name stands twice")
		}
		a.field(here, f)
		if f.Object != nil {
			a.check(here, f.Object, append(within, o))
		}
	}
	a.objects[o.Name] = o
}

func (a *adder) field(at string, f *Field) {
	switch f.Type {
	case String:
		if f.MinLength < 0 || f.MaxLength < 0 || f.MaxLength > 0 && f.MinLength > f.MaxLength {
			a.wrong(at, "no string has %d to %d characters", f.MinLength, f.MaxLength)
		}
		if f.Pattern != "" && f.Check == nil {
			a.wrong(at, "Pattern says what Check checks, and there is no Check")
		}
	case Integer:
		if f.Minimum > MaxInteger || f.Maximum > MaxInteger || f.Maximum > 0 && f.Minimum > f.Maximum {
			a.wrong(at, "no integer is from %d to %d", f.Minimum, f.Maximum)
		}
	case Boolean, Time, Texts:
	case Free:
		if f.MaxLength < 0 || f.MaxLength > 0 && f.MaxLength < len("{}") {
			a.wrong(at, "no object has %d bytes", f.MaxLength)
		}
	case Ref, ListOf:
		if f.Object == nil {
			a.wrong(at, "Object is missing")
		}
		return
	default:
		a.wrong(at, "there is no type %d", f.Type)
	}
	if f.Object != nil {
		a.wrong(at, "only Ref and ListOf have an Object")
	}
}

// input checks what only a client's data must keep.
func (a *adder) input(at string, o *Object) {
	for i := range o.Fields {
		f := &o.Fields[i]
		here := fmt.Sprintf("%s: field %s of %s", at, quote(f.Name), o.Name)
		switch {
		case f.Type > Boolean && f.Type != Free:
			a.wrong(here, "a client can send String, Integer, Boolean and Free")
		case (f.Type == String || f.Type == Free) && f.MaxLength == 0:
			a.wrong(here, "MaxLength is missing")
		case f.Null:
			a.wrong(here, "a client cannot send null")
		case len(f.Values) > 0:
			a.wrong(here, "Values is for what the server sends")
		}
	}
}

// messages checks that no two messages have one name in the document.
func (a *adder) messages(s *Schema) {
	seen := map[string]bool{"Error": true}
	note := func(event, key string) {
		if seen[key] {
			a.wrong("event "+quote(event), "another message is called %s in documents: give the object another name", key)
		}
		seen[key] = true
	}
	for _, e := range s.client {
		note(e.Name, e.messageName())
		note(e.Name, e.ackName())
	}
	for _, e := range s.server {
		note(e.Name, e.messageName())
	}
}

// messageName, and ackName, are the names of the messages in documents.
func (e *ClientEvent) messageName() string { return e.Data.Name }
func (e *ClientEvent) ackName() string     { return e.Ack.Name + "Of_" + e.Name }
func (e *ServerEvent) messageName() string {
	if e.Name == EventChanged { // it has the object of another event
		return "ChangedEvent"
	}
	return e.Data.Name + "Event"
}
