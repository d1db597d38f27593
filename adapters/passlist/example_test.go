package passlist_test

import (
	"context"
	"fmt"

	"github.com/parley-chat/parley/adapters/passlist"
)

func ExampleNew() {
	list := passlist.New()
	for _, password := range []string{"password", "correct horse battery staple"} {
		common, err := list.Contains(context.Background(), password)
		fmt.Println(password, common, err)
	}
	// Output:
	// password true <nil>
	// correct horse battery staple false <nil>
}
