package system

import (
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/jwtauth"
	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/testkit/wsraw"
)

// transports runs a test with each transport, side by side.
func transports(t *testing.T, test func(t *testing.T, cfg Config)) {
	for _, transport := range []Transport{NBIO, Net} {
		t.Run(transport.String(), func(t *testing.T) {
			t.Parallel()
			test(t, Config{Transport: transport})
		})
	}
}

// shake asks for a socket and returns the answer to the handshake.
func shake(t *testing.T, s *System, query string, header http.Header) Answer {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t), http.MethodGet, s.URL+"/socket"+query, nil)
	require.NoError(t, err)
	req.Header = http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"MDEyMzQ1Njc4OWFiY2RlZg=="},
	}
	for name, values := range header {
		req.Header[name] = values
	}
	res, err := s.client.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	if res.StatusCode == http.StatusSwitchingProtocols {
		return Answer{Status: res.StatusCode, Header: res.Header}
	}
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return Answer{Status: res.StatusCode, Header: res.Header, Body: body}
}

// refused requires that the answer is a problem document with this status and code.
func refused(t *testing.T, a Answer, status int, code string) {
	t.Helper()
	require.Equal(t, status, a.Status, "%s", a.Body)
	require.Equal(t, "application/problem+json", a.Header.Get("Content-Type"))
	var problem struct {
		Type, Title, Code string
		Status            int
	}
	require.NoError(t, json.Unmarshal(a.Body, &problem), "%s", a.Body)
	require.Equal(t, status, problem.Status)
	require.Equal(t, code, problem.Code)
	require.NotEmpty(t, problem.Type)
	require.NotEmpty(t, problem.Title)
}

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

// ticket asks for a ticket.
func ticket(t *testing.T, s *System, u User) string {
	t.Helper()
	var answer struct{ Ticket string }
	s.Call(t, http.MethodPost, "/auth/socket-ticket", u.AccessToken, nil, http.StatusOK, &answer)
	return answer.Ticket
}

// forge makes a token with the claims of a good one, another header, and a signature of the
// forger's own.
func forge(t *testing.T, token string, change func(header map[string]any), sign func(signed []byte) []byte) string {
	t.Helper()
	parts := strings.Split(token, ".")
	require.Len(t, parts, 3)
	raw, err := base64.RawURLEncoding.DecodeString(parts[0])
	require.NoError(t, err)
	header := map[string]any{}
	require.NoError(t, json.Unmarshal(raw, &header))
	change(header)
	raw, err = json.Marshal(header)
	require.NoError(t, err)
	signed := base64.RawURLEncoding.EncodeToString(raw) + "." + parts[1]
	return signed + "." + base64.RawURLEncoding.EncodeToString(sign([]byte(signed)))
}

