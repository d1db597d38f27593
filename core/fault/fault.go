// Package fault says what kind of failure an error is.
//
// A caller branches on a [Kind], never on text or on a vendor's type:
//
//	if errors.Is(err, fault.NotFound) { … }
//
// Packages declare their own sentinels with [New] and refine them with
// [Error.Detail]; adapters translate their vendor's error once, where they call
// it. The edges (HTTP, WebSocket, Socket.IO) read kind, HTTP status and close
// code from the one table in this file, and show a client nothing but what
// [Public] returns.
package fault

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Kind classifies a failure by what the caller can do about it. A Kind is itself
// an error, so errors.Is(err, fault.NotFound) holds for every error of that kind,
// however deeply it is wrapped.
type Kind uint8

// The kinds of failure.
const (
	// Internal is the zero Kind: a failure nobody classified. The caller can do nothing.
	Internal Kind = iota
	// Invalid means that the request itself is wrong and will be refused every time.
	Invalid
	// Unauthenticated means that it is not known who asks, or no longer.
	Unauthenticated
	// Forbidden means that it is known who asks, and that they may not.
	Forbidden
	// NotFound means that the thing asked for does not exist.
	NotFound
	// Conflict means that the thing exists already, or changed meanwhile.
	Conflict
	// Gone means that the thing existed and is used up or expired.
	Gone
	// Exhausted means that a stated limit is reached; less, or later, will do.
	Exhausted
	// Unavailable means that a dependency does not answer; trying again may help.
	Unavailable
)

// table is the one place where kinds meet the outside.
var table = [...]struct {
	code   string // stable name: end of the problem type, code of a socket error
	title  string // the public text where the error brings none of its own
	status int    // HTTP, RFC 9110 section 15
	close  int    // WebSocket close code, private range of RFC 6455 section 7.4.2
}{
	Internal:        {"internal", "something went wrong on our side", 500, 1011},
	Invalid:         {"invalid", "the request is not valid", 422, 4400},
	Unauthenticated: {"unauthenticated", "authentication is required", 401, 4401},
	Forbidden:       {"forbidden", "this is not allowed", 403, 4403},
	NotFound:        {"not_found", "there is no such thing", 404, 4400},
	Conflict:        {"conflict", "it exists already or was changed meanwhile", 409, 4400},
	Gone:            {"gone", "it was used already or has expired", 410, 4400},
	Exhausted:       {"exhausted", "a limit is reached", 429, 4429},
	Unavailable:     {"unavailable", "a service that this needs does not answer", 503, 1013},
}

// Error returns the kind's code, so that a Kind can be used as a plain error.
func (k Kind) Error() string { return k.Code() }

// Code is the kind's stable name, for example "not_found".
func (k Kind) Code() string { return table[k.known()].code }

// Title is the kind's public sentence.
func (k Kind) Title() string { return table[k.known()].title }

// Status is the HTTP status that answers a failure of this kind.
func (k Kind) Status() int { return table[k.known()].status }

// CloseCode is the WebSocket close code for a connection that ends with a failure of this kind.
func (k Kind) CloseCode() int { return table[k.known()].close }

func (k Kind) known() Kind {
	if int(k) >= len(table) {
		return Internal
	}
	return k
}

// Kinds lists every kind, Internal first.
func Kinds() []Kind {
	all := make([]Kind, len(table))
	for i := range table {
		all[i] = Kind(i)
	}
	return all
}

// Error is a failure with a kind, a stable code and a text that a client may read.
// Its methods return copies; an Error is never changed after it was made.
type Error struct {
	kind       Kind
	code       string
	title      string
	detail     string
	retryAfter time.Duration
	from       *Error // the one this is a copy of
	cause      error
}

// New makes a sentinel. code is stable and lower_snake_case; title is one sentence
// without a full stop that a client may read.
func New(kind Kind, code, title string) *Error {
	return &Error{kind: kind, code: code, title: title}
}

// Detail returns a copy with a public explanation of this one occurrence.
// It still matches the error that it was made from.
func (e *Error) Detail(format string, args ...any) *Error {
	c := e.copy()
	c.detail = fmt.Sprintf(format, args...)
	return c
}

// RetryAfter returns a copy that says when trying again makes sense.
func (e *Error) RetryAfter(d time.Duration) *Error {
	c := e.copy()
	c.retryAfter = d
	return c
}

// Because returns a copy that wraps cause. The cause is for logs, never for clients.
func (e *Error) Because(cause error) *Error {
	c := e.copy()
	c.cause = cause
	return c
}

func (e *Error) copy() *Error {
	c := *e
	c.from = e
	return &c
}

// Error returns title, detail and cause, for logs.
func (e *Error) Error() string {
	s := e.title
	if e.detail != "" {
		s += ": " + e.detail
	}
	if e.cause != nil {
		s += ": " + e.cause.Error()
	}
	return s
}

// Is reports whether target is this error's kind or an error that it was made from.
func (e *Error) Is(target error) bool {
	if k, ok := target.(Kind); ok {
		return k == e.kind
	}
	for ; e != nil; e = e.from {
		if target == error(e) {
			return true
		}
	}
	return false
}

// Unwrap returns the cause, if there is one.
func (e *Error) Unwrap() error { return e.cause }

// Wrap classifies an adapter's error: errors.Is(Wrap(k, err), k) holds, and so does
// errors.Is(Wrap(k, err), err). Wrap of nil is nil.
func Wrap(kind Kind, err error) error {
	if err == nil {
		return nil
	}
	return &Error{kind: kind, code: kind.Code(), title: kind.Title(), cause: err}
}

// KindOf returns the kind of err. A deadline or a cancellation that nobody classified
// is Unavailable; anything else without a kind is Internal.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.kind
	}
	var k Kind
	if errors.As(err, &k) {
		return k.known()
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return Unavailable
	}
	return Internal
}

// Problem is what a client may know about a failure.
type Problem struct {
	Kind       Kind
	Code       string        // stable, lower_snake_case
	Title      string        // one sentence, the same for every occurrence of the code
	Detail     string        // this occurrence; may be empty
	RetryAfter time.Duration // zero when trying again later is no better
}

// Public returns what a client may know about err. Text that nobody wrote for
// clients, such as a database's message, is not in it.
func Public(err error) Problem {
	var e *Error
	if errors.As(err, &e) && e.kind != Internal {
		return Problem{Kind: e.kind, Code: e.code, Title: e.title, Detail: e.detail, RetryAfter: e.retryAfter}
	}
	k := KindOf(err)
	return Problem{Kind: k, Code: k.Code(), Title: k.Title()}
}
