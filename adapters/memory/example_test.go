package memory_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/user"
)

// A user and the events that tell of it are stored in one commit.
func ExampleNewStore() {
	ctx := context.Background()
	store := memory.NewStore()

	ada := user.User{ID: "1", FullName: "Ada", Email: "ada@example.com", CreatedAt: time.Now()}
	created := event.Event{ID: "e1", Topic: "mail", Type: "user.created", Key: "1"}
	fmt.Println(store.Users.Create(ctx, ada, created))

	again := store.Users.Create(ctx, user.User{ID: "2", Email: "ada@example.com"}, event.Event{ID: "e2"})
	fmt.Println(again, errors.Is(again, fault.Conflict))

	pending, _ := store.Outbox.Pending(ctx, 10)
	fmt.Println(len(pending), pending[0].Type)
	// Output:
	// <nil>
	// the e-mail address is taken true
	// 1 user.created
}

// Two hubs in one process share a fan-out; each has a node of it.
func ExampleFanout() {
	ctx, cancel := context.WithCancel(context.Background())
	fanout := memory.NewFanout()
	here, there := fanout.Node(), fanout.Node()

	_ = there.Follow(ctx, "lobby")
	_ = here.Publish(ctx, realtime.Signal{Kind: realtime.SignalTyping, Room: "lobby", Typing: true})

	_ = there.Run(ctx, func(s realtime.Signal) {
		fmt.Println("somebody types in the", s.Room)
		cancel()
	})
	// Output: somebody types in the lobby
}
