package auth_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/mail"
)

// The life of an account: sign up, confirm the address by the mailed code, sign in, refresh,
// and what happens to a refresh token that comes twice.
func ExampleService() {
	store := memory.NewStore()
	tokens := memory.NewTokens(memory.TokensConfig{})
	service, err := auth.New(auth.Config{
		Users: store.Users, Sessions: store.Sessions, Codes: store.Codes, SignUps: store.SignUps, Nonces: store.Nonces,
		Hasher: memory.NewHasher(), Issuer: tokens, Verifier: tokens,
		Limiter: memory.NewLimiter(memory.LimiterConfig{}),
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	from := auth.Client{Address: "203.0.113.7"}

	err = service.SignUp(ctx, from, auth.SignUp{FullName: "Ada Lovelace", Email: "ada@example.com", Password: "correct horse"})
	fmt.Println("sign up:", err)
	_, err = service.SignIn(ctx, from, "ada@example.com", "correct horse")
	fmt.Println("sign in:", err)

	// The event was committed with the user. In a running system the mailer sends the code.
	events, err := store.Outbox.Pending(ctx, 1)
	if err != nil {
		log.Fatal(err)
	}
	var created mail.UserCreated
	if err := json.Unmarshal(events[0].Data, &created); err != nil {
		log.Fatal(err)
	}
	fmt.Println("verify:", service.Verify(ctx, created.VerificationCode))

	grant, err := service.SignIn(ctx, from, "ada@example.com", "correct horse")
	if err != nil {
		log.Fatal(err)
	}
	who, err := service.Authenticate(ctx, grant.AccessToken)
	fmt.Println("hello", who.Name, err)

	next, err := service.Refresh(ctx, grant.RefreshToken)
	fmt.Println("refresh:", err)
	again, err := service.Refresh(ctx, grant.RefreshToken)
	fmt.Println("the answer was lost:", again.RefreshToken == next.RefreshToken, err)
	_, err = service.Refresh(ctx, next.RefreshToken)
	fmt.Println("refresh:", err)
	_, err = service.Refresh(ctx, grant.RefreshToken)
	fmt.Println("a token from before:", errors.Is(err, auth.ErrSessionEnded))
	// Output:
	// sign up: <nil>
	// sign in: the e-mail address is not verified yet
	// verify: <nil>
	// hello Ada Lovelace <nil>
	// refresh: <nil>
	// the answer was lost: true <nil>
	// refresh: <nil>
	// a token from before: true
}
