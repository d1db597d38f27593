package humaapi

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/danielgtaylor/huma/v2"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/problem"
	"github.com/parley-chat/parley/core/user"
)

// What HTTP itself refuses. Their statuses stand in [statusOf].
var (
	errMalformed = fault.New(fault.Invalid, "malformed", "the request body cannot be read")
	errURL       = fault.New(fault.Invalid, "malformed_url", "the address cannot be read")
	errMethod    = fault.New(fault.Invalid, "method_not_allowed", "the method is not allowed here")
	errTimeout   = fault.New(fault.Invalid, "request_timeout", "the request body did not arrive in time")
	errTooLarge  = fault.New(fault.Invalid, "too_large", "the request body is too large")
	errMediaType = fault.New(fault.Invalid, "unsupported_media_type", "the media type of the request body is not supported")
)

// Bounds of what a problem says about a request that is wrong in many places.
const (
	maxLocations = 20
	maxLocation  = 100 // bytes
)

// statusOf is the kind's status, except where HTTP has a more exact one and where the fixed
// interface asks for another.
func statusOf(p fault.Problem) int {
	switch p.Code {
	case "malformed", "malformed_url", "code_unknown", "challenge_unknown":
		return http.StatusBadRequest
	case "method_not_allowed":
		return http.StatusMethodNotAllowed
	case "request_timeout":
		return http.StatusRequestTimeout
	case "too_large":
		return http.StatusRequestEntityTooLarge
	case "unsupported_media_type":
		return http.StatusUnsupportedMediaType
	}
	return p.Kind.Status()
}

// placeOf says which property of the body an error of core is about.
func placeOf(err error) string {
	switch {
	case errors.Is(err, user.ErrEmailInvalid), errors.Is(err, user.ErrEmailTaken), errors.Is(err, auth.ErrEmailSame):
		return "body.email"
	case errors.Is(err, user.ErrLanguageInvalid):
		return "body.language"
	case errors.Is(err, user.ErrAvatarURLInvalid):
		return "body.avatarUrl"
	case errors.Is(err, user.ErrFullNameInvalid):
		return "body.fullName"
	case errors.Is(err, auth.ErrPasswordInvalid):
		return "body.password"
	case errors.Is(err, auth.ErrCodeUnknown), errors.Is(err, auth.ErrCodeGone):
		return "body.code"
	case errors.Is(err, auth.ErrChallengeUnknown), errors.Is(err, auth.ErrChallengeGone):
		return "body.challenge"
	case errors.Is(err, chat.ErrRoomInvalid):
		return "path.room"
	case errors.Is(err, chat.ErrReactionInvalid):
		return "path.key"
	case errors.Is(err, chat.ErrTextInvalid):
		return "body.text"
	case errors.Is(err, chat.ErrClientIDInvalid):
		return "body.clientId"
	case errors.Is(err, chat.ErrReplyToInvalid):
		return "body.replyTo"
	case errors.Is(err, chat.ErrDataInvalid):
		return "body.data"
	case errors.Is(err, chat.ErrTitleInvalid):
		return "body.title"
	case errors.Is(err, chat.ErrTopicInvalid):
		return "body.topic"
	case errors.Is(err, chat.ErrKindInvalid):
		return "body.kind"
	case errors.Is(err, chat.ErrRetentionInvalid):
		return "body.retention"
	case errors.Is(err, auth.ErrPrefixInvalid):
		return "query.query"
	case errors.Is(err, chat.ErrRoleInvalid), errors.Is(err, user.ErrRoleUnknown):
		return "body.role"
	case errors.Is(err, chat.ErrDirectInvalid), errors.Is(err, chat.ErrBlockInvalid):
		return "path.userId"
	case errors.Is(err, chat.ErrAuthorInvalid):
		return "body.as"
	}
	return ""
}

// failure is an error on its way through Huma, which asks an error for status, headers and
// content type, and marshals it as the body.
type failure struct {
	problem.Document
	retryAfter string
	cause      error // for the log
}

var (
	_ huma.StatusError       = (*failure)(nil)
	_ huma.HeadersError      = (*failure)(nil)
	_ huma.ContentTypeFilter = (*failure)(nil)
)

func (p *failure) Error() string             { return p.cause.Error() }
func (p *failure) Unwrap() error             { return p.cause }
func (p *failure) GetStatus() int            { return p.Status }
func (p *failure) ContentType(string) string { return problem.ContentType }

func (p *failure) GetHeaders() http.Header {
	h := http.Header{}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
	if p.retryAfter != "" {
		h.Set("Retry-After", p.retryAfter)
	}
	return h
}

