package wsclient_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"

	"github.com/parley-chat/parley/adapters/humaapi"
	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/adapters/netws"
	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
)

// A client joins a room, sends a message, and is given it like everybody else.
func ExampleDial() {
	url, stop, err := serve()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stop()
	ctx := context.Background()
	messages := make(chan wsclient.Message, 16)
	client, err := wsclient.Dial(ctx, wsclient.Config{
		URL:   url,
		Token: func(context.Context) (string, error) { return "ada", nil },
		Handle: func(e wsclient.Event) {
			if e.Kind == wsclient.EventMessage {
				messages <- e.Message
			}
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	if _, err := client.Join(ctx, "go"); err != nil {
		fmt.Println(err)
		return
	}
	sent, err := client.Send(ctx, "go", "hello")
	if err != nil {
		fmt.Println(err)
		return
	}
	m := <-messages
	fmt.Println(m.Seq == sent.Seq, m.User.Name+":", m.Text)
	// Output: true User ada: hello
}

// What is said can be said otherwise, and everybody in the room is told.
func ExampleClient_Edit() {
	url, stop, err := serve()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stop()
	ctx := context.Background()
	changes := make(chan wsclient.Message, 16)
	client, err := wsclient.Dial(ctx, wsclient.Config{
		URL:   url,
		Token: func(context.Context) (string, error) { return "ada", nil },
		Handle: func(e wsclient.Event) {
			if e.Kind == wsclient.EventChanged {
				changes <- e.Message
			}
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	if _, err := client.Join(ctx, "go"); err != nil {
		fmt.Println(err)
		return
	}
	sent, err := client.Send(ctx, "go", "helo")
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := client.Edit(ctx, "go", sent.Seq, "hello"); err != nil {
		fmt.Println(err)
		return
	}
	if _, err := client.React(ctx, "go", sent.Seq, "+1"); err != nil {
		fmt.Println(err)
		return
	}
	edited, reacted := <-changes, <-changes
	fmt.Println(edited.Rev, edited.Text, edited.EditedAt.IsZero())
	fmt.Println(reacted.Rev, reacted.Text, reacted.Reactions[0].Key, reacted.Reactions[0].Users)
	// Output:
	// 1 hello false
	// 2 hello +1 [ada]
}

// The server keeps how far each member has read, and counts the rest.
func ExampleClient_Mark() {
	url, stop, err := serve()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stop()
	ctx := context.Background()
	marks := make(chan wsclient.Event, 16)
	enter := func(name string) (*wsclient.Client, error) {
		client, err := wsclient.Dial(ctx, wsclient.Config{
			URL:   url,
			Token: func(context.Context) (string, error) { return name, nil },
			Handle: func(e wsclient.Event) {
				if name == "ada" && e.Kind == wsclient.EventMarked {
					marks <- e
				}
			},
		})
		if err == nil {
			_, err = client.Join(ctx, "go")
		}
		return client, err
	}
	ada, err := enter("ada")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ada.Close()
	bob, err := enter("bob")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer bob.Close()
	for _, text := range []string{"one", "two", "three"} {
		if _, err := ada.Send(ctx, "go", text); err != nil {
			fmt.Println(err)
			return
		}
	}
	for _, read := range []uint64{0, 2, 1} { // 0 only asks, and nothing goes back
		mark, err := bob.Mark(ctx, "go", read)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("read up to", mark.Read, "unread", mark.Unread)
	}
	e := <-marks
	fmt.Println(e.User.Name, "has read up to", e.Read)
	// Output:
	// read up to 0 unread 3
	// read up to 2 unread 1
	// read up to 2 unread 1
	// User bob has read up to 2
}

// A program makes a private room and invites somebody over REST. It may use a Session in place of tokens of its own: see SignIn.
func ExampleREST() {
	url, stop, err := serve()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stop()
	ctx := context.Background()
	as := func(name string) (*wsclient.REST, error) {
		return wsclient.NewREST(wsclient.RESTConfig{
			Server: "http" + strings.TrimSuffix(strings.TrimPrefix(url, "ws"), "/socket"),
			Token:  func(context.Context) (string, error) { return name, nil },
		})
	}
	ada, err := as("ada")
	if err != nil {
		fmt.Println(err)
		return
	}
	bob, err := as("bob")
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := ada.CreateRoom(ctx, wsclient.NewRoom{Name: "kitchen/2", Kind: chat.Private, Title: "The kitchen"}); err != nil {
		fmt.Println(err)
		return
	}
	_, err = bob.Room(ctx, "kitchen/2")
	fmt.Println(errors.Is(err, chat.ErrRoomNotFound))
	if _, err := ada.SetRole(ctx, "kitchen/2", "bob", chat.Regular); err != nil {
		fmt.Println(err)
		return
	}
	if _, err := ada.Send(ctx, "kitchen/2", "Who cooks?"); err != nil {
		fmt.Println(err)
		return
	}
	for room, err := range bob.MyRooms(ctx) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(room.Room, room.Role, room.Unread, room.Last.Text)
	}
	// Output:
	// true
	// kitchen/2 member 1 Who cooks?
}

// A view is what a program shows: rooms with what is unread of them, and messages with one's own changes.
func ExampleView() {
	url, stop, err := serve()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stop()
	ctx := context.Background()
	rest := func(name string) *wsclient.REST {
		calls, err := wsclient.NewREST(wsclient.RESTConfig{
			Server: "http" + strings.TrimSuffix(strings.TrimPrefix(url, "ws"), "/socket"),
			Token:  func(context.Context) (string, error) { return name, nil },
		})
		if err != nil {
			fmt.Println(err)
		}
		return calls
	}
	ada, bob := rest("ada"), rest("bob")
	if _, err := ada.CreateRoom(ctx, wsclient.NewRoom{Name: "hall"}); err != nil {
		fmt.Println(err)
		return
	}
	if _, err := ada.SetRole(ctx, "hall", "bob", chat.Regular); err != nil {
		fmt.Println(err)
		return
	}

	changed := make(chan struct{}, 1)
	view, err := wsclient.NewView(wsclient.ViewConfig{User: "ada", Changed: func(string) {
		select {
		case changed <- struct{}{}:
		default:
		}
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	client, err := wsclient.Dial(ctx, wsclient.Config{URL: url, Token: func(context.Context) (string, error) { return "ada", nil }, Handle: view.Take})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	if err := view.Load(ada.MyRooms(ctx)); err != nil {
		fmt.Println(err)
		return
	}
	if _, err := view.Join(ctx, client, "hall"); err != nil {
		fmt.Println(err)
		return
	}
	for _, text := range []string{"Good morning", "Tea?"} {
		if _, err := bob.Send(ctx, "hall", text); err != nil {
			fmt.Println(err)
			return
		}
	}
	hall, _ := view.Room("hall")
	for ; hall.Seq < 2; hall, _ = view.Room("hall") {
		<-changed
	}
	fmt.Println(hall.Unread, hall.Last.Text)
	if _, err := view.React(ctx, client, "hall", hall.Seq, "+1"); err != nil {
		fmt.Println(err)
		return
	}
	if _, err := view.Mark(ctx, client, "hall", hall.Seq); err != nil {
		fmt.Println(err)
		return
	}
	hall, _ = view.Room("hall")
	fmt.Println(hall.Unread, hall.Last.Reactions[0].Key)

	// What is refused is shown with its reason, until it is asked for again or forgotten.
	_, _ = view.Edit(ctx, client, "hall", hall.Seq, "Coffee?") // bob has written it
	for _, u := range view.Underway("hall") {
		fmt.Println(u.Seq, u.Draft.Text, u.State == wsclient.UnderwayFailed, errors.Is(u.Err, chat.ErrNotAllowed))
		view.Forget(u.ID)
	}
	if _, err := view.Send(ctx, client, "hall", wsclient.Draft{Text: "Coffee?"}); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(view.Underway("hall")), len(view.Typing("hall")))
	// Output:
	// 2 Tea?
	// 0 +1
	// 2 Coffee? true true
	// 0 0
}

// serve runs a node in memory.
func serve() (url string, stop func(), err error) {
	store := memory.NewStore()
	service, err := chat.New(chat.Config{
		Store: store.Messages, Rooms: store.Rooms, Members: store.Members, Marks: store.Members, Cache: memory.NewRecentCache(memory.RecentCacheConfig{}),
		Roles: store.Roles, Restrictions: store.Restrictions,
	})
	if err != nil {
		return "", nil, err
	}
	hub, err := realtime.NewHub(realtime.HubConfig{Chat: service, Fanout: memory.NewFanout().Node(), Presence: memory.NewPresence()})
	if err != nil {
		return "", nil, err
	}
	handshake, err := socket.NewHandshake(socket.HandshakeConfig{Authenticator: anybody{}})
	if err != nil {
		return "", nil, err
	}
	server, err := netws.New(netws.Config{Handshake: handshake, Acceptor: hub})
	if err != nil {
		return "", nil, err
	}
	mux := http.NewServeMux()
	api, err := humaapi.New(mux, humaapi.Config{})
	if err != nil {
		return "", nil, err
	}
	if err := humaapi.RegisterRooms(api, humaapi.RoomsConfig{Service: service, Identify: anybody{}.Token}); err != nil {
		return "", nil, err
	}
	mux.Handle("/socket", server)
	web := httptest.NewServer(api)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, run := range []func(context.Context) error{service.Run, hub.Run, server.Run} {
		running.Go(func() { _ = run(ctx) })
	}
	return "ws" + strings.TrimPrefix(web.URL, "http") + "/socket", func() {
		cancel()
		running.Wait()
		web.Close()
	}, nil
}
