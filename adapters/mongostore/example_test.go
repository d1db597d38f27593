package mongostore_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/adapters/mongostore"
)

func ExampleOpen() {
	// An address where nobody answers; the error is one line, without the password.
	_, err := mongostore.Open(context.Background(), "mongodb://parley:secret@127.0.0.1:1/parley?authSource=admin",
		mongostore.Config{Connections: 50, ConnectTimeout: 100 * time.Millisecond})
	fmt.Println(errors.Is(err, mongostore.ErrUnreachable))
	// Output:
	// true
}
