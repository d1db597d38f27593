package passrange_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/parley-chat/parley/adapters/passrange"
)

func ExampleNew() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "1E4C9B93F3F0682250B6CF8331B7EE68FD8:52256179") // in the place of https://api.pwnedpasswords.com/range/
	}))
	defer server.Close()
	list, err := passrange.New(passrange.Config{URL: server.URL + "/range/"})
	if err != nil {
		panic(err)
	}
	for _, password := range []string{"password", "correct horse battery staple"} {
		leaked, err := list.Contains(context.Background(), password)
		fmt.Println(password, leaked, err)
	}
	// Output:
	// password true <nil>
	// correct horse battery staple false <nil>
}
