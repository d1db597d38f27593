package webhook_test

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/parley-chat/parley/adapters/webhook"
	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
)

var (
	secret = "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("k"), 24))
	newer  = "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("n"), 64))
	hello  = chat.Draft{Room: "hall", ClientID: "c-1", Author: chat.Author{ID: "u-ada", Name: "Ada"}, Text: "Hello, <b>Böb</b>."}
)

// serve runs a server that handle answers for, and returns a screen that asks it.
func serve(t testing.TB, change func(*webhook.Config), handle http.HandlerFunc) *webhook.Screen {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	return at(t, server.URL+"/screen", change)
}

func at(t testing.TB, url string, change func(*webhook.Config)) *webhook.Screen {
	t.Helper()
	cfg := webhook.Config{URL: url, Secrets: []string{secret}, Private: true}
	if change != nil {
		change(&cfg)
	}
	s, err := webhook.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return s
}

// says answers with a body as JSON.
func says(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		fmt.Fprint(w, body)
	}
}

func TestContract(t *testing.T) {
	contract.On(t, "webhook", "")
	contract.Run(t, contract.Screen(), func(t *testing.T) contract.Screened {
		var mu sync.Mutex
		free := make(chan struct{})
		close(free)
		s := serve(t, nil, func(w http.ResponseWriter, r *http.Request) {
			var q struct{ Text string }
			assert.NoError(t, json.NewDecoder(r.Body).Decode(&q))
			mu.Lock()
			waits := free
			mu.Unlock()
			select {
			case <-waits:
			case <-r.Context().Done():
				return
			}
			switch q.Text {
			case "change":
				says(`{"allow":true,"text":"changed","data":{"n":2}}`)(w, r)
			case "refuse":
				says(`{"allow":false,"reason":"so it is"}`)(w, r)
			default:
				says(`{"allow":true}`)(w, r)
			}
		})
		return contract.Screened{
			Screen: s, Passes: chat.Draft{Room: "hall", Text: "pass", Data: `{"n":1}`}, Changes: chat.Draft{Room: "hall", Text: "change", Data: `{"n":1}`}, Refuses: chat.Draft{Room: "hall", Text: "refuse"},
			Stall: func(context.Context) (func(), error) {
				mu.Lock()
				defer mu.Unlock()
				stalled := make(chan struct{})
				free = stalled
				return func() { close(stalled) }, nil
			},
		}
	})
}

// What a server gets is what the package comment says.
func TestRequest(t *testing.T) {
	noon := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	var got http.Header
	var body []byte
	s := serve(t, func(c *webhook.Config) {
		c.Secrets, c.Now, c.NewID = []string{secret, newer}, func() time.Time { return noon }, func() string { return "msg_1" }
	}, func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "POST /screen", r.Method+" "+r.URL.Path)
		got = r.Header.Clone()
		body, _ = io.ReadAll(r.Body)
		says(`{"allow":true}`)(w, r)
	})
	d, err := s.Screen(t.Context(), hello)
	require.NoError(t, err)
	require.Equal(t, hello, d)
	assert.JSONEq(t, `{"type":"message.screen","room":"hall","user":{"id":"u-ada","name":"Ada"},"text":"Hello, <b>Böb</b>.","clientId":"c-1"}`, string(body))
	assert.Equal(t, "application/json", got.Get("Content-Type"))
	assert.Equal(t, "msg_1", got.Get("Webhook-Id"))
	assert.Equal(t, "1777896000", got.Get("Webhook-Timestamp"))
	assert.Len(t, strings.Fields(got.Get("Webhook-Signature")), 2)
	assert.NotContains(t, got, "Idempotency-Key")
	for _, known := range []string{secret, newer} {
		require.NoError(t, webhook.Verify([]string{known}, got, body, noon))
	}

	_, err = s.Screen(t.Context(), chat.Draft{Room: "hall", Text: "x"})
	require.NoError(t, err)
	assert.NotContains(t, string(body), "clientId")
	assert.NotContains(t, string(body), "replyTo")
	assert.NotContains(t, string(body), "data")

	_, err = s.Screen(t.Context(), chat.Draft{Room: "hall", Text: "x", ReplyTo: 7, Data: `{"mood":["<angry>",1.0]}`})
	require.NoError(t, err)
	assert.JSONEq(t, `{"type":"message.screen","room":"hall","user":{"id":"","name":""},"text":"x","replyTo":7,"data":{"mood":["<angry>",1.0]}}`, string(body))

	_, err = s.Screen(t.Context(), chat.Draft{Room: "hall", Text: "x", Edits: 7})
	require.NoError(t, err)
	assert.JSONEq(t, `{"type":"message.screen","room":"hall","user":{"id":"","name":""},"text":"x","edits":7}`, string(body))

	require.NoError(t, s.SetSecrets([]string{newer}))
	_, err = s.Screen(t.Context(), hello)
	require.NoError(t, err)
	require.NoError(t, webhook.Verify([]string{newer}, got, body, noon))
	require.ErrorIs(t, webhook.Verify([]string{secret}, got, body, noon), webhook.ErrNotSigned)
	require.Error(t, s.SetSecrets([]string{"whsec_short"}))
}

