package wsclient_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/parley-chat/parley/adapters/wsclient"
)

// A bot answers each message once, also after it was started anew: Join gives it the last few messages again, and the answer to a message has a client id made of
// that message's id, so that the server stores it once.
func ExampleClient_SendAs() {
	url, stop, err := serve()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stop()
	ctx := context.Background()
	as := func(name string, handle func(wsclient.Event)) *wsclient.Client {
		client, err := wsclient.Dial(ctx, wsclient.Config{URL: url, Token: func(context.Context) (string, error) { return name, nil }, Handle: handle})
		if err == nil {
			_, err = client.Join(ctx, "go")
		}
		if err != nil {
			fmt.Println(err)
		}
		return client
	}
	heard := make(chan string, 16)
	ada := as("ada", func(e wsclient.Event) {
		if e.Kind == wsclient.EventMessage && e.Message.User.ID == "echo" {
			heard <- fmt.Sprint(e.Message.Seq, " ", e.Message.Text)
		}
	})
	defer ada.Close()

	for _, said := range []string{"!echo one", "!echo two"} {
		// Handle runs before Dial has returned the client, so it hands messages on. It may wait: nothing is lost.
		messages := make(chan wsclient.Message)
		done := make(chan struct{})
		bot := as("echo", func(e wsclient.Event) {
			if e.Kind == wsclient.EventMessage {
				select {
				case messages <- e.Message:
				case <-done:
				}
			}
		})
		if _, err := ada.Send(ctx, "go", said); err != nil {
			fmt.Println(err)
		}
		for m := range messages {
			if text, ok := strings.CutPrefix(m.Text, "!echo "); ok {
				if _, err := bot.SendAs(ctx, m.Room, text, "echo-"+m.ID); err != nil {
					fmt.Println(err)
				}
			}
			if m.Text == said {
				break // it is stopped, and started anew
			}
		}
		close(done)
		bot.Close()
		fmt.Println(<-heard)
	}
	// Output:
	// 2 one
	// 4 two
}
