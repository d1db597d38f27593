package user_test

import (
	"fmt"

	"github.com/parley-chat/parley/core/user"
)

// An address is written in one way, so that it is found again however it was typed.
func ExampleParseEmail() {
	email, err := user.ParseEmail(" Ada@Example.COM ")
	fmt.Println(email, err)
	_, err = user.ParseEmail("ada")
	fmt.Println(err)
	// Output:
	// ada@example.com <nil>
	// the e-mail address is not valid
}
