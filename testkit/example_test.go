package testkit_test

import (
	"context"
	"fmt"
	"time"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/testkit"
)

// A test waits for the mail that a program sends, and follows its link.
func ExampleMailbox() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	box := testkit.NewMailbox()
	go func() { // the program
		_ = box.Send(ctx, mail.Message{To: "ada@example.com", Text: "Confirm: https://chat.example.com/verify#code=4711"})
	}()

	m, err := box.Await(ctx, "Ada@example.com", 1)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(testkit.Code(m))
	// Output: 4711 <nil>
}

// The second mail is sent, and whoever sends it does not know.
func ExampleFaults() {
	ctx := context.Background()
	faults := testkit.NewFaults(1, testkit.Rule{Method: "Sender.Send", Call: 2, Fault: testkit.LoseAnswer()})
	sender := testkit.FaultySender(memory.NewMailbox(memory.MailboxConfig{}), faults)
	for range 3 {
		fmt.Println(sender.Send(ctx, mail.Message{To: "ada@example.com"}))
	}
	fmt.Println(faults.Calls("Sender.Send"), faults.Struck("Sender.Send"))
	// Output:
	// <nil>
	// the answer was lost
	// <nil>
	// 3 1
}
