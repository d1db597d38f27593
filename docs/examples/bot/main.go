// Command bot signs in to a running server, says good morning in a room, and prints what is said there
// until it is interrupted.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"

	"github.com/parley-chat/parley/adapters/wsclient"
)

func main() {
	var server, email, password string
	flag.StringVar(&server, "server", "http://localhost:5002", "where the server is")
	flag.StringVar(&email, "email", "", "the address of an account")
	flag.StringVar(&password, "password", "", "its password")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	session, err := wsclient.SignIn(ctx, wsclient.SessionConfig{Server: server}, email, password)
	check(err)
	client, err := wsclient.Dial(ctx, wsclient.Config{URL: session.SocketURL(), Tokens: session, Handle: show})
	check(err)
	_, err = client.Join(ctx, "hall")
	check(err)
	_, err = client.Send(ctx, "hall", "Good morning")
	check(err)

	select {
	case <-ctx.Done():
		client.Close()
		check(session.SignOut(context.WithoutCancel(ctx), false))
	case <-client.Done(): // the session was ended elsewhere, say
		check(client.Err())
	}
}

// show prints messages.
func show(e wsclient.Event) {
	if e.Kind == wsclient.EventMessage {
		fmt.Printf("%s: %s\n", e.Message.User.Name, e.Message.Text)
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
