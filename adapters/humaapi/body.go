package humaapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

const (
	mediaJSON = "application/json"
	mediaForm = "application/x-www-form-urlencoded"
)

// readBody returns the body of a request, if it has the media type and is not longer than allowed. A body without a media type is
// refused: a page of another origin may send one without asking (a simple request of the Fetch standard), but none of JSON.
func (a *API) readBody(ctx huma.Context, media string) ([]byte, error) {
	r, w := humago.Unwrap(ctx)
	if _, ok := r.Body.(*arrived); !ok { // the mux is served, and not the API
		_ = a.receive(w, r)
	}
	header := ctx.Header("Content-Type")
	if header != "" { // where there is none, a body is refused once it is known that there is one
		if err := checkMediaType(header, media); err != nil {
			return nil, err
		}
	}
	for _, coding := range r.Header.Values("Content-Encoding") {
		if !strings.EqualFold(coding, "identity") {
			ctx.SetHeader("Accept-Encoding", "identity") // RFC 7694 section 3
			return nil, errMediaType.Detail("send it without Content-Encoding")
		}
	}
	tooLarge := errTooLarge.Detail("it is longer than %d bytes", a.maxBody)
	if r.ContentLength > a.maxBody {
		return nil, tooLarge
	}
	var data []byte
	if body, ok := r.Body.(*arrived); ok && body.whole != nil {
		data = body.whole
	} else {
		var err error
		data, err = io.ReadAll(io.LimitReader(r.Body, a.maxBody+1))
		if int64(len(data)) > a.maxBody {
			return nil, tooLarge
		}
		if err != nil {
			return nil, bodyFailure(err)
		}
	}
	if len(data) > 0 && header == "" {
		return nil, checkMediaType(header, media)
	}
	return data, nil
}

// bodyFailure says why a body did not arrive.
func bodyFailure(err error) error {
	var limit *http.MaxBytesError
	if errors.As(err, &limit) { // of a handler in front
		return errTooLarge.Detail("it is longer than %d bytes", limit.Limit)
	}
	if isTimeout(err) {
		return errTimeout.Because(err)
	}
	return errMalformed.Detail("it ended too early").Because(err)
}

func checkMediaType(header, want string) error {
	media, params, err := mime.ParseMediaType(header)
	if charset, ok := params["charset"]; err != nil || media != want || (ok && !strings.EqualFold(charset, "utf-8")) {
		return errMediaType.Detail("send %s in UTF-8", want)
	}
	return nil
}

// requireJSON is middleware: it reads the body, refuses what is not JSON, and gives Huma the rest.
func (a *API) requireJSON(ctx huma.Context, next func(huma.Context)) {
	data, err := a.readBody(ctx, mediaJSON)
	if err == nil {
		err = checkJSON(data)
	}
	if err == nil {
		err = a.checkMembers(ctx.Operation(), data)
	}
	if err == nil {
		err = a.checkNulls(ctx.Operation(), data)
	}
	if err != nil {
		refuse(ctx, err)
		return
	}
	next(&readContext{humaContext: ctx, body: bytes.NewReader(data)})
}

// checkJSON refuses what encoding/json would refuse, and the text that it would change:
// invalid UTF-8 and lone surrogates become U+FFFD there. NUL is refused since not every
// store can keep it.
func checkJSON(data []byte) error {
	if len(bytes.TrimSpace(data)) == 0 {
		return errMalformed.Detail("it is empty; JSON is required")
	}
	if !utf8.Valid(data) {
		return errMalformed.Detail("it is not UTF-8")
	}
	var whole json.RawMessage
	if err := json.Unmarshal(data, &whole); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return errMalformed.Detail("it is not JSON: wrong at byte %d", syntax.Offset).Because(err)
		}
		return errMalformed.Detail("it is not JSON").Because(err)
	}
	return checkEscapes(data)
}

// checkMembers refuses a member that stands twice in an object, of which parsers take the first or the last (RFC 8259 section 4), and
// one that is a property in another letter case, which encoding/json and Huma would take for it. What is inside an object that
// the schema leaves to applications is theirs.
func (a *API) checkMembers(op *huma.Operation, data []byte) error {
	if op.RequestBody == nil || op.RequestBody.Content[mediaJSON] == nil {
		return nil
	}
	tokens := json.NewDecoder(bytes.NewReader(data))
	tokens.UseNumber()
	at, what, err := a.wrongMember(tokens, op.RequestBody.Content[mediaJSON].Schema, "body")
	if err != nil {
		return errMalformed.Because(err)
	}
	if at != "" {
		return invalidAt(place(at), what)
	}
	return nil
}

// wrongMember reads the next value, and returns the first place below at where a member is wrong, and what is.
func (a *API) wrongMember(tokens *json.Decoder, s *huma.Schema, at string) (where, what string, err error) {
	s = a.resolved(s)
	token, err := tokens.Token()
	if err != nil {
		return "", "", err
	}
	switch token {
	case json.Delim('['):
		for i := 0; tokens.More(); i++ {
			var items *huma.Schema
			if s != nil {
				items = s.Items
			}
			if where, what, err = a.wrongMember(tokens, items, at+"["+strconv.Itoa(i)+"]"); where != "" || err != nil {
				return where, what, err
			}
		}
	case json.Delim('{'):
		seen := map[string]bool{}
		for tokens.More() {
			token, err := tokens.Token()
			if err != nil {
				return "", "", err
			}
			name, _ := token.(string)
			below, ours := propertyOf(s, name)
			switch {
			case ours && seen[name]:
				return at + "." + name, "it stands twice", nil
			case ours && below == nil:
				for known := range s.Properties {
					if strings.EqualFold(known, name) {
						return at + "." + known, "it is written in another letter case", nil
					}
				}
			}
			seen[name] = true
			if where, what, err = a.wrongMember(tokens, below, at+"."+name); where != "" || err != nil {
				return where, what, err
			}
		}
	default:
		return "", "", nil
	}
	_, err = tokens.Token() // the closing bracket
	return "", "", err
}