func TestSocket_refusesBeforeTheUpgrade(t *testing.T) {
	t.Parallel()
	transports(t, func(t *testing.T, cfg Config) {
		s := Start(t, cfg)
		ada := s.User(t, "Ada")
		_, foreign, err := ed25519.GenerateKey(rand.Reader)
		require.NoError(t, err)
		same := func(map[string]any) {}
		foreignKeys, err := jwtauth.NewKeys(jwtauth.KeysConfig{})
		require.NoError(t, err)
		stranger, err := jwtauth.NewIssuer(jwtauth.IssuerConfig{Keys: foreignKeys, Issuer: "parley-test"})
		require.NoError(t, err)
		foreignToken, err := stranger.Issue(t.Context(), auth.Claims{
			ID: "1", Audience: auth.AudienceAPI, UserID: "1", Name: "Eve", SessionID: "1",
			IssuedAt: s.Now(), ExpiresAt: s.Now().Add(time.Minute),
		})
		require.NoError(t, err)
		used := ticket(t, s, ada)
		require.Equal(t, http.StatusSwitchingProtocols, shake(t, s, "?ticket="+used, nil).Status)

		good := ada.AccessToken
		cut := strings.LastIndexByte(good, '.')
		tokens := map[string]string{
			"empty":         "",
			"garbage":       "no.such.token",
			"unsigned":      good[:cut+1],
			"no third part": good[:cut],
			"alg none":      forge(t, good, func(h map[string]any) { h["alg"] = "none" }, func([]byte) []byte { return nil }),
			"alg None":      forge(t, good, func(h map[string]any) { h["alg"] = "None" }, func([]byte) []byte { return []byte{} }),
			"public key as secret": forge(t, good, func(h map[string]any) { h["alg"] = "HS256" }, func(b []byte) []byte {
				mac := hmac.New(sha256.New, s.keys.JWKS())
				mac.Write(b)
				return mac.Sum(nil)
			}),
			"foreign signature under our kid": forge(t, good, same, func(b []byte) []byte { return ed25519.Sign(foreign, b) }),
			"foreign key in the header": forge(t, good, func(h map[string]any) {
				h["jwk"] = map[string]any{"kty": "OKP", "crv": "Ed25519", "x": base64.RawURLEncoding.EncodeToString(foreign.Public().(ed25519.PublicKey))}
			}, func(b []byte) []byte { return ed25519.Sign(foreign, b) }),
			"foreign key":   foreignToken,
			"refresh token": ada.RefreshToken,
			"ticket":        ticket(t, s, ada),
			"a megabyte":    strings.Repeat("a", 1<<19), // net/http takes a megabyte of headers
			"NUL":           "a.b%00.c",
		}
		for name, token := range tokens {
			t.Run("bearer "+name, func(t *testing.T) {
				refused(t, shake(t, s, "", bearer(token)), http.StatusUnauthorized, "token_invalid")
			})
		}
		t.Run("garbage in a subprotocol", func(t *testing.T) {
			refused(t, shake(t, s, "", http.Header{"Sec-Websocket-Protocol": {"parley.v1, bearer.no.such.token"}}), http.StatusUnauthorized, "token_invalid")
		})
		t.Run("no credentials", func(t *testing.T) {
			refused(t, shake(t, s, "", nil), http.StatusUnauthorized, "no_credentials")
		})
		t.Run("ticket used twice", func(t *testing.T) {
			refused(t, shake(t, s, "?ticket="+used, nil), http.StatusUnauthorized, "token_invalid")
		})
		t.Run("access token as ticket", func(t *testing.T) {
			refused(t, shake(t, s, "?ticket="+good, nil), http.StatusUnauthorized, "token_invalid")
		})
		for _, origin := range []string{"https://evil.example", "null", "http://127.0.0.1.evil.example", "file://", "garbage"} {
			t.Run("origin "+origin, func(t *testing.T) {
				h := bearer(good)
				h.Set("Origin", origin)
				refused(t, shake(t, s, "", h), http.StatusForbidden, "origin_not_allowed")
			})
		}
		t.Run("own origin", func(t *testing.T) {
			h := bearer(good)
			h.Set("Origin", s.URL)
			require.Equal(t, http.StatusSwitchingProtocols, shake(t, s, "", h).Status)
		})
		t.Run("good token in a subprotocol", func(t *testing.T) {
			a := shake(t, s, "", http.Header{"Sec-Websocket-Protocol": {"bearer." + good + ", parley.v1"}})
			require.Equal(t, http.StatusSwitchingProtocols, a.Status)
			require.Equal(t, socket.Protocol, a.Header.Get("Sec-Websocket-Protocol"), "the token is not repeated")
		})
		t.Run("wrong subprotocol", func(t *testing.T) {
			h := bearer(good)
			h.Set("Sec-Websocket-Protocol", "parley.v0, chat")
			refused(t, shake(t, s, "", h), http.StatusUnprocessableEntity, "protocol_not_supported")
		})
		// The last ones move the clock.
		late := ticket(t, s, ada)
		t.Run("ticket after its time", func(t *testing.T) {
			s.Advance(31 * time.Second)
			refused(t, shake(t, s, "?ticket="+late, nil), http.StatusUnauthorized, "token_invalid")
		})
		t.Run("expired", func(t *testing.T) {
			require.Equal(t, http.StatusSwitchingProtocols, shake(t, s, "", bearer(good)).Status)
			s.Advance(15 * time.Minute)
			refused(t, shake(t, s, "", bearer(good)), http.StatusUnauthorized, "token_invalid")
		})
	})
}

