package scenario

import (
	"errors"

	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/testkit/wsraw"
)

// Wire is what a socket speaks. The story knows parley.v1 alone: a Wire says and hears the same in another format. Its methods are called from one goroutine.
type Wire interface {
	// Protocol returns the subprotocol that names it.
	Protocol() string
	// Says returns the frame in which a client says what line says in parley.v1. It has an id.
	Says(line []byte) (wsraw.Frame, error)
	// Hears returns what a frame of the server says as parley.v1 says it, byte for byte, or an error if the frame is not of the format.
	Hears(f wsraw.Frame) ([]byte, error)
}

// parleyV1 is the wire of parley.v1.
type parleyV1 struct{}

func (parleyV1) Protocol() string { return socket.Protocol }

func (parleyV1) Says(line []byte) (wsraw.Frame, error) {
	return wsraw.Frame{Final: true, Opcode: wsraw.OpText, Payload: line}, nil
}

func (parleyV1) Hears(f wsraw.Frame) ([]byte, error) {
	if f.Opcode != wsraw.OpText {
		return nil, errors.New("it is no text")
	}
	return f.Payload, nil
}
