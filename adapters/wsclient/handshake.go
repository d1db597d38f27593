package wsclient

import (
	"fmt"
	"io"
	"net/http"
)

// HandshakeError is the answer of a server that refuses a handshake.
type HandshakeError struct {
	Status int
	Body   string // its beginning
}

// Error names status and body.
func (e *HandshakeError) Error() string {
	return fmt.Sprintf("wsclient: the handshake was refused with status %d: %s", e.Status, e.Body)
}

// refused makes the error of a response, and closes its body.
func refused(res *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(res.Body, 4<<10)) // what there is of it
	_ = res.Body.Close()
	return &HandshakeError{Status: res.StatusCode, Body: string(body)}
}