// witnesses are two people who talk while something else goes on.
type witnesses struct {
	t     *testing.T
	talks *wsclient.Client
	heard chan string
}

func newWitnesses(t *testing.T, s *System) *witnesses {
	t.Helper()
	w := &witnesses{t: t, heard: make(chan string, 1024)}
	w.talks = s.Dial(t, s.User(t, "Ada"), nil)
	listens := s.Dial(t, s.User(t, "Bob"), func(e wsclient.Event) {
		if e.Kind == wsclient.EventMessage {
			w.heard <- e.Message.Text
		}
		if e.Kind == wsclient.EventDisconnected {
			w.heard <- "disconnected"
		}
	})
	for _, c := range []*wsclient.Client{listens, w.talks} {
		_, err := c.Join(within(t), "tea")
		require.NoError(t, err)
	}
	return w
}

// talk requires that a message gets through.
func (w *witnesses) talk(text string) {
	w.t.Helper()
	_, err := w.talks.Send(within(w.t), "tea", text)
	require.NoError(w.t, err)
	select {
	case got := <-w.heard:
		require.Equal(w.t, text, got)
	case <-within(w.t).Done():
		w.t.Fatalf("%q was not heard", text)
	}
}

func text(payload string) wsraw.Frame {
	return wsraw.Frame{Final: true, Opcode: wsraw.OpText, Payload: []byte(payload)}
}

