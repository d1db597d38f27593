package parley_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/user"
)

// list is an application's own rule: who stands on it stays out.
type list struct{ banned sync.Map }

func (l *list) May(_ context.Context, who chat.Author, _ chat.Action, _ string) error {
	if _, banned := l.banned.Load(who.ID); banned {
		return chat.ErrNotAllowed
	}
	return nil
}

// An application decides who may be in a room, speaks in it, and takes somebody out.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	rule := &list{}
	node, err := parley.NewNode(parley.Config{
		Ports: memory.NewPorts(), Chat: chat.Config{Access: rule},
		Authenticator: memory.NewAuthenticator(),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ready := make(chan struct{})
	go func() { _ = node.Run(ctx, func() { close(ready) }) }()
	<-ready

	eve := memory.Connect(node.Hub, user.Identity{UserID: "eve", Name: "Eve"})
	show := func() {
		f, err := eve.Read(ctx)
		if err != nil {
			fmt.Println(err)
			return
		}
		var e struct {
			Event string
			Data  struct{ Text string }
			Error struct{ Code string }
		}
		_ = json.Unmarshal(f.Payload(), &e)
		fmt.Println(strings.TrimSpace(e.Event + " " + e.Data.Text + e.Error.Code))
	}
	join := []byte(`{"id":1,"event":"join_room","data":{"room":"hall"}}`)
	_ = eve.Write(join, false)
	show()

	bot := chat.Author{ID: "bot", Name: "Bot"}
	said, err := node.Send(ctx, chat.Draft{Room: "hall", Author: bot, Text: "Be kind."})
	if err != nil {
		fmt.Println(err)
	}
	show()
	if _, err := node.Change(ctx, chat.Change{Kind: chat.Edit, Room: "hall", Seq: said.Seq, By: bot, Text: "Be very kind."}); err != nil {
		fmt.Println(err)
	}
	show()

	rule.banned.Store(user.ID("eve"), true)
	if err := node.Remove(ctx, "hall", "eve"); err != nil {
		fmt.Println(err)
	}
	show()
	_ = eve.Write(join, false)
	show()
	// Output:
	// ack
	// message Be kind.
	// changed Be very kind.
	// membership
	// error not_allowed
}
