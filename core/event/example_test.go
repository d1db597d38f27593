package event_test

import (
	"context"
	"fmt"
	"time"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/user"
)

// A relay moves to the bus what services have stored with what they changed: here a user with the event that tells of it.
func ExampleRelay() {
	store, bus := memory.NewStore().Ports(), memory.NewBus(memory.BusConfig{})
	relay, err := event.NewRelay(event.RelayConfig{Outbox: store.Outbox, Publisher: bus})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ready, heard := make(chan struct{}), make(chan event.Event)
	go func() {
		_ = bus.Subscribe(ctx, "user", "mailer", func(_ context.Context, e event.Event) error {
			heard <- e
			return nil
		}, func() { close(ready) })
	}()
	<-ready

	now := time.Now()
	ada := user.User{ID: user.ID(event.NewID()), FullName: "Ada", Email: "ada@example.com", PasswordHash: "x", CreatedAt: now}
	created := event.Event{ID: event.NewID(), Topic: "user", Type: "user.created", Key: string(ada.ID), Time: now, Data: []byte(`{}`)}
	if err := store.Users.Create(ctx, ada, created); err != nil {
		fmt.Println(err)
		return
	}
	go func() { _ = relay.Run(ctx) }()
	fmt.Println((<-heard).Type)
	// Output: user.created
}