func TestSocket_closesHostileClientsAlone(t *testing.T) {
	t.Parallel()
	const textMax = 64 << 10
	say := func(s string) []wsraw.Frame { return []wsraw.Frame{text(s)} }
	cases := []struct {
		name   string
		frames []wsraw.Frame
		code   int
	}{
		{"cut JSON", say(`{"event":`), 4400},
		{"two values", say(`{"event":"healthCheck"} {}`), 4400},
		{"a list", say(`[]`), 4400},
		{"null", say(`null`), 4400},
		{"nothing", say(``), 4400},
		{"a number", say(`1e999999`), 4400},
		{"lists without end", say(strings.Repeat("[", 60_000)), 4400},
		{"objects without end", say(`{"event":"healthCheck","data":` + strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_001)), 4400},
		{"no event", say(`{"id":1}`), 4400},
		{"unknown event", say(`{"event":"drop_tables","data":{}}`), 4400},
		{"event of the server", say(`{"event":"joined","data":{"room":"tea"}}`), 4400},
		{"event in capitals", say(`{"event":"Message","data":{"room":"tea","text":"x"}}`), 4400},
		{"event is a number", say(`{"event":7}`), 4400},
		{"id is text", say(`{"id":"1","event":"healthCheck"}`), 4400},
		{"id is negative", say(`{"id":-1,"event":"healthCheck"}`), 4400},
		{"id is a fraction", say(`{"id":1.5,"event":"healthCheck"}`), 4400},
		{"id is too large", say(`{"id":9007199254740993,"event":"healthCheck"}`), 4400},
		{"room is a number", say(`{"event":"join_room","data":{"room":5}}`), 4400},
		{"room is null", say(`{"event":"join_room","data":{"room":null}}`), 4400},
		{"room is missing", say(`{"event":"join_room","data":{}}`), 4400},
		{"data is missing", say(`{"event":"join_room"}`), 4400},
		{"data is a list", say(`{"event":"join_room","data":["tea"]}`), 4400},
		{"typing is text", say(`{"event":"isTyping","data":{"room":"tea","typing":"yes"}}`), 4400},
		{"since is negative", say(`{"event":"join_room","data":{"room":"tea","since":-1}}`), 4400},
		{"unknown member", say(`{"event":"join_room","data":{"room":"tea"},"admin":true}`), 4400},
		{"unknown field", say(`{"event":"join_room","data":{"room":"tea","userId":"root"}}`), 4400},
		{"member twice", say(`{"event":"join_room","event":"healthCheck","data":{"room":"tea"}}`), 4400},
		{"field twice", say(`{"event":"join_room","data":{"room":"tea","room":"tea"}}`), 4400},
		{"NUL escaped", say(`{"event":"message","data":{"room":"tea","text":"a\u0000b"}}`), 4400},
		{"NUL raw", say("{\"event\":\"message\",\"data\":{\"room\":\"tea\",\"text\":\"a\x00b\"}}"), 4400},
		{"NUL in a room", say(`{"event":"join_room","data":{"room":"a\u0000b"}}`), 4400},
		{"half a surrogate", say(`{"event":"message","data":{"room":"tea","text":"\ud800"}}`), 4400},
		{"empty text", say(`{"event":"message","data":{"room":"tea","text":""}}`), 4400},
		{"room of 10,000 characters", say(`{"event":"join_room","data":{"room":"` + strings.Repeat("a", 10_000) + `"}}`), 4400},
		{"text of 60,000 characters", say(`{"event":"message","data":{"room":"tea","text":"` + strings.Repeat("a", 60_000) + `"}}`), 4400},
		{"invalid UTF-8", say("{\"event\":\"join_room\",\"data\":{\"room\":\"\xff\xfe\"}}"), 1007},
		{"overlong UTF-8", say("\"\xc0\x80\""), 1007},
		{"binary", []wsraw.Frame{{Final: true, Opcode: wsraw.OpBinary, Payload: []byte(`{"event":"healthCheck"}`)}}, 4400},
		{"too large", say(`"` + strings.Repeat("a", textMax) + `"`), 4413},
		{"too large in parts", []wsraw.Frame{
			{Opcode: wsraw.OpText, Payload: []byte(strings.Repeat("a", 40<<10))},
			{Final: true, Opcode: wsraw.OpContinuation, Payload: []byte(strings.Repeat("a", 40<<10))},
		}, 4413},
		{"unmasked", []wsraw.Frame{{Final: true, Opcode: wsraw.OpText, Unmasked: true, Payload: []byte("{}")}}, 1002},
		{"reserved bits", []wsraw.Frame{{Final: true, Reserved: 4, Opcode: wsraw.OpText, Payload: []byte("{}")}}, 1002},
		{"reserved opcode", []wsraw.Frame{{Final: true, Opcode: 3, Payload: []byte("{}")}}, 1002},
		{"continuation of nothing", []wsraw.Frame{{Final: true, Opcode: wsraw.OpContinuation, Payload: []byte("{}")}}, 1002},
		{"ping in parts", []wsraw.Frame{{Opcode: wsraw.OpPing}}, 1002},
		{"too fast", func() (frames []wsraw.Frame) {
			for range 1000 {
				frames = append(frames, text(`{"event":"isTyping","data":{"room":"tea"}}`))
			}
			return frames
		}(), 4429},
	}
	transports(t, func(t *testing.T, cfg Config) {
		s := Start(t, cfg)
		w := newWitnesses(t, s)
		eve := s.User(t, "Eve")
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				r := s.DialRaw(t, eve.AccessToken)
				w.talk("while " + c.name)
				require.NoError(t, r.Send(c.frames...))
				code, reason, err := r.ReadClose()
				require.NoError(t, err)
				require.Equal(t, c.code, code, reason)
				require.NotContains(t, reason, "10000", "a reason repeats nothing long")
				w.talk("after " + c.name)
			})
		}
	})
}

func TestSocket_refusesWhatWasNotJoined(t *testing.T) {
	t.Parallel()
	transports(t, func(t *testing.T, cfg Config) {
		s := Start(t, cfg)
		w := newWitnesses(t, s)
		r := s.DialRaw(t, s.User(t, "Eve").AccessToken)
		for _, event := range []string{
			`{"id":1,"event":"message","data":{"room":"tea","text":"hello"}}`,
			`{"id":1,"event":"isTyping","data":{"room":"tea"}}`,
			`{"id":1,"event":"history","data":{"room":"tea"}}`,
			`{"id":1,"event":"presence","data":{"room":"tea"}}`,
		} {
			require.NoError(t, r.Send(text(event)))
			f, err := r.Read()
			require.NoError(t, err)
			require.Contains(t, string(f.Payload), `"code":"not_joined"`, event)
		}
		w.talk("alone") // and nothing of Eve's before it
	})
}

