package asyncapi_test

import (
	"bytes"
	"fmt"

	"github.com/parley-chat/parley/adapters/asyncapi"
	"github.com/parley-chat/parley/core/protocol"
)

// The document is of Parley's events and of those that an application has registered.
func ExampleDocument() {
	_, text, err := asyncapi.Document(asyncapi.Config{
		Schema: protocol.Own(), Title: "Chat", Version: "1.0.0", Server: "chat.example.com", ReasonHeader: "reason",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	fmt.Printf("%s\n", line)
	// Output: asyncapi: 3.0.0
}
