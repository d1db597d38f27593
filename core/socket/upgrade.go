package socket

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/problem"
)

// startTimeout is how long a request waits for a transport that is about to run.
const startTimeout = 5 * time.Second

var (
	errNotRunning = fault.New(fault.Unavailable, "not_running", "the socket does not serve now")
	errBody       = fault.New(fault.Invalid, "websocket_body", "a WebSocket handshake has no body")
	errKey        = fault.New(fault.Invalid, "websocket_key", "Sec-WebSocket-Key is not 16 bytes in base64")
)

// UpgradeOptions say how a connection is to be that a transport opens for somebody else's protocol.
type UpgradeOptions struct {
	// MaxMessage is the longest message that the client may send, in bytes. Default: that of the transport.
	MaxMessage int
	// TooLarge is the code with which a longer message ends the connection. Default [CloseTooLarge].
	TooLarge int
	// Unwatched says that the protocol itself finds out whether the client is there: the transport neither
	// pings it nor cuts it for its silence.
	Unwatched bool
}

// Admit decides about a request that should become a WebSocket (RFC 6455 section 4.2.1), for
// a transport on net/http. ready is closed when the transport runs; Admit waits for it a few
// seconds. When it returns false it has answered by a problem document: 426 to what is no
// handshake, before any ticket is spent, or what [Handshake.Check] refuses.
func (h *Handshake) Admit(w http.ResponseWriter, r *http.Request, ready <-chan struct{}) (Hello, bool) {
	if !AdmitUpgrade(w, r, ready) {
		return Hello{}, false
	}
	hello, err := h.Check(r)
	if err != nil {
		problem.Write(w, err)
		return Hello{}, false
	}
	return hello, true
}

// AdmitUpgrade is [Handshake.Admit] without the handshake: it decides whether a request can become a
// WebSocket, not who may. When it returns false it has answered.
func AdmitUpgrade(w http.ResponseWriter, r *http.Request, ready <-chan struct{}) bool {
	if r.ContentLength != 0 {
		w.Header().Set("Connection", "close")
		// What else answers must not wait for a body that may never come.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(startTimeout))
	}
	if !AsksForWebSocket(r) {
		writeUpgradeRequired(w)
		return false
	}
	if nonce, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-WebSocket-Key")); err != nil || len(nonce) != 16 {
		problem.Write(w, errKey)
		return false
	}
	if r.ContentLength != 0 {
		problem.Write(w, errBody)
		return false
	}
	late, cancel := context.WithTimeout(r.Context(), startTimeout)
	defer cancel()
	select {
	case <-ready:
	case <-late.Done():
		problem.Write(w, errNotRunning)
		return false
	}
	return true
}

// AsksForWebSocket reports whether r is a handshake of WebSocket version 13.
func AsksForWebSocket(r *http.Request) bool {
	return r.Method == http.MethodGet && r.ProtoMajor == 1 && r.ProtoMinor >= 1 &&
		hasToken(r.Header, "Connection", "upgrade") && hasToken(r.Header, "Upgrade", "websocket") &&
		r.Header.Get("Sec-WebSocket-Version") == "13"
}

func hasToken(h http.Header, name, token string) bool {
	for _, line := range h.Values(name) {
		for t := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// writeUpgradeRequired answers 426 (RFC 9110 section 15.5.22), which no kind of fault stands for.
func writeUpgradeRequired(w http.ResponseWriter) {
	h := w.Header()
	h.Add("Connection", "Upgrade") // beside close, if that is to be
	h.Set("Upgrade", "websocket")
	h.Set("Sec-WebSocket-Version", "13")
	h.Set("Content-Type", problem.ContentType)
	problem.Secure(h)
	w.WriteHeader(http.StatusUpgradeRequired)
	_ = json.NewEncoder(w).Encode(problem.Document{ // the client may be gone
		Type: problem.Type("upgrade_required"), Title: "this address speaks WebSocket only",
		Status: http.StatusUpgradeRequired, Code: "upgrade_required",
	})
}

// Refusal is the close code and reason for a connection that an [Acceptor] refused with err.
func Refusal(err error) (code int, reason string) {
	if errors.Is(err, ErrDraining) {
		return CloseServiceRestart, ErrDraining.Error()
	}
	return fault.KindOf(err).CloseCode(), fault.Public(err).Title
}

// MaySend reports whether code may stand in a close frame (RFC 6455 section 7.4, and the
// registry of that section).
func MaySend(code int) bool {
	return code >= 1000 && code <= 1003 || code >= 1007 && code <= 1014 || code >= 3000 && code <= 4999
}

// CloseReason returns reason as a close frame can hold it: UTF-8, at most 123 bytes, cut between
// characters (RFC 6455 section 5.5).
func CloseReason(reason string) string {
	reason = strings.ToValidUTF8(reason, "\uFFFD")
	most := 123
	if len(reason) <= most {
		return reason
	}
	for !utf8.RuneStart(reason[most]) {
		most--
	}
	return reason[:most]
}