func TestVerify_takesACodeOnce(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, cfg Config) {
		s := Start(t, cfg)
		s.Call(t, http.MethodPost, "/auth/signup", "", map[string]string{"fullName": "Ada", "email": "ada@parley.test", "password": "a first pass phrase"}, http.StatusAccepted, nil)
		body := map[string]string{"code": s.Code(t, "ada@parley.test", 1)}
		const uses = 8
		statuses := make([]int, uses)
		release := make(chan struct{})
		var wg sync.WaitGroup
		for i := range statuses {
			wg.Go(func() {
				<-release
				if a, err := s.Do(t.Context(), http.MethodPost, "/auth/verify", "", body); err == nil {
					statuses[i] = a.Status
				}
			})
		}
		close(release)
		wg.Wait()
		count := map[int]int{}
		for _, status := range statuses {
			count[status]++
		}
		require.Equal(t, map[int]int{http.StatusOK: 1, http.StatusGone: uses - 1}, count)
		s.Call(t, http.MethodPost, "/auth/verify", "", body, http.StatusGone, nil)
	})
}

func TestRefresh_twiceEndsTheFamily(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, cfg Config) {
		s := Start(t, cfg)
		w := newWitnesses(t, s)
		ada := s.User(t, "Ada")
		other := ada
		s.SignIn(t, &other) // another session of the same user
		first := s.DialRaw(t, ada.AccessToken)
		second := s.DialRaw(t, other.AccessToken)

		var grant struct{ AccessToken, RefreshToken string }
		s.Call(t, http.MethodPost, "/auth/refresh", "", map[string]string{"refreshToken": ada.RefreshToken}, http.StatusOK, &grant)
		renewed := s.DialRaw(t, grant.AccessToken)
		s.Advance(10 * time.Second) // until then the answer may have been lost
		s.Call(t, http.MethodPost, "/auth/refresh", "", map[string]string{"refreshToken": ada.RefreshToken}, http.StatusUnauthorized, nil)

		for _, r := range []*wsraw.Conn{first, renewed} {
			code, _, err := r.ReadClose()
			require.NoError(t, err)
			require.Equal(t, socket.CloseUnauthenticated, code)
		}
		s.Call(t, http.MethodPost, "/auth/refresh", "", map[string]string{"refreshToken": grant.RefreshToken}, http.StatusUnauthorized, nil)
		s.Call(t, http.MethodGet, "/auth/me", grant.AccessToken, nil, http.StatusUnauthorized, nil)
		refused(t, shake(t, s, "", bearer(grant.AccessToken)), http.StatusUnauthorized, "session_ended")
		// The other session lives.
		s.Call(t, http.MethodGet, "/auth/me", other.AccessToken, nil, http.StatusOK, nil)
		require.NoError(t, second.Send(text(`{"id":1,"event":"join_room","data":{"room":"tea"}}`)))
		f, err := second.Read()
		require.NoError(t, err)
		require.Contains(t, string(f.Payload), `"event":"ack"`)
		w.talk("still here")
	})
}

// TestRefresh_concurrentUsesHaveOneSuccessor uses one token many times at once, as copied tabs do.
func TestRefresh_concurrentUsesHaveOneSuccessor(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, cfg Config) {
		s := Start(t, cfg)
		ada := s.User(t, "Ada")
		release := make(chan struct{})
		tokens := make([]string, 6)
		var wg sync.WaitGroup
		for i := range tokens {
			wg.Go(func() {
				<-release
				var grant struct{ AccessToken, RefreshToken string }
				a, err := s.Do(context.Background(), http.MethodPost, "/auth/refresh", "", map[string]string{"refreshToken": ada.RefreshToken})
				assert.NoError(t, err)
				assert.Equal(t, http.StatusOK, a.Status, "%s", a.Body)
				assert.NoError(t, json.Unmarshal(a.Body, &grant))
				tokens[i] = grant.RefreshToken
			})
		}
		close(release)
		wg.Wait()
		for _, token := range tokens {
			require.Equal(t, tokens[0], token)
		}
		s.Call(t, http.MethodPost, "/auth/refresh", "", map[string]string{"refreshToken": tokens[0]}, http.StatusOK, nil)
	})
}

