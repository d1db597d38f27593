package chat_test

import (
	"context"
	"fmt"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/chat"
)

// A message has its place when Send returns. Sent again under the same name of its own, as after a lost
// answer, it is not stored again. A reader who missed something asks for what follows.
func ExampleService() {
	store := memory.NewStore()
	service, err := chat.New(chat.Config{
		Store: store.Messages, Rooms: store.Rooms, Members: store.Members,
		Cache: memory.NewRecentCache(memory.RecentCacheConfig{}),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- service.Run(ctx) }()

	ada := chat.Author{ID: "ada", Name: "Ada"}
	if err := service.Join(ctx, ada, "hall"); err != nil {
		fmt.Println(err)
	}
	hello := chat.Draft{Room: "hall", ClientID: "a1", Author: ada, Text: "Hello."}
	for range 2 {
		stored, err := service.Send(ctx, hello)
		fmt.Println(stored.Seq, stored.Text, stored.Repeated, err)
	}
	_, err = service.Send(ctx, chat.Draft{Room: "hall", Author: ada, Text: "Is anybody there?"})
	fmt.Println(err)

	page, err := service.Since(ctx, "hall", 1, 2)
	for _, m := range page.Messages {
		fmt.Println(m.Seq, m.Author.Name, m.Text)
	}
	fmt.Println(page.Recovered, err)
	_, err = service.Send(ctx, chat.Draft{Room: "hall", Author: ada, Text: ""})
	fmt.Println(err)

	cancel()
	fmt.Println(<-ended)
	// Output:
	// 1 Hello. false <nil>
	// 1 Hello. true <nil>
	// <nil>
	// 2 Ada Is anybody there?
	// true <nil>
	// the text is not valid: it is empty
	// <nil>
}
