package realtime

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/socket"
)

func TestADeliveryThatIsOverKeepsNothing(t *testing.T) {
	h := &Hub{cfg: HubConfig{Workers: 4, Now: time.Now}, schema: protocol.Own()}
	h.queue.init()
	var made []*delivery
	h.deliveries.New = func() any {
		d := new(delivery)
		made = append(made, d)
		return d
	}
	r := &room{hub: h, name: "hall", occupants: make([]*occupant, large)}
	r.broadcast(protocol.Outgoing{Room: "hall", User: chat.Author{ID: "ada"}}, others)
	r.send([]Signal{{Message: chat.Message{Seq: 1}}, {Message: chat.Message{Seq: 2}}}, nil)
	assert.NotEmpty(t, made)
	for _, d := range made {
		assert.Equal(t, &delivery{}, d)
	}
	shared := h.queue.shared
	assert.Equal(t, make([]*delivery, cap(shared)), shared[:cap(shared)])
	assert.NotZero(t, cap(shared), "the room is large")
}

func TestATurnThatIsOverKeepsNothing(t *testing.T) {
	h := &Hub{cfg: HubConfig{Workers: 4, MaxWrite: 1 << 10, Now: time.Now}, schema: protocol.Own()}
	h.queue.init()
	h.formats = []protocol.Format{protocol.JSON(h.schema)}
	h.deliveries.New = func() any { return new(delivery) }
	var made []*held
	h.holds.New = func() any {
		made = append(made, new(held))
		return made[len(made)-1]
	}
	c := &client{hub: h, conn: sink{}}
	var turn turn
	for _, name := range []string{"a", "b"} {
		r := &room{hub: h, name: name, known: true}
		r.occupants = []*occupant{{client: c, room: r, live: true}}
		r.inbox = []Signal{{Kind: SignalMessage, Room: name, Message: chat.Message{Seq: 1}}}
		turn.rooms[turn.n] = r
		turn.n++
	}
	turn.run()
	assert.Len(t, made, 1)
	assert.Nil(t, c.held)
	assert.Equal(t, make([]*socket.Frame, cap(made[0].frames)), made[0].frames[:cap(made[0].frames)])
	assert.Zero(t, turn.rooms)
	assert.Nil(t, turn.joined)
	assert.Equal(t, make([]*client, cap(turn.clients)), turn.clients[:cap(turn.clients)])
	assert.Equal(t, make([]*socket.Frame, cap(turn.last)), turn.last[:cap(turn.last)])
}

// sink is a connection that swallows everything.
type sink struct{}

func (sink) Send(*socket.Frame) error { return nil }
func (sink) Queued() int              { return 0 }
func (sink) Close(int, string)        {}
