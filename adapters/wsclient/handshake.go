package wsclient

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"
)

// HandshakeError is the answer of a server that refuses a handshake.
type HandshakeError struct {
	Status int
	// Code is that of the server's problem document; empty if something else has answered.
	Code string
	// RetryAfter is how long the server asks to wait.
	RetryAfter time.Duration
	Body       string // its beginning
}

// Error names status and body.
func (e *HandshakeError) Error() string {
	return fmt.Sprintf("wsclient: the handshake was refused with status %d: %s", e.Status, e.Body)
}

// refused makes the error of a response, and closes its body.
func refused(res *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(res.Body, 4<<10)) // what there is of it
	_ = res.Body.Close()
	return &HandshakeError{Status: res.StatusCode, Code: problemCode(res.Header, body), RetryAfter: retryAfter(res.Header), Body: string(body)}
}

// problemCode returns the code of a problem document of the server (RFC 9457), or "".
func problemCode(h http.Header, body []byte) string {
	var p struct{ Type, Code string }
	if mediaType(h) != "application/problem+json" || json.Unmarshal(body, &p) != nil || p.Type != "/problems/"+p.Code {
		return ""
	}
	return p.Code
}

// retryAfter returns how long an answer asks to wait (RFC 9110 section 10.2.3).
func retryAfter(h http.Header) time.Duration {
	text := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(text); err == nil {
		return max(0, time.Duration(min(seconds, 86_400))*time.Second)
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	// A date is by the server's clock.
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	return max(0, at.Sub(now))
}

func mediaType(h http.Header) string {
	t, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return t
}