// The example of the specification's own libraries.
func TestSignatureOfTheSpecification(t *testing.T) {
	h := http.Header{}
	body, when := []byte(`{"test": 2432232314}`), time.Unix(1614265330, 0)
	secrets := []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
	require.NoError(t, webhook.Sign(h, secrets, "msg_p5jXN8AQM9LWM0D4loKWxJek", when, body))
	require.Equal(t, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", h.Get("webhook-signature"))
	require.NoError(t, webhook.Verify(secrets, h, body, when.Add(webhook.Tolerance)))

	for name, change := range map[string]func(h http.Header){
		"another id":        func(h http.Header) { h.Set("webhook-id", "msg_2") },
		"no id":             func(h http.Header) { h.Del("webhook-id") },
		"another time":      func(h http.Header) { h.Set("webhook-timestamp", "1614265331") },
		"no time":           func(h http.Header) { h.Set("webhook-timestamp", "soon") },
		"no signature":      func(h http.Header) { h.Del("webhook-signature") },
		"another version":   func(h http.Header) { h.Set("webhook-signature", "v1a"+h.Get("webhook-signature")[2:]) },
		"a bad signature":   func(h http.Header) { h.Set("webhook-signature", "v1,!!!") },
		"another signature": func(h http.Header) { h.Set("webhook-signature", "v1,AAAA") },
	} {
		changed := h.Clone()
		change(changed)
		require.ErrorIs(t, webhook.Verify(secrets, changed, body, when), webhook.ErrNotSigned, name)
	}
	among := h.Clone()
	among.Set("webhook-signature", "v1,AAAA v2,x "+h.Get("webhook-signature"))
	require.NoError(t, webhook.Verify([]string{secret, secrets[0]}, among, body, when))
	for _, at := range []time.Time{when.Add(webhook.Tolerance + time.Second), when.Add(-webhook.Tolerance - time.Second)} {
		require.ErrorIs(t, webhook.Verify(secrets, h, body, at), webhook.ErrNotSigned)
	}
	require.ErrorIs(t, webhook.Verify(secrets, h, append(body, ' '), when), webhook.ErrNotSigned)
	err := webhook.Verify([]string{"hunter2"}, h, body, when)
	require.Error(t, err)
	require.NotErrorIs(t, err, webhook.ErrNotSigned)
	require.NotContains(t, err.Error(), "hunter2")
}

func TestAnswers(t *testing.T) {
	const data = `{"mood":"angry"}`
	for body, want := range map[string]struct{ text, detail, data string }{
		`{"allow":true}`: {text: hello.Text},
		` {"allow":true,"text":null,"more":[1]}` + "\n":               {text: hello.Text},
		`{"allow":true,"text":"other","reason":"x"}`:                  {text: "other"},
		`{"allow":true,"text":""}`:                                    {text: ""}, // which core refuses
		`{"allow":true,"data":{ "mood": "calm" }}`:                    {text: hello.Text, data: `{ "mood": "calm" }`},
		`{"allow":true,"data":null}`:                                  {text: hello.Text, data: "-"},
		`{"allow":true,"data":"text"}`:                                {text: hello.Text, data: `"text"`}, // which core refuses
		`{"allow":false,"text":"other"}`:                              {detail: "-"},
		`{"allow":false,"reason":"no\u0000 \n%s news\u202e "}`:        {detail: "no  %s news"},
		`{"allow":false,"reason":"` + strings.Repeat("ü", 300) + `"}`: {detail: strings.Repeat("ü", 200)},
		`{"allow":false,"reason":"\u200b"}`:                           {detail: "-"},
	} {
		t.Run(body[:min(40, len(body))], func(t *testing.T) {
			said := hello
			said.Data = data
			d, err := serve(t, nil, says(body)).Screen(t.Context(), said)
			if want.detail == "" {
				require.NoError(t, err)
				require.Equal(t, want.text, d.Text)
				require.Equal(t, strings.TrimPrefix(cmp.Or(want.data, data), "-"), d.Data)
				return
			}
			require.ErrorIs(t, err, chat.ErrRefused)
			require.Equal(t, strings.TrimPrefix(want.detail, "-"), fault.Public(err).Detail)
		})
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer elsewhere.Close()
	typed := func(kind, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = []string{kind}
			fmt.Fprint(w, body)
		}
	}
	status := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Location", elsewhere.URL)
			w.WriteHeader(status)
			fmt.Fprint(w, `{"allow":true}`)
		}
	}
	for name, handle := range map[string]http.HandlerFunc{
		"nothing":          says(""),
		"no object":        says(`[true]`),
		"null":             says(`null`),
		"no verdict":       says(`{"text":"x"}`),
		"null verdict":     says(`{"allow":null}`),
		"a word":           says(`{"allow":"true"}`),
		"a number":         says(`{"allow":1}`),
		"no text":          says(`{"allow":true,"text":1}`),
		"two objects":      says(`{"allow":true}{"allow":false}`),
		"half an object":   says(`{"allow":true`),
		"HTML":             typed("text/html", `{"allow":true}`),
		"no type":          typed("", `{"allow":true}`),
		"a bad type":       typed("application/json; charset", `{"allow":true}`),
		"too large":        says(`{"allow":true,"x":"` + strings.Repeat("x", 64<<10) + `"}`),
		"large, of spaces": says(`{"allow":true}` + strings.Repeat(" ", 64<<10)),
		"endless": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for r.Context().Err() == nil {
				if _, err := fmt.Fprint(w, strings.Repeat(" ", 4096)); err != nil {
					return
				}
			}
		},
		"compressed": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			fmt.Fprint(z, `{"allow":true}`)
			z.Close()
		},
		"long headers": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("x", 32<<10))
			says(`{"allow":true}`)(w, r)
		},
		"a connection that ends": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"created":                status(201),
		"no content":             status(204),
		"moved":                  status(302),
		"moved, post again":      status(307),
		"not signed":             status(401),
		"failed":                 status(500),
	} {
		t.Run(name, func(t *testing.T) {
			d, err := serve(t, nil, handle).Screen(t.Context(), hello)
			require.ErrorIs(t, err, fault.Unavailable)
			require.Equal(t, hello, d)
			require.NotContains(t, err.Error(), hello.Text)
			require.NotContains(t, err.Error(), "whsec_")
			require.Empty(t, fault.Public(err).Detail)
		})
	}
}

