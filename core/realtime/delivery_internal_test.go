package realtime

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/protocol"
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
	r := &room{hub: h, name: "hall", members: make([]*member, large)}
	r.broadcast(protocol.Outgoing{Room: "hall", User: chat.Author{ID: "ada"}}, others)
	r.send([]Signal{{Message: chat.Message{Seq: 1}}, {Message: chat.Message{Seq: 2}}})
	assert.NotEmpty(t, made)
	for _, d := range made {
		assert.Equal(t, &delivery{}, d)
	}
	shared := h.queue.shared
	assert.Equal(t, make([]*delivery, cap(shared)), shared[:cap(shared)])
	assert.NotZero(t, cap(shared), "the room is large")
}
