package testkit_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/testkit"
)

func TestClock(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 3, 4, 6, 0, 0, 0, time.FixedZone("elsewhere", 3600))
	c := testkit.NewClock(start)
	if got := c.Now(); got != start.UTC() {
		t.Errorf("it shows %v, want %v", got, start.UTC())
	}
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() { c.Advance(time.Minute) })
	}
	all.Wait()
	if got, want := c.Now(), start.UTC().Add(10*time.Minute); got != want {
		t.Errorf("it shows %v, want %v", got, want)
	}
	if got, want := c.Advance(-time.Minute), start.UTC().Add(9*time.Minute); got != want {
		t.Errorf("it shows %v, want %v", got, want)
	}
	c.Set(start.Add(time.Hour))
	if got, want := c.Now(), start.UTC().Add(time.Hour); got != want {
		t.Errorf("it shows %v, want %v", got, want)
	}
	if got, want := testkit.NewClock(time.Time{}).Now(), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC); got != want {
		t.Errorf("by default it shows %v, want %v", got, want)
	}
}

func TestIDs(t *testing.T) {
	t.Parallel()
	ids := testkit.NewIDs("user")
	if got := []string{ids.Next(), ids.Next()}; !slices.Equal(got, []string{"user-00000001", "user-00000002"}) {
		t.Errorf("got %v", got)
	}
	var mu sync.Mutex
	seen := map[string]bool{}
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			id := ids.Next()
			mu.Lock()
			defer mu.Unlock()
			seen[id] = true
		})
	}
	all.Wait()
	if len(seen) != 100 {
		t.Errorf("%d of 100 identifiers differ", len(seen))
	}
}

func TestRandom(t *testing.T) {
	t.Parallel()
	read := func(seed uint64) []byte {
		p := make([]byte, 64)
		if n, err := testkit.NewRandom(seed).Read(p); n != len(p) || err != nil {
			t.Fatalf("read %d bytes, %v", n, err)
		}
		return p
	}
	if !bytes.Equal(read(1), read(1)) {
		t.Error("one seed gave two streams")
	}
	if bytes.Equal(read(1), read(1<<32+1)) {
		t.Error("two seeds gave one stream")
	}
}

func TestMailboxAwait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		box := testkit.NewMailbox()
		got := make(chan string, 1)
		go func() {
			m, err := box.Await(t.Context(), "Ada@example.com", 2)
			if err != nil {
				t.Error(err)
			}
			got <- m.ID
		}()
		for _, m := range []mail.Message{{ID: "1", To: "ada@example.com"}, {ID: "2", To: "bob@example.com"}} {
			if err := box.Send(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if len(got) != 0 {
			t.Fatal("it did not wait for the second mail")
		}
		if err := box.Send(t.Context(), mail.Message{ID: "3", To: "ada@example.com"}); err != nil {
			t.Fatal(err)
		}
		if id := <-got; id != "3" {
			t.Errorf("it returned mail %s, want 3", id)
		}
		if n := len(box.All()); n != 3 {
			t.Errorf("it holds %d mails, want 3", n)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := box.Await(ctx, "bob@example.com", 2); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("it returned %v", err)
		}
		if err := box.Send(ctx, mail.Message{}); !errors.Is(err, fault.Unavailable) {
			t.Errorf("after the end of its context it returned %v", err)
		}
		if n := len(box.All()); n != 3 {
			t.Errorf("it holds %d mails, want 3", n)
		}
		if _, err := box.Await(t.Context(), "bob@example.com", 0); err == nil {
			t.Error("it returned mail 0")
		}
	})
}

func TestLinkAndCode(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, link, code string }{
		{"", "", ""},
		{"no link, code=5", "", ""},
		{"see https://example.com.", "https://example.com", ""},
		{"confirm: http://localhost:5002/auth/verify?code=a-b_c.", "http://localhost:5002/auth/verify?code=a-b_c", "a-b_c"},
		{"help: https://example.com/help\nreset: <https://example.com/reset?lang=en&code=x%2By>\n", "https://example.com/reset?lang=en&code=x%2By", "x+y"},
		{"(https://example.com/#code=xyz)", "https://example.com/#code=xyz", "xyz"},
		{"https://example.com/#/reset?code=xyz", "https://example.com/#/reset?code=xyz", "xyz"},
		{"https://exa%mple.com/?code=1 https://example.com/?code=2", "https://example.com/?code=2", "2"},
	} {
		m := mail.Message{Text: c.text}
		link := ""
		u, err := testkit.Link(m)
		if err == nil {
			link = u.String()
		}
		if link != c.link || (err == nil) != (c.link != "") {
			t.Errorf("the link of %q is %q, %v; want %q", c.text, link, err, c.link)
		}
		code, err := testkit.Code(m)
		if code != c.code || (err == nil) != (c.code != "") {
			t.Errorf("the code of %q is %q, %v; want %q", c.text, code, err, c.code)
		}
	}
}

func TestCodeOfTheMailsOfCore(t *testing.T) {
	t.Parallel()
	templates, err := mail.NewTemplates(mail.TemplateConfig{PublicURL: "https://chat.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	for kind, data := range map[mail.Kind]string{
		mail.KindVerification:  `{"userId":"u","fullName":"Ada","email":"ada@example.com","verificationCode":"a-b_c","expiresAt":"2026-03-04T05:06:07Z"}`,
		mail.KindPasswordReset: `{"userId":"u","fullName":"Ada","email":"ada@example.com","resetCode":"a-b_c","expiresAt":"2026-03-04T05:06:07Z"}`,
	} {
		m, err := templates.Render(mail.Job{ID: "j", Kind: kind, To: "ada@example.com", Name: "Ada", Data: []byte(data)})
		if err != nil {
			t.Fatal(err)
		}
		if code, err := testkit.Code(m); code != "a-b_c" {
			t.Errorf("the code of %s is %q, %v", kind, code, err)
		}
	}
}
