package chat_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// A message has its place when Send returns. Sent again under the same name of its own, as after a lost
// answer, it is not stored again. A reader who missed something asks for what follows.
func ExampleService() {
	store := memory.NewStore()
	service, err := chat.New(chat.Config{
		Store: store.Messages, Rooms: store.Rooms, Members: store.Members, Marks: store.Members,
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
	if _, err := service.Join(ctx, ada, "hall"); err != nil {
		fmt.Println(err)
	}
	hello := chat.Draft{Room: "hall", ClientID: "a1", Author: ada, Text: "Hello."}
	for range 2 {
		stored, err := service.Send(ctx, hello)
		fmt.Println(stored.Seq, stored.Text, stored.Repeated, err)
	}
	_, err = service.Send(ctx, chat.Draft{Room: "hall", Author: ada, Text: "Is anybody there?"})
	fmt.Println(err)

	page, err := service.Since(ctx, "hall", chat.Point{Seq: 1}, chat.Reach{Seq: 2})
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

// staff is an application's own rule of who may do what.
type staff map[user.ID]bool

func (s staff) May(_ context.Context, who chat.Author, what chat.Action, room string) error {
	if room == "news" && what == chat.ActionSend && !s[who.ID] {
		return chat.ErrNotAllowed.Detail("only the staff writes here")
	}
	return nil
}

// Everybody may read the news, and the staff writes them.
func ExampleAccess() {
	service, stop := serve(chat.Config{Access: staff{"ada": true}})
	defer stop()
	for _, id := range []user.ID{"ada", "bob"} {
		stored, err := service.Send(context.Background(), chat.Draft{Room: "news", Author: chat.Author{ID: id}, Text: "We are open."})
		fmt.Println(id, stored.Seq, err)
	}
	// Output:
	// ada 1 <nil>
	// bob 0 this is not allowed in this room: only the staff writes here
}

// A screen refuses links to other sites, and hides a word.
func ExampleScreen() {
	service, stop := serve(chat.Config{Screen: chat.ScreenFunc(func(_ context.Context, d chat.Draft) (chat.Draft, error) {
		if strings.Contains(d.Text, "https://") {
			return d, chat.ErrRefused.Detail("no links here")
		}
		d.Text = strings.ReplaceAll(d.Text, "darn", "****")
		return d, nil
	})})
	defer stop()
	for _, text := range []string{"Hello.", "Oh, darn.", "See https://example.com"} {
		stored, err := service.Send(context.Background(), chat.Draft{Room: "hall", Author: chat.Author{ID: "ada"}, Text: text})
		fmt.Println(stored.Seq, stored.Text, err)
	}
	// Output:
	// 1 Hello. <nil>
	// 2 Oh, ****. <nil>
	// 0  the message was refused: no links here
}

// serve runs a service that keeps everything in memory.
func serve(cfg chat.Config) (service *chat.Service, stop func()) {
	store := memory.NewStore()
	cfg.Store, cfg.Rooms, cfg.Members, cfg.Marks = store.Messages, store.Rooms, store.Members, store.Members
	cfg.Cache = memory.NewRecentCache(memory.RecentCacheConfig{})
	service, err := chat.New(cfg)
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- service.Run(ctx) }()
	return service, func() { cancel(); <-ended }
}