// A server that is silent, that answers by drops, or that is not there.
func TestServersThatDoNotAnswer(t *testing.T) {
	drops := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"allow":`)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	silent := func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // until then the server does not notice that the client has gone
		<-r.Context().Done()
	}
	for name, handle := range map[string]http.HandlerFunc{"silent": silent, "drops": drops} {
		t.Run(name, func(t *testing.T) {
			_, err := serve(t, func(c *webhook.Config) { c.Timeout = 50 * time.Millisecond }, handle).Screen(t.Context(), hello)
			require.ErrorIs(t, err, fault.Unavailable)
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, err = serve(t, nil, handle).Screen(ctx, hello)
			require.ErrorIs(t, err, fault.Unavailable)
			require.ErrorIs(t, err, context.DeadlineExceeded)
		})
	}
	for _, url := range []string{"http://127.0.0.1:1/", "http://no-such-host.invalid/"} {
		_, err := at(t, url, nil).Screen(t.Context(), hello)
		require.ErrorIs(t, err, fault.Unavailable)
	}
}

// Calls that follow each other share a connection, also after answers that were no verdict; one that the server has closed
// meanwhile is replaced, without a failure.
func TestConnectionsAreUsedAgain(t *testing.T) {
	var connections atomic.Int64
	var n atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch n.Add(1) % 3 {
		case 0:
			w.WriteHeader(500)
		case 1:
			says(`{"allow":false}`)(w, r)
		default:
			says(`{"allow":true}`)(w, r)
		}
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	s := at(t, server.URL, nil)
	for range 30 {
		_, _ = s.Screen(t.Context(), hello)
	}
	require.EqualValues(t, 1, connections.Load())
	for range 10 {
		server.CloseClientConnections()
		n.Store(1)
		_, err := s.Screen(t.Context(), hello)
		require.NoError(t, err)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	const requests, most = 50, 3
	var connections atomic.Int64
	var asking, inside sync.WaitGroup // requests that want a connection, and the first that have one
	asking.Add(requests)
	inside.Add(most)
	var entered atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if entered.Add(1) <= most {
			inside.Done()
		}
		inside.Wait()
		asking.Wait()
		says(`{"allow":true}`)(w, r)
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	s := at(t, server.URL, func(c *webhook.Config) { c.MaxConnections = most })
	var wg sync.WaitGroup
	for range requests {
		wg.Go(func() {
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GetConn: func(string) { asking.Done() }})
			_, err := s.Screen(ctx, hello)
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	assert.EqualValues(t, most, connections.Load())
}

func TestAddressesOfThePublicInternet(t *testing.T) {
	for address, want := range map[string]bool{
		"8.8.8.8": true, "1.1.1.1": true, "172.15.0.1": true, "172.32.0.1": true, "100.63.0.1": true, "100.128.0.1": true, "223.255.255.254": true,
		"2606:4700:4700::1111": true, "2a00:1450:4001::1": true, "::ffff:8.8.8.8": true,
		"127.0.0.1": false, "127.255.0.1": false, "0.0.0.0": false, "0.1.2.3": false, "10.0.0.1": false, "172.16.0.1": false, "172.31.255.255": false, "192.168.1.1": false,
		"169.254.169.254": false, "100.64.0.1": false, "192.0.0.170": false, "192.0.2.1": false, "198.18.0.1": false, "198.51.100.1": false, "203.0.113.1": false,
		"224.0.0.1": false, "239.1.1.1": false, "240.0.0.1": false, "255.255.255.255": false,
		"::": false, "::1": false, "fe80::1": false, "fe80::1%eth0": false, "fec0::1": false, "fc00::1": false, "fd12::1": false, "ff02::1": false, "64:ff9b::7f00:1": false,
		"64:ff9b:1::1": false, "2001::1": false, "2001:db8::1": false, "2002:7f00:1::": false, "3fff::1": false, "::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false, "::127.0.0.1": false,
		"100::1": false, "5f00::1": false,
	} {
		assert.Equal(t, want, webhook.Public(netip.MustParseAddr(address)), address)
	}
}

// names is a server of names that says what address each question gets, one after the other, and the last from then on.
func names(t *testing.T, addresses ...string) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	go func() {
		buffer := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buffer[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Response, m.Additionals = true, nil
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
				m.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class}, Body: &dnsmessage.AResource{A: netip.MustParseAddr(addresses[0]).As4()},
				}}
				if len(addresses) > 1 {
					addresses = addresses[1:]
				}
			}
			if packed, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(packed, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// What counts is the address that is dialled: no name, and nothing that a name led to before.
func TestPrivateAddressesAreNotDialled(t *testing.T) {
	server := httptest.NewUnstartedServer(says(`{"allow":true}`))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	var reached atomic.Bool
	server.Config.ConnState = func(net.Conn, http.ConnState) { reached.Store(true) }
	server.StartTLS()
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	require.NoError(t, err)
	public := func(c *webhook.Config) { c.Private = false }
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433", "127.1"} {
		s := at(t, "https://"+host+":"+port+"/", public)
		webhook.Trust(s, server.Client().Transport.(*http.Transport))
		_, err := s.Screen(t.Context(), hello)
		require.ErrorIs(t, err, fault.Unavailable, host)
	}
	s := at(t, "https://example.com:"+port+"/", func(c *webhook.Config) { public(c); c.Timeout = 500 * time.Millisecond })
	webhook.Trust(s, server.Client().Transport.(*http.Transport))
	webhook.Resolve(s, names(t, "127.0.0.1"))
	for range 2 {
		_, err = s.Screen(t.Context(), hello)
		require.ErrorIs(t, err, fault.Unavailable)
		require.ErrorContains(t, err, "127.0.0.1:"+port+": it is not of the public internet")
	}
	require.False(t, reached.Load(), "a private address was dialled")

	// The same name and server, allowed.
	s = at(t, "https://example.com:"+port+"/", nil)
	webhook.Trust(s, server.Client().Transport.(*http.Transport))
	webhook.Resolve(s, names(t, "127.0.0.1"))
	_, err = s.Screen(t.Context(), hello)
	require.NoError(t, err)
}

// A proxy would connect in this process's place, past every look at the address. The environment is read once a process.
func TestNoProxyIsUsed(t *testing.T) {
	if os.Getenv("HTTP_PROXY") != nowhere {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestNoProxyIsUsed$")
		cmd.Env = append(os.Environ(), "HTTP_PROXY="+nowhere, "HTTPS_PROXY="+nowhere, "NO_PROXY=")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return
	}
	server := httptest.NewServer(says(`{"allow":true}`))
	defer server.Close()
	s := at(t, strings.Replace(server.URL, "127.0.0.1", "example.com", 1), nil)
	webhook.Resolve(s, names(t, "127.0.0.1"))
	_, err := s.Screen(t.Context(), hello)
	require.NoError(t, err)
}

// nowhere is a proxy that is not there.
const nowhere = "http://127.0.0.1:1"

func TestConfigIsChecked(t *testing.T) {
	good := webhook.Config{URL: "https://example.com/", Secrets: []string{secret}}
	for name, c := range map[string]struct {
		change func(*webhook.Config)
		says   string
	}{
		"no URL":         {func(c *webhook.Config) { c.URL = "" }, "Config.URL is missing"},
		"no address":     {func(c *webhook.Config) { c.URL = "example.com" }, "Config.URL"},
		"no host":        {func(c *webhook.Config) { c.URL = "https:///x" }, "Config.URL"},
		"another scheme": {func(c *webhook.Config) { c.URL = "ftp://example.com" }, "Config.URL"},
		"a password":     {func(c *webhook.Config) { c.URL = "https://u:hunter2@example.com" }, "Config.URL"},
		"a fragment":     {func(c *webhook.Config) { c.URL = "https://example.com/#x" }, "Config.URL"},
		"in the clear":   {func(c *webhook.Config) { c.URL = "http://example.com/" }, "Config.URL"},
		"no secret":      {func(c *webhook.Config) { c.Secrets = nil }, "Config.Secrets is missing"},
		"no prefix":      {func(c *webhook.Config) { c.Secrets = []string{strings.TrimPrefix(secret, "whsec_")} }, "number 1 is not whsec_"},
		"no base64":      {func(c *webhook.Config) { c.Secrets = []string{secret, "whsec_hunter2!"} }, "number 2 is not whsec_"},
		"a short secret": {func(c *webhook.Config) {
			c.Secrets = []string{"whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 23))}
		}, "24 to 64 bytes"},
		"a long secret": {func(c *webhook.Config) {
			c.Secrets = []string{"whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 65))}
		}, "24 to 64 bytes"},
		"many secrets":       {func(c *webhook.Config) { c.Secrets = bytesOf(9) }, "there are 9, not 1 to 8"},
		"a negative timeout": {func(c *webhook.Config) { c.Timeout = -1 }, "Timeout"},
		"negative answers":   {func(c *webhook.Config) { c.MaxAnswer = -1 }, "MaxAnswer"},
		"negative numbers":   {func(c *webhook.Config) { c.MaxConnections = -1 }, "MaxConnections"},
	} {
		cfg := good
		c.change(&cfg)
		_, err := webhook.New(cfg)
		require.ErrorContains(t, err, c.says, name)
		require.NotContains(t, err.Error(), "hunter2", name)
	}
	for _, url := range []string{"https://example.com", "https://[2606:4700::1]:8443/a?b=c"} {
		cfg := good
		cfg.URL = url
		_, err := webhook.New(cfg)
		require.NoError(t, err)
	}
}

func bytesOf(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = secret
	}
	return all
}

// An application's server refuses a message, and verifies who asks.
func Example() {
	secrets := []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
	application := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
		if err != nil || webhook.Verify(secrets, r.Header, body, time.Now()) != nil {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		var message struct{ Text string }
		_ = json.Unmarshal(body, &message)
		w.Header().Set("Content-Type", "application/json")
		if strings.Contains(message.Text, "spam") {
			fmt.Fprint(w, `{"allow":false,"reason":"no advertising"}`)
			return
		}
		fmt.Fprint(w, `{"allow":true}`)
	}))
	defer application.Close()

	screen, err := webhook.New(webhook.Config{URL: application.URL, Secrets: secrets, Private: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer screen.Close()
	for _, text := range []string{"Hello.", "Buy spam!"} {
		_, err := screen.Screen(context.Background(), chat.Draft{Room: "hall", Text: text})
		fmt.Println(err)
	}
	// Output:
	// <nil>
	// the message was refused: no advertising
}
