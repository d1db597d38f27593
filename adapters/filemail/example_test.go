package filemail_test

import (
	"context"
	"fmt"
	"os"

	"github.com/parley-chat/parley/adapters/filemail"
	"github.com/parley-chat/parley/core/mail"
)

// A mailbox is what development sends to instead of a mail server.
func ExampleOpen() {
	folder, err := os.MkdirTemp("", "mails-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(folder)
	mailbox, err := filemail.Open(filemail.Config{Folder: folder, Keep: 100})
	if err != nil {
		fmt.Println(err)
		return
	}
	err = mailbox.Send(context.Background(), mail.Message{
		ID: "welcome-1@chat.example", FromName: "Chat", From: "chat@chat.example",
		ToName: "Ada", To: "ada@example.com", Subject: "Welcome", Text: "Hello, Ada.",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, m := range mailbox.All() {
		fmt.Println(m.Subject)
	}
	// Output: Welcome
}