// TestSocket_endsWithItsToken lets time pass: a socket ends when its access token does, and one that
// a ticket opened when the token ends that asked for the ticket, unless it is renewed.
func TestSocket_endsWithItsToken(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped by -short: tokens have to expire")
	}
	t.Parallel()
	everywhere(t, func(t *testing.T, cfg Config) {
		cfg.Auth.AccessTTL = time.Minute
		s := Start(t, cfg)
		ada := s.User(t, "Ada")
		byToken := s.DialRaw(t, ada.AccessToken)
		s.Advance(50 * time.Second)
		var ticket struct{ Ticket string }
		s.Call(t, http.MethodPost, "/auth/socket-ticket", ada.AccessToken, nil, http.StatusOK, &ticket)
		byTicket, err := wsraw.Dial(within(t), s.SocketURL+"?ticket="+ticket.Ticket, http.Header{"Sec-WebSocket-Protocol": {socket.Protocol}}, nil)
		require.NoError(t, err)
		renewed := s.DialRaw(t, ada.AccessToken)
		var grant struct{ AccessToken, RefreshToken string }
		s.Call(t, http.MethodPost, "/auth/refresh", "", map[string]string{"refreshToken": ada.RefreshToken}, http.StatusOK, &grant)
		require.NoError(t, renewed.Send(text(`{"id":1,"event":"renew","data":{"token":"`+grant.AccessToken+`"}}`)))
		f, err := renewed.Read()
		require.NoError(t, err)
		// The old token has 10 seconds left, the new one has a minute; how much of it has gone, the machine decides.
		require.Regexp(t, `^\{"id":1,"event":"ack","data":\{"expiresIn":([2-5][0-9]|60)\}\}$`, string(f.Payload))
		s.Advance(10 * time.Second)
		for _, r := range []*wsraw.Conn{byToken, byTicket} {
			code, reason, err := r.ReadClose()
			require.NoError(t, err)
			require.Equal(t, socket.CloseUnauthenticated, code)
			require.Equal(t, "the token has expired", reason)
		}
		require.NoError(t, renewed.Send(text(`{"id":2,"event":"join_room","data":{"room":"tea"}}`)))
		f, err = renewed.Read()
		require.NoError(t, err)
		require.Contains(t, string(f.Payload), `"event":"ack"`)
		s.Advance(50 * time.Second)
		code, _, err := renewed.ReadClose()
		require.NoError(t, err)
		require.Equal(t, socket.CloseUnauthenticated, code)
	})
}

// TestSessions_endTheirSockets ends sessions in the ways in which others end than one's own.
func TestSessions_endTheirSockets(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, cfg Config) {
		s := Start(t, cfg)
		w := newWitnesses(t, s)
		here := s.User(t, "Carol")
		there := here
		s.SignIn(t, &there)
		mine, other := s.DialRaw(t, here.AccessToken), s.DialRaw(t, there.AccessToken)
		closed := func(r *wsraw.Conn) {
			t.Helper()
			code, _, err := r.ReadClose()
			require.NoError(t, err)
			require.Equal(t, socket.CloseUnauthenticated, code)
		}

		change := map[string]string{"current": here.Password, "password": "quite another pass phrase"}
		s.Call(t, http.MethodPost, "/auth/password/change", here.AccessToken, change, http.StatusNoContent, nil)
		closed(other)
		s.Call(t, http.MethodPost, "/auth/refresh", "", map[string]string{"refreshToken": there.RefreshToken}, http.StatusUnauthorized, nil)
		require.NoError(t, mine.Send(text(`{"id":1,"event":"join_room","data":{"room":"tea"}}`)))
		f, err := mine.Read()
		require.NoError(t, err)
		require.Contains(t, string(f.Payload), `"event":"ack"`, "the session that changed the password lives")

		there.Password = change["password"]
		s.SignIn(t, &there)
		other = s.DialRaw(t, there.AccessToken)
		s.Call(t, http.MethodPost, "/auth/signout/all", there.AccessToken, nil, http.StatusNoContent, nil)
		closed(other)
		closed(mine)
		w.talk("others go on")
	})
}
