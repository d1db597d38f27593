// Command minimal is a chat back end of one's own: accounts, mail and sockets on one server.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"

	"github.com/parley-chat/parley/adapters/humaapi"
	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/adapters/netws"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/parley"
)

type console struct{} // an adapter of one's own: mails are printed

func (console) Send(_ context.Context, m mail.Message) error {
	_, err := fmt.Println(m.To, m.Subject, m.Text)
	return err
}
func (console) Check(context.Context) error { return nil }

func main() {
	ports := memory.NewPorts()
	ports.Sender = console{}
	system, err := parley.New(parley.Config{Ports: ports, PublicURL: "http://localhost:8080"})
	check(err)
	mux := http.NewServeMux()
	api, err := humaapi.New(mux, humaapi.Config{})
	check(err)
	check(humaapi.RegisterAuth(api, humaapi.AuthConfig{Service: system.Auth}))
	sockets, err := netws.New(netws.Config{Handshake: system.Handshake, Acceptor: system.Hub})
	check(err)
	mux.Handle("GET /socket", sockets)
	go func() { check(sockets.Run(context.Background())) }()
	go func() { check(system.Run(context.Background())) }()
	check(http.ListenAndServe("localhost:8080", api))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
