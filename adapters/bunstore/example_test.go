package bunstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/core/chat"
)

func ExampleOpenSQLite() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "parley")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()

	store, err := bunstore.OpenSQLite(ctx, filepath.Join(dir, "parley.db"), bunstore.SQLiteConfig{})
	if err != nil {
		fmt.Println(err) // one line: damaged, locked, not writable, or from a newer program
		return
	}
	defer func() {
		if err := store.Close(); err != nil {
			fmt.Println(err)
		}
	}()
	if err := store.Migrate(ctx); err != nil {
		fmt.Println(err)
		return
	}

	ada := chat.Author{ID: "u1", Name: "Ada"}
	hello := chat.Message{Room: "lobby", ID: "m1", ClientID: "c1", Author: ada, Text: "Hello", At: time.Now()}
	for range 2 { // sending again, because the answer was lost, say
		stored, err := store.Messages().Append(ctx, []chat.Message{hello})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(stored[0].Seq, stored[0].Text, stored[0].Repeated)
	}
	// Output:
	// 1 Hello false
	// 1 Hello true
}

func ExampleOpenPostgres() {
	ctx := context.Background()
	_, err := bunstore.OpenPostgres(ctx, "postgres://parley:secret@127.0.0.1:1/parley?sslmode=disable", bunstore.Config{Connections: 20})
	fmt.Println(errors.Is(err, bunstore.ErrUnreachable))
	_, err = bunstore.OpenMySQL(ctx, "mysql://parley:secret@127.0.0.1:1/parley", bunstore.Config{})
	fmt.Println(errors.Is(err, bunstore.ErrUnreachable))
	// Output:
	// true
	// true
}
