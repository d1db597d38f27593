package redisstore_test

import (
	"context"
	"fmt"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/parley-chat/parley/adapters/redisstore"
	"github.com/parley-chat/parley/core/auth"
)

// Several nodes share what they count in one Redis.
func ExampleOpen() {
	server, err := miniredis.Run() // in the place of a Redis
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	client, err := redisstore.Open("redis://" + server.Addr())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	store, err := redisstore.New(client, "chat:")
	if err != nil {
		fmt.Println(err)
		return
	}
	limiter := store.Limiter()
	now, twice := time.Now(), auth.Rate{Burst: 2, Per: time.Minute}
	for range 3 {
		wait, err := limiter.Allow(context.Background(), "sign-in ada", twice, now)
		fmt.Println(wait > 0, err)
	}
	// Output:
	// false <nil>
	// false <nil>
	// true <nil>
}
