package humaapi

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/parley-chat/parley/core/audit"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/problem"
)

// The names of the security schemes in the OpenAPI document.
const (
	schemeBearer = "bearer"
	schemeAdmin  = "admin"
)

// What every operation can answer; what one besides that asks a store; and one with a JSON body.
func everyFailure() []error { return []error{errURL, fault.Internal} }

func storeFailures(more ...error) []error { return append(more, fault.Exhausted, fault.Unavailable) }

func bodyFailures() []error {
	return []error{errMalformed, errTimeout, errTooLarge, errMediaType, fault.Invalid}
}

// register puts an operation onto the API. failures are the errors that its handler and its
// middleware may return, beside those of every operation; the document is made from them.
func register[I, O any](a *API, op huma.Operation, failures []error, handle func(context.Context, *I) (*O, error)) {
	failures = append(everyFailure(), failures...)
	input := reflect.TypeFor[I]()
	if _, ok := input.FieldByName("Body"); ok {
		failures = append(failures, bodyFailures()...)
		op.Middlewares = append(op.Middlewares, a.requireJSON)
	} else if input.NumField() > 0 {
		failures = append(failures, fault.Invalid)
		op.RejectUnknownQueryParameters = true
		op.Middlewares = append(op.Middlewares, requireQuery)
	}
	if a.recorded(&op) {
		op.Middlewares = append(op.Middlewares, a.record)
	}
	op.MaxBodyBytes, op.BodyReadTimeout = -1, -1 // requireJSON bounds both
	a.describe(&op, failures)
	huma.Register(a, op, func(ctx context.Context, in *I) (*O, error) {
		ctx, cancel := context.WithTimeout(ctx, a.timeout)
		defer cancel()
		out, err := handle(ctx, in)
		return out, Problem(err)
	})
}

// serve puts an operation onto the API that answers by itself, with something other than JSON.
// Failures that are told as such are problems; the caller describes its own answers.
func (a *API) serve(op huma.Operation, failures []error, handle func(huma.Context)) {
	a.describe(&op, append(everyFailure(), failures...))
	bounded := func(c huma.Context) {
		ctx, cancel := context.WithTimeout(c.Context(), a.bodyTimeout+a.timeout)
		defer cancel()
		handle(huma.WithContext(c, ctx))
	}
	a.Adapter().Handle(&op, a.Middlewares().Handler(op.Middlewares.Handler(bounded)))
	a.OpenAPI().AddOperation(&op)
}

// note logs what a client is not told.
func (a *API) note(ctx context.Context, operation string, err error) {
	kind := fault.KindOf(err)
	if (kind == fault.Internal || kind == fault.Unavailable) && ctx.Err() == nil {
		a.log.ErrorContext(ctx, "request failed", "operation", operation, "error", err)
	}
}

// describe writes the answers to failures into the document, one a status, with an example
// for each code.
func (a *API) describe(op *huma.Operation, failures []error) {
	if op.Responses == nil {
		op.Responses = map[string]*huma.Response{}
	}
	schema := a.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[problem.Document](), true, "")
	if a.recorded(op) {
		failures = append(failures, audit.ErrUnrecorded)
	}
	byStatus := map[int]map[string]problem.Document{}
	for _, err := range failures {
		p := document(err)
		if byStatus[p.Status] == nil {
			byStatus[p.Status] = map[string]problem.Document{}
		}
		byStatus[p.Status][p.Code] = p.Document
	}
	for status, documents := range byStatus {
		key := strconv.Itoa(status)
		if op.Responses[key] == nil {
			op.Responses[key] = &huma.Response{}
		}
		response := op.Responses[key]
		examples := map[string]*huma.Example{}
		var titles []string
		for _, code := range slices.Sorted(maps.Keys(documents)) {
			examples[code] = &huma.Example{Value: documents[code]}
			titles = append(titles, code+": "+documents[code].Title)
		}
		response.Description = cmp.Or(response.Description, strings.Join(titles, "; ")+".")
		if response.Content == nil {
			response.Content = map[string]*huma.MediaType{}
		}
		response.Content[problem.ContentType] = &huma.MediaType{Schema: schema, Examples: examples}
		response.Headers = failureHeaders(status)
	}
}

func failureHeaders(status int) map[string]*huma.Param {
	switch status {
	case http.StatusUnauthorized:
		return map[string]*huma.Param{"WWW-Authenticate": {
			Description: "The scheme to authenticate with.", Schema: &huma.Schema{Type: huma.TypeString},
		}}
	case http.StatusTooManyRequests:
		return map[string]*huma.Param{"Retry-After": {
			Description: "Seconds to wait before trying again.", Schema: &huma.Schema{Type: huma.TypeInteger},
		}}
	}
	return nil
}

// scheme declares how to authenticate.
func (a *API) scheme(name, description, format string) {
	a.OpenAPI().Components.SecuritySchemes[name] = &huma.SecurityScheme{
		Type: "http", Scheme: "bearer", BearerFormat: format, Description: description,
	}
}

// tag declares a group of operations, once.
func (a *API) tag(name, description string) {
	tags := &a.OpenAPI().Tags
	if !slices.ContainsFunc(*tags, func(t *huma.Tag) bool { return t.Name == name }) {
		*tags = append(*tags, &huma.Tag{Name: name, Description: description})
	}
}

func answers(status int, description string) map[string]*huma.Response {
	return map[string]*huma.Response{strconv.Itoa(status): {Description: description}}
}

// message is the answer of a call that has nothing to return but good news.
type message struct {
	Message string `json:"message" doc:"A sentence for people."`
}

type messageOutput struct{ Body message }

func said(text string) *messageOutput { return &messageOutput{Body: message{Message: text}} }

type noInput struct{}

type noOutput struct{}
