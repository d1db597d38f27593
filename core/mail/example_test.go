package mail_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/mail"
)

// A mail's way from the event that asks for it to the sender, which is a mailbox here.
func ExampleWorker() {
	queue := memory.NewMailQueue()
	mailbox := memory.NewMailbox(memory.MailboxConfig{})
	templates, err := mail.NewTemplates(mail.TemplateConfig{PublicURL: "https://chat.example.com"})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	sender := done{mailbox, cancel}
	worker, err := mail.NewWorker(mail.WorkerConfig{Queue: queue, Sender: sender, Templates: templates})
	if err != nil {
		log.Fatal(err)
	}
	consumer, err := mail.NewConsumer(mail.ConsumerConfig{Queue: queue, Enqueued: worker.Wake})
	if err != nil {
		log.Fatal(err)
	}

	// A bus would call this, perhaps twice.
	created := event.Event{
		ID: "e1", Topic: mail.Topic, Type: mail.TypeUserCreated, Key: "u1", Time: time.Now(),
		Data: []byte(`{"userId": "u1", "fullName": "Ada Lovelace", "email": "ada@example.com",
			"verificationCode": "c0de", "expiresAt": "2026-05-06T07:08:00Z"}`),
	}
	for range 2 {
		if err := consumer.Handle(ctx, created); err != nil {
			log.Fatal(err)
		}
	}
	if err := worker.Run(ctx); err != nil { // until the mail is sent
		log.Fatal(err)
	}
	for _, m := range mailbox.All() {
		fmt.Println(m.To, "-", m.Subject)
	}
	// Output: ada@example.com - Confirm your e-mail address for Parley
}

// done is a sender that ends the example after the first mail.
type done struct {
	mail.Sender
	cancel context.CancelFunc
}

func (d done) Send(ctx context.Context, m mail.Message) error {
	defer d.cancel()
	return d.Sender.Send(ctx, m)
}
