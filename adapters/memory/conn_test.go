package memory_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
)

// echo is an acceptor whose receivers send back what they get, and close at "bye".
type echo struct {
	conn     socket.Conn
	received int
	gone     int
}

func (e *echo) Accept(conn socket.Conn, hello socket.Hello) (socket.Receiver, error) {
	e.conn = conn
	if err := conn.Send(frame("hello " + hello.Identity.Name)); err != nil {
		return nil, err
	}
	if hello.Identity.Name == "Eve" {
		conn.Close(socket.CloseForbidden, "not you")
	}
	return e, nil
}

func (e *echo) Receive(payload []byte, _ bool) {
	e.received++
	if string(payload) == "bye" {
		e.conn.Close(socket.CloseNormal, "bye")
		return
	}
	_ = e.conn.Send(frame(string(payload)))
}

func (e *echo) Disconnected() { e.gone++ }

func frame(s string) *socket.Frame {
	return socket.NewFrame(func(dst []byte) []byte { return append(dst, s...) })
}

func identity(name string) user.Identity {
	var who user.Identity
	who.Name = name
	return who
}

func TestAReceiverMayCloseItsConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var e echo
		c := memory.Connect(&e, identity("Ada"))
		for _, said := range []string{"one", "two", "bye"} {
			require.NoError(t, c.Write([]byte(said), false))
		}
		assert.ErrorIs(t, c.Write([]byte("three"), false), fault.Unavailable)
		synctest.Wait()
		for _, want := range []string{"hello Ada", "one", "two"} {
			f, err := c.Read(t.Context())
			require.NoError(t, err)
			assert.Equal(t, want, string(f.Payload()))
		}
		assert.Zero(t, e.conn.Queued())
		for range 2 {
			_, err := c.Read(t.Context())
			assert.Equal(t, &memory.Closed{Code: socket.CloseNormal, Reason: "bye"}, err)
		}
		assert.Equal(t, 3, e.received)
		assert.Equal(t, 1, e.gone)
		c.Close()
		c.Close()
		assert.Equal(t, 1, e.gone)
	})
}

func TestAnAcceptorMayCloseWhatItAccepts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var e echo
		c := memory.Connect(&e, identity("Eve"))
		_, err := c.Read(t.Context())
		require.NoError(t, err)
		_, err = c.Read(t.Context())
		assert.EqualError(t, err, `closed with 4403 "not you"`)
		synctest.Wait()
		assert.Equal(t, 1, e.gone)
	})
}

func TestAClientThatLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var e echo
		c := memory.Connect(&e, identity("Ada"))
		_, err := c.Read(t.Context())
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = c.Read(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)

		left := make(chan error, 1)
		go func() { _, err := c.Read(t.Context()); left <- err }()
		synctest.Wait()
		c.Close()
		assert.Equal(t, 1, e.gone)
		err = <-left
		assert.ErrorIs(t, err, fault.Unavailable)
		assert.ErrorIs(t, e.conn.Send(frame("anybody?")), fault.Unavailable)
		assert.Zero(t, e.conn.Queued())
	})
}
