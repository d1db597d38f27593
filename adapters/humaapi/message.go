package humaapi

import (
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/protocol"
)

// chatMessage is a message as the socket tells it, byte for byte.
type chatMessage struct{ chat.Message }

// MarshalJSON writes what the socket writes.
func (m chatMessage) MarshalJSON() ([]byte, error) {
	return protocol.AppendData(nil, messageObject, protocol.MessageData(m.Message)), nil
}

// Schema is that of the socket's event.
func (chatMessage) Schema(r huma.Registry) *huma.Schema { return schemaOf(r, messageObject) }

// lastMessage is a message, or null if it was not stored.
type lastMessage struct{ chat.Message }

// MarshalJSON writes what the socket writes.
func (m lastMessage) MarshalJSON() ([]byte, error) {
	if m.Seq == 0 {
		return []byte("null"), nil
	}
	return chatMessage(m).MarshalJSON()
}

// Schema is that of the socket's event, or null.
func (lastMessage) Schema(r huma.Registry) *huma.Schema {
	return &huma.Schema{AnyOf: []*huma.Schema{schemaOf(r, messageObject), {Type: "null"}}}
}

// sentMessage is where a message has its place, as the socket answers it.
type sentMessage struct{ chat.Message }

// MarshalJSON writes what the socket writes.
func (m sentMessage) MarshalJSON() ([]byte, error) {
	d := protocol.Data{"room": m.Room, "seq": m.Seq, "id": m.ID, "at": m.At}
	return protocol.AppendData(nil, sentObject, d), nil
}

// Schema is that of the socket's answer.
func (sentMessage) Schema(r huma.Registry) *huma.Schema { return schemaOf(r, sentObject) }

// attached is an application's JSON object, as text. It stays byte for byte.
type attached []byte

// UnmarshalJSON takes the text as it is.
func (a *attached) UnmarshalJSON(text []byte) error {
	*a = slices.Clone(text)
	return nil
}

// Schema allows any object.
func (attached) Schema(huma.Registry) *huma.Schema {
	i := slices.IndexFunc(messageObject.Fields, func(f protocol.Field) bool { return f.Name == "data" })
	return &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true, Description: messageObject.Fields[i].Doc}
}

// optionalSeq is a number in a query that may be left out.
type optionalSeq struct {
	Value uint64
	set   bool
}

// Schema is that of the number.
func (optionalSeq) Schema(r huma.Registry) *huma.Schema {
	return huma.SchemaFromType(r, reflect.TypeFor[uint64]())
}

// Receiver is where Huma puts the number.
func (o *optionalSeq) Receiver() reflect.Value { return reflect.ValueOf(o).Elem().Field(0) }

// OnParamSet is told whether there is one.
func (o *optionalSeq) OnParamSet(set bool, _ any) { o.set = set }

// schemaOf puts an object of the socket's protocol among the schemas, and refers to it.
func schemaOf(r huma.Registry, o *protocol.Object) *huma.Schema {
	if all := r.Map(); all[o.Name] == nil {
		s := &huma.Schema{Type: huma.TypeObject, Description: o.Doc, AdditionalProperties: false, Properties: map[string]*huma.Schema{}}
		all[o.Name] = s
		for i := range o.Fields {
			f := &o.Fields[i]
			if f.Required {
				s.Required = append(s.Required, f.Name)
			}
			s.Properties[f.Name] = fieldSchema(r, f)
		}
	}
	return &huma.Schema{Ref: "#/components/schemas/" + o.Name}
}

func fieldSchema(r huma.Registry, f *protocol.Field) *huma.Schema {
	s := &huma.Schema{Description: f.Doc}
	switch f.Type {
	case protocol.String:
		s.Type, s.Nullable, s.Pattern = huma.TypeString, f.Null, f.Pattern
		if f.MinLength > 0 {
			s.MinLength = &f.MinLength
		}
		if f.MaxLength > 0 {
			s.MaxLength = &f.MaxLength
		}
	case protocol.Integer:
		least, most := float64(f.Minimum), float64(protocol.MaxInteger)
		if f.Maximum > 0 {
			most = float64(f.Maximum)
		}
		s.Type, s.Format, s.Minimum, s.Maximum = huma.TypeInteger, "int64", &least, &most
	case protocol.Boolean:
		s.Type = huma.TypeBoolean
	case protocol.Time:
		s.Type, s.Format = huma.TypeString, "date-time"
	case protocol.Free:
		s.Type, s.AdditionalProperties = huma.TypeObject, true
	case protocol.Texts:
		s.Type, s.Items = huma.TypeArray, &huma.Schema{Type: huma.TypeString}
	case protocol.Ref:
		s = schemaOf(r, f.Object)
	case protocol.ListOf:
		s.Type, s.Items = huma.TypeArray, schemaOf(r, f.Object)
	}
	return s
}

// slashes lets the parameters of an operation that is registered be a slash alone, which the mux takes for the end of a path and not for
// a parameter, although it stands there as %2F.
func (a *API) slashes(method, path string) {
	var names []string
	for _, name := range []string{"room", "key", "userId"} {
		if strings.Contains(path, "{"+name+"}") {
			names = append(names, name)
		}
	}
	for set := 1; set < 1<<len(names); set++ {
		alias, slash := path, []string(nil)
		for i, name := range names {
			if set&(1<<i) != 0 {
				alias, slash = strings.Replace(alias, "{"+name+"}", "%2F", 1), append(slash, name)
			}
		}
		if a.aliases == nil {
			a.aliases = map[string]string{}
		}
		a.aliases[alias] = path
		operation := a.handlerOf(method, path)
		a.mux.HandleFunc(method+" "+alias, func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.EscapedPath(), "/") { // to the mux, the end of the path looks alike
				for name, value := range securityHeaders() {
					w.Header().Set(name, value)
				}
				writeDocument(w, document(fault.NotFound))
				return
			}
			for _, name := range slash {
				r.SetPathValue(name, "/")
			}
			operation().ServeHTTP(w, r)
		})
	}
}

// handlerOf returns what the mux has for an operation, which may be registered later.
func (a *API) handlerOf(method, path string) func() http.Handler {
	return sync.OnceValue(func() http.Handler {
		_, h, _ := a.find(&http.Request{Method: method, URL: &url.URL{Path: strings.NewReplacer("{", "", "}", "").Replace(path)}})
		return h
	})
}

// word is the last part of a path where elsewhere a parameter stands.
type word struct {
	text, parameter string
	operation       func() http.Handler // the one with the parameter
}

// wordFor lets a parameter of an operation be the word at whose place it stands, if a client has encoded a letter of it, such as /rooms/%6Dine.
func (a *API) wordFor(method, path, parameter string) {
	at := strings.LastIndex(path, "/")
	if a.words == nil {
		a.words = map[string]word{}
	}
	a.words[method+" "+path] = word{path[at+1:], parameter, a.handlerOf(method, path[:at]+"/{"+parameter+"}")}
}
