package realtime_test

import (
	"context"
	"fmt"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/user"
)

// An application adds an event of its own: a member rolls dice, and everybody in the room sees them.
func ExampleEvent() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	store := memory.NewStore()
	talk, err := chat.New(chat.Config{
		Store: store.Messages, Rooms: store.Rooms, Members: store.Members, Marks: store.Members,
		Cache: memory.NewRecentCache(memory.RecentCacheConfig{}),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	sides := protocol.Field{Name: "sides", Type: protocol.Integer, Required: true, Minimum: 2, Maximum: 100, Doc: "How many sides the die has."}
	face := protocol.Field{Name: "face", Type: protocol.Integer, Required: true, Doc: "What came up."}
	hub, err := realtime.NewHub(realtime.HubConfig{
		Chat: talk, Fanout: memory.NewFanout().Node(), Presence: memory.NewPresence(),
		Events: []realtime.Event{{
			ClientEvent: protocol.ClientEvent{
				Name: "roll", Doc: "Roll a die.",
				Data: &protocol.Object{Name: "Roll", Doc: "The die.", Fields: []protocol.Field{sides}},
				Ack:  &protocol.Object{Name: "RollAck", Doc: "The result.", Fields: []protocol.Field{face}},
			},
			Handle: func(ctx context.Context, call realtime.Call) (protocol.Data, error) {
				face := call.Data.Integer("sides") - 2 // not by chance, so that this example has one output
				err := call.Send(ctx, "rolled", protocol.Data{"who": call.User.Name, "face": face})
				return protocol.Data{"face": face}, err
			},
		}},
		Sends: []protocol.ServerEvent{{
			Name: "rolled", Doc: "Somebody rolled a die.",
			Data: &protocol.Object{Name: "Rolled", Doc: "Who rolled what.", Fields: []protocol.Field{
				{Name: "who", Type: protocol.String, Required: true, Doc: "The member's name."}, face,
			}},
		}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	go func() { _ = talk.Run(ctx) }()
	go func() { _ = hub.Run(ctx) }()

	ada := memory.Connect(hub, user.Identity{UserID: "ada", Name: "Ada"})
	heard := map[string]bool{}
	read := func(n int) {
		for range n {
			f, err := ada.Read(ctx)
			if err != nil {
				fmt.Println(err)
				return
			}
			heard[string(f.Payload())] = true
		}
	}
	_ = ada.Write([]byte(`{"id":1,"event":"join_room","data":{"room":"table"}}`), false)
	read(1)
	clear(heard)
	_ = ada.Write([]byte(`{"id":2,"event":"roll","data":{"room":"table","sides":6}}`), false)
	read(2) // the answer and the event, in either order
	fmt.Println(heard[`{"id":2,"event":"ack","data":{"face":4}}`])
	fmt.Println(heard[`{"event":"rolled","data":{"room":"table","who":"Ada","face":4}}`])

	_ = ada.Write([]byte(`{"id":3,"event":"roll","data":{"room":"table","sides":1}}`), false)
	_, err = ada.Read(ctx)
	fmt.Println(err)
	// Output:
	// true
	// true
	// closed with 4400 "data.sides: out of range"
}
