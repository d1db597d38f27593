// Command shop is a shop that talks with its customers, in a room for each order. The customers, the rules and the routes are its own.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"sync"

	"github.com/parley-chat/parley/adapters/humaapi"
	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/adapters/netws"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/problem"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
)

// clerk is who speaks for the shop.
var clerk = chat.Author{ID: "clerk", Name: "The shop"}

type shop struct {
	node   *parley.Node
	mu     sync.Mutex
	orders map[string]user.ID // whose each order is, by its room; a real shop asks its database
}

// May is the rule of access, a chat.Access: an order's room is for its customer and for the clerk.
func (s *shop) May(_ context.Context, who chat.Author, _ chat.Action, room string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	customer, known := s.orders[room]
	if !known || who.ID != customer && who.ID != clerk.ID {
		return chat.ErrNotAllowed.Detail("this is no order of yours")
	}
	return nil
}

var cardNumber = regexp.MustCompile(`\b\d{4}(?:[ -]?\d{4}){3}\b`)

// screen sees each message before it is stored, as a chat.Screen: it refuses links, and hides the numbers of credit cards.
func screen(_ context.Context, d chat.Draft) (chat.Draft, error) {
	if strings.Contains(d.Text, "://") {
		return d, chat.ErrRefused.Detail("no links, please")
	}
	d.Text = cardNumber.ReplaceAllString(d.Text, "[card number]")
	return d, nil
}

// order makes a room for an order of who calls. Both sides are members of it at once.
func (s *shop) order(ctx context.Context, customer chat.Author, _ string) (string, error) {
	s.mu.Lock()
	room := fmt.Sprintf("order-%d", len(s.orders)+1)
	s.orders[room] = customer.ID
	s.mu.Unlock()
	for _, member := range []chat.Author{customer, clerk} {
		if _, err := s.node.Chat.Join(ctx, member, room); err != nil {
			return "", err
		}
	}
	_, err := s.node.Send(ctx, chat.Draft{Room: room, Author: clerk, Text: "Thank you. We answer here."})
	return room, err
}

// shipped tells the customer of an order. Whoever is in the room sees it at once.
func (s *shop) shipped(ctx context.Context, who chat.Author, room string) (string, error) {
	if who.ID != clerk.ID {
		return "", chat.ErrNotAllowed
	}
	_, err := s.node.Send(ctx, chat.Draft{Room: room, Author: clerk, Text: "Your parcel is on its way."})
	return room, err
}

// route calls f for whom the request's token speaks for, and answers failures as Parley's routes do.
func (s *shop) route(f func(ctx context.Context, who chat.Author, room string) (string, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, err := s.node.Identify(r.Context(), socket.BearerToken(r.Header.Get("Authorization")))
		if err != nil {
			problem.Write(w, err)
			return
		}
		answer, err := f(r.Context(), chat.Author{ID: who.UserID, Name: who.Name}, r.PathValue("room"))
		if err != nil {
			problem.Write(w, err)
			return
		}
		fmt.Fprintln(w, answer)
	}
}

func main() {
	listen := flag.String("listen", "localhost:8080", "the address to serve at")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	tokens := memory.NewAuthenticator() // a real shop says whom its own sessions speak for: socket.Authenticator has two methods
	tokens.AllowToken("token-of-ada", user.Identity{UserID: "ada", Name: "Ada"})
	tokens.AllowToken("token-of-bob", user.Identity{UserID: "bob", Name: "Bob"})
	tokens.AllowToken("token-of-clerk", user.Identity{UserID: clerk.ID, Name: clerk.Name})

	s := &shop{orders: map[string]user.ID{}}
	var err error
	s.node, err = parley.NewNode(parley.Config{
		Ports: memory.NewPorts(), Authenticator: tokens,
		Chat: chat.Config{Access: s, Screen: chat.ScreenFunc(screen)},
	})
	check(err)
	mux := http.NewServeMux()
	api, err := humaapi.New(mux, humaapi.Config{})
	check(err)
	check(humaapi.RegisterRooms(api, humaapi.RoomsConfig{Service: s.node.Chat, Identify: s.node.Identify}))
	sockets, err := netws.New(netws.Config{Handshake: s.node.Handshake, Acceptor: s.node.Hub})
	check(err)
	mux.Handle("GET /socket", sockets)
	mux.Handle("POST /orders", s.route(s.order))
	mux.Handle("POST /orders/{room}/shipped", s.route(s.shipped))

	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", *listen)
	check(err)
	fmt.Printf("The shop is at http://%s\n", listener.Addr())
	go func() { check(sockets.Run(context.Background())) }() // it carries the connections until the node has closed them
	go func() { check(http.Serve(listener, api)) }()
	check(s.node.Run(ctx, nil)) // until the program is interrupted and the node has stored what was sent
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
