package humaapi_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/parley-chat/parley/adapters/humaapi"
	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/auth"
)

func Example() {
	store, tokens := memory.NewStore(), memory.NewTokens(memory.TokensConfig{})
	accounts, err := auth.New(auth.Config{
		Users: store.Users, Sessions: store.Sessions, Codes: store.Codes, SignUps: store.SignUps, Nonces: store.Nonces,
		Hasher: memory.NewHasher(), Issuer: tokens, Verifier: tokens, Limiter: memory.NewLimiter(memory.LimiterConfig{}),
	})
	if err != nil {
		panic(err)
	}
	api, err := humaapi.New(http.NewServeMux(), humaapi.Config{Title: "My chat"})
	if err != nil {
		panic(err)
	}
	if err := humaapi.RegisterAuth(api, humaapi.AuthConfig{Service: accounts}); err != nil {
		panic(err)
	}

	answer := httptest.NewRecorder()
	api.ServeHTTP(answer, httptest.NewRequestWithContext(context.Background(), "GET", "/auth/me", nil))
	fmt.Println(answer.Code, answer.Body)
	// Output:
	// 401 {"type":"/problems/unauthenticated","title":"authentication is required","status":401,"code":"unauthenticated"}
}
