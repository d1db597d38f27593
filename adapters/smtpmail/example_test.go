package smtpmail_test

import (
	"fmt"

	"github.com/parley-chat/parley/adapters/smtpmail"
)

// New checks the configuration and does not connect: Check does, at the start of a program.
func ExampleNew() {
	_, err := smtpmail.New(smtpmail.Config{Host: "mail.example.com", Username: "chat"})
	fmt.Println(err)

	sender, err := smtpmail.New(smtpmail.Config{Host: "mail.example.com", Username: "chat", Password: "of-the-mail-server"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer sender.Close()
	fmt.Println("mails go by STARTTLS on port 587")
	// Output:
	// smtpmail: Config.Username and Password must both be set, or neither
	// mails go by STARTTLS on port 587
}
