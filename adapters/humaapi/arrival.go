package humaapi

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// BodyTimeout is how long the body of a request may take to arrive unless Config says otherwise.
const BodyTimeout = 8 * time.Second

// arrived is a body, or the beginning of one, that was read before the handler was called.
type arrived struct {
	io.Reader
	// whole is all of the body, unless there is more of it, or it ended with an error.
	whole []byte
	rest  io.Closer
}

func (a *arrived) Close() error { return a.rest.Close() }

// receive reads the body of a request before anybody looks at the request, up to the length that is
// allowed, so that no answer leaves one behind that may never come: net/http would wait for it, and so
// would the answer. What reading the body then gives is the same, also an error, which is returned too.
//
// A body that is too long is left to the handler, with what is left of its time; the connection is
// closed after the answer.
func (a *API) receive(w http.ResponseWriter, r *http.Request) error {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return nil
	}
	// A writer without deadlines, as in tests, is no reason to refuse.
	control := http.NewResponseController(w)
	deadline := time.Now().Add(a.bodyTimeout)
	_ = control.SetReadDeadline(deadline)
	if r.ContentLength > a.maxBody {
		closeAfter(w, r)
		return nil
	}
	data, err := io.ReadAll(io.LimitReader(r.Body, a.maxBody+1))
	body := &arrived{Reader: bytes.NewReader(data), rest: r.Body}
	switch {
	case err != nil: // the deadline stays, or net/http would go on to wait
		closeAfter(w, r)
		if !isTimeout(err) && !time.Now().Before(deadline) {
			err = os.ErrDeadlineExceeded // the end of chunks was missing, which net/http calls otherwise
		}
		body.Reader = io.MultiReader(body.Reader, failing{err})
	case int64(len(data)) > a.maxBody:
		closeAfter(w, r)
		body.Reader = io.MultiReader(body.Reader, r.Body)
	default:
		// The deadline would end the request's context while the handler works.
		_ = control.SetReadDeadline(time.Time{})
		body.whole = data
	}
	r.Body = body
	return err
}

// closeAfter has the connection closed after the answer. In HTTP/2 the stream ends by itself.
func closeAfter(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
}

// failing is a body that ends with an error.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
