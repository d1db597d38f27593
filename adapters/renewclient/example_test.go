package renewclient_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/parley-chat/parley/adapters/renewclient"
	"github.com/parley-chat/parley/core/mail"
)

// A mailer that runs beside the accounts asks them for a new code before it writes a mail again.
func ExampleNew() {
	accounts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"data":%q}`, base64.StdEncoding.EncodeToString([]byte(`{"code":"123456"}`)))
	}))
	defer accounts.Close()
	client, err := renewclient.New(renewclient.Config{
		URL: accounts.URL + "/auth/mail/renew", Token: func() string { return "a token of administrators" },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	data, err := client.Renew(context.Background(), mail.Job{ID: "job-1", Data: []byte(`{"code":"000000"}`)})
	fmt.Println(string(data), err)
	// Output: {"code":"123456"} <nil>
}