// Problem returns err as an error that Huma answers with its problem document, for handlers
// of your own. What a client reads is what [fault.Public] tells of err. Problem of nil is nil.
func Problem(err error) error {
	if err == nil {
		return nil
	}
	return document(err)
}

// document makes the problem of err.
func document(err error) *failure {
	var made *failure
	if errors.As(err, &made) {
		return made
	}
	public := fault.Public(err)
	p := &failure{Document: problem.Of(public), retryAfter: problem.RetryAfter(public), cause: err}
	p.Status = statusOf(public)
	if place := placeOf(err); place != "" {
		p.Errors = []problem.Location{{Location: place, Message: cmp.Or(public.Detail, public.Title)}}
	}
	if asked, ok := errors.AsType[*auth.FactorRequired](err); ok {
		p.Challenge, p.ExpiresIn = asked.Challenge, seconds(asked.ExpiresIn)
	}
	return p
}

// invalidAt is the problem of one wrong place.
func invalidAt(place, message string) *failure {
	p := document(fault.Invalid)
	p.Errors = []problem.Location{{Location: place, Message: message}}
	return p
}

// transform sees every body that Huma writes. It logs failures, and turns what Huma itself
// found wrong into a problem document: Huma repeats submitted values in its own, and they may
// be passwords.
func (a *API) transform(ctx huma.Context, _ string, v any) (any, error) {
	switch v := v.(type) {
	case *failure:
		a.note(ctx.Context(), ctx.Operation().OperationID, v.cause)
	case *huma.ErrorModel:
		p := ofModel(v)
		if v.Status >= http.StatusInternalServerError {
			a.note(ctx.Context(), ctx.Operation().OperationID, modelError(v))
		}
		return p, nil
	}
	return v, nil
}

// modelError is what a handler returned that Huma made a model of.
func modelError(m *huma.ErrorModel) error {
	errs := []error{errors.New(m.Detail)}
	for _, e := range m.Errors {
		if e != nil {
			errs = append(errs, errors.New(e.Message))
		}
	}
	return errors.Join(errs...)
}

func ofModel(m *huma.ErrorModel) *failure {
	p := ofStatus(m.Status)
	if m.Status >= http.StatusInternalServerError {
		return p // the text is an error's that nobody wrote for clients
	}
	if m.Detail != "validation failed" {
		p.Detail = m.Detail
	}
	for _, e := range m.Errors {
		if e != nil {
			p.Errors = append(p.Errors, problem.Location{Location: place(e.Location), Message: reason(e.Message)})
		}
	}
	slices.SortStableFunc(p.Errors, func(a, b problem.Location) int { return cmp.Compare(a.Location, b.Location) })
	if more := len(p.Errors) - maxLocations; more > 0 {
		p.Errors = append(p.Errors[:maxLocations], problem.Location{Message: strconv.Itoa(more) + " more places are wrong"})
	}
	return p
}

// ofStatus is the problem for a status that came without an error of ours.
func ofStatus(status int) *failure {
	for _, err := range []error{errMalformed, errMethod, errTimeout, errTooLarge, errMediaType} {
		if p := document(err); p.Status == status {
			return p
		}
	}
	for _, kind := range fault.Kinds() {
		if kind.Status() == status {
			return document(kind)
		}
	}
	p := document(fault.Internal)
	if status < http.StatusInternalServerError {
		p = document(fault.Invalid)
	}
	p.Status = status
	return p
}

// place bounds a location: the names of unknown properties are the client's.
func place(location string) string {
	location = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, location)
	if len(location) > maxLocation {
		return strings.ToValidUTF8(location[:maxLocation], "") + "…"
	}
	return location
}

// reason cuts off the parser's own words, which may repeat the value: Huma puts them after a colon.
func reason(message string) string {
	if strings.HasPrefix(message, "expected ") {
		message, _, _ = strings.Cut(message, ": ")
	}
	return message
}

// refuse answers with the problem of err, for middleware.
func refuse(ctx huma.Context, err error) {
	p := document(err)
	for name, values := range p.GetHeaders() {
		ctx.SetHeader(name, values[0])
	}
	ctx.SetHeader("Content-Type", problem.ContentType)
	ctx.SetStatus(p.Status)
	_ = json.NewEncoder(ctx.BodyWriter()).Encode(p) // the client may be gone
}

// writeDocument answers with p outside Huma.
func writeDocument(w http.ResponseWriter, p *failure) {
	w.Header().Set("Content-Type", problem.ContentType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client may be gone
}
