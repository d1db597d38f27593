package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/problem"
	"github.com/parley-chat/parley/core/socket"
)

// Person is somebody whom a visitor may continue as.
type Person struct {
	// As names the person to POST /dev/continue.
	As string
	// Name is what the page calls the person.
	Name string
}

// maxContinue is the longest body of POST /dev/continue in bytes.
const maxContinue = 1 << 10

// What POST /dev/continue refuses. The codes are those of the REST interface.
var (
	errMediaType = fault.New(fault.Invalid, "unsupported_media_type", "the media type of the request body is not supported")
	errTooLarge  = fault.New(fault.Invalid, "too_large", "the request body is too large")
	errMalformed = fault.New(fault.Invalid, "malformed", "the request body cannot be read")
	errNobody    = fault.New(fault.Invalid, "invalid", "the request is not valid")
)

// registerContinue adds POST /dev/continue to mux. It gives away tokens without a password: so it is for whom the
// mailbox is for, and besides for no page of another origin. Such a page cannot send JSON without asking first, and is not
// answered; whether it could all the same, Origin and Sec-Fetch-Site tell.
func registerContinue(mux *http.ServeMux, cfg Config) {
	mux.HandleFunc("POST /dev/continue", func(w http.ResponseWriter, r *http.Request) {
		if cfg.MailboxFor != nil {
			if err := cfg.MailboxFor(r); err != nil {
				problem.Write(w, err)
				return
			}
		}
		site := r.Header.Get("Sec-Fetch-Site")
		if !cfg.Own.AllowsRequest(r) || site != "" && site != "same-origin" {
			problem.Write(w, socket.ErrOrigin)
			return
		}
		as, status, err := readContinue(w, r)
		if err == nil && !slices.ContainsFunc(cfg.People, func(p Person) bool { return p.As == as }) {
			status, err = http.StatusUnprocessableEntity, errNobody.Detail("as names nobody to continue as")
		}
		if err != nil {
			refuse(w, status, err)
			return
		}
		answer, err := cfg.Continue(r, as)
		if err != nil {
			problem.Write(w, err)
			return
		}
		body, err := json.Marshal(answer)
		if err != nil {
			problem.Write(w, err)
			return
		}
		write(w, filePolicy, "application/json", body)
	})
}

// readContinue returns whom a request wants to continue as, or the status that refuses it.
func readContinue(w http.ResponseWriter, r *http.Request) (as string, status int, err error) {
	media, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if charset, ok := params["charset"]; err != nil || media != "application/json" || ok && !strings.EqualFold(charset, "utf-8") {
		return "", http.StatusUnsupportedMediaType, errMediaType.Detail("send application/json in UTF-8")
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxContinue))
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long):
		return "", http.StatusRequestEntityTooLarge, errTooLarge.Detail("it is longer than %d bytes", maxContinue)
	case err != nil:
		return "", http.StatusBadRequest, errMalformed.Detail("it ended too early").Because(err)
	case !json.Valid(text):
		return "", http.StatusBadRequest, errMalformed.Detail("it is not JSON")
	}
	var body struct {
		As *string `json:"as"`
	}
	strict := json.NewDecoder(bytes.NewReader(text))
	strict.DisallowUnknownFields()
	if strict.Decode(&body) != nil || body.As == nil {
		return "", http.StatusUnprocessableEntity, errNobody.Detail(`it is an object with the one property "as", a string`)
	}
	return *body.As, 0, nil
}

// refuse answers with a problem whose status is more exact than that of its kind.
func refuse(w http.ResponseWriter, status int, err error) {
	document := problem.Of(fault.Public(err))
	document.Status = status
	problem.Secure(w.Header())
	w.Header().Set("Content-Type", problem.ContentType)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(document) // the client may be gone
}