// propertyOf returns the schema of a member of the object that s describes, nil if it has none, and whether s says what members there are.
func propertyOf(s *huma.Schema, name string) (below *huma.Schema, ours bool) {
	if s == nil {
		return nil, false
	}
	every, _ := s.AdditionalProperties.(*huma.Schema)
	if below = s.Properties[name]; below == nil {
		below = every
	}
	return below, every != nil || len(s.Properties) > 0
}

// resolved follows a reference into the components of the document.
func (a *API) resolved(s *huma.Schema) *huma.Schema {
	if s != nil && s.Ref != "" {
		return a.OpenAPI().Components.Schemas.SchemaFromRef(s.Ref)
	}
	return s
}

// checkNulls refuses null where the operation's schema does not know it. Huma takes it for a property
// that is missing.
func (a *API) checkNulls(op *huma.Operation, data []byte) error {
	if op.RequestBody == nil || op.RequestBody.Content[mediaJSON] == nil || !bytes.Contains(data, []byte("null")) {
		return nil
	}
	var whole any
	if err := json.Unmarshal(data, &whole); err != nil {
		return errMalformed.Because(err)
	}
	if at := a.nullAt(op.RequestBody.Content[mediaJSON].Schema, whole, "body"); at != "" {
		return invalidAt(place(at), "null is no value here")
	}
	return nil
}

// nullAt returns the first place below at where v has null against its schema.
func (a *API) nullAt(s *huma.Schema, v any, at string) string {
	s = a.resolved(s)
	if s == nil || s.Type == "" { // anything
		return ""
	}
	switch v := v.(type) {
	case nil:
		if !s.Nullable {
			return at
		}
	case []any:
		for i, item := range v {
			if found := a.nullAt(s.Items, item, at+"["+strconv.Itoa(i)+"]"); found != "" {
				return found
			}
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			below, _ := propertyOf(s, name)
			if found := a.nullAt(below, v[name], at+"."+name); found != "" {
				return found
			}
		}
	}
	return ""
}

// requireQuery is middleware: it refuses a parameter that is given twice, and one without a value that
// its schema does not allow. Huma takes the first, and takes an empty one for one that is missing.
func requireQuery(ctx huma.Context, next func(huma.Context)) {
	u := ctx.URL()
	query := u.Query()
	for _, p := range ctx.Operation().Parameters {
		if p.In != "query" || p.Schema == nil || p.Schema.Type == huma.TypeArray {
			continue
		}
		values := query[p.Name]
		switch {
		case len(values) > 1:
			refuse(ctx, invalidAt("query."+p.Name, "it is given more than once"))
			return
		case len(values) == 1 && values[0] == "" && (p.Schema.Type != huma.TypeString || len(p.Schema.Enum) > 0):
			refuse(ctx, invalidAt("query."+p.Name, "a value is needed"))
			return
		}
	}
	next(ctx)
}

// checkEscapes walks the escapes in valid JSON; backslashes stand nowhere but in its strings.
func checkEscapes(data []byte) error {
	for i := 0; i < len(data); i++ {
		if data[i] != '\\' {
			continue
		}
		i++
		if data[i] != 'u' {
			continue
		}
		unit := escaped(data[i+1:])
		i += 4
		switch {
		case unit == 0:
			return invalidAt("body", "a text has the character NUL")
		case unit >= 0xDC00 && unit < 0xE000:
			return errMalformed.Detail("a text has half of a surrogate pair")
		case unit >= 0xD800 && unit < 0xDC00:
			rest, ok := bytes.CutPrefix(data[i+1:], []byte(`\u`))
			if low := escaped(rest); !ok || low < 0xDC00 || low >= 0xE000 {
				return errMalformed.Detail("a text has half of a surrogate pair")
			}
			i += 6
		}
	}
	return nil
}

// escaped reads the four hexadecimal digits of a \u escape; without them it is nothing (U+FFFD).
func escaped(digits []byte) uint64 {
	if len(digits) < 4 {
		return utf8.RuneError
	}
	unit, err := strconv.ParseUint(string(digits[:4]), 16, 16)
	if err != nil {
		return utf8.RuneError
	}
	return unit
}

// humaContext is the interface by a name that does not hide its method Context where it is embedded.
type humaContext = huma.Context

// readContext is a context whose body was read and checked already.
type readContext struct {
	humaContext
	body io.Reader
}

func (c *readContext) BodyReader() io.Reader           { return c.body }
func (c *readContext) SetReadDeadline(time.Time) error { return nil }

func (c *readContext) Header(name string) string {
	if strings.EqualFold(name, "Content-Type") {
		return mediaJSON // checked; Huma compares it with case
	}
	return c.humaContext.Header(name)
}
