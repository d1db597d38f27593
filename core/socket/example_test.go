package socket_test

import (
	"fmt"
	"net/http/httptest"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
)

// A handshake decides whether a request becomes a connection, whose, and what it speaks. A page of another
// site does not get in, whatever cookies or tokens its browser has.
func ExampleHandshake() {
	who := memory.NewAuthenticator()
	who.AllowToken("secret", user.Identity{UserID: "ada", Name: "Ada"})
	handshake, err := socket.NewHandshake(socket.HandshakeConfig{
		Authenticator: who, Origins: []string{"https://app.example.com"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ask := func(origin, token string) {
		r := httptest.NewRequest("GET", "https://chat.example.com/socket", nil)
		r.Header.Set("Origin", origin)
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Sec-WebSocket-Protocol", socket.Protocol)
		hello, err := handshake.Check(r)
		if err != nil {
			fmt.Println(fault.KindOf(err).Status(), err)
			return
		}
		fmt.Println(hello.Identity.Name, hello.Protocol)
	}
	ask("https://chat.example.com", "secret")
	ask("https://app.example.com", "secret")
	ask("https://evil.example.com", "secret")
	ask("https://app.example.com", "stolen")
	// Output:
	// Ada parley.v1
	// Ada parley.v1
	// 403 this origin is not allowed
	// 401 the token or ticket is not known
}
