package tokens_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/apps/internal/wire"
	"github.com/parley-chat/parley/core/protocol"
)

const (
	adminToken    = "the-token-of-operators"
	webhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
)

// asked says which kind of token an operation asks for. One that is not here fails the test: whoever adds it says what it asks for.
var asked = map[string]string{
	"none": `forgot-password health jwks link-page live ready refresh request-link resend-verification reset-password reset-password-form reset-password-page sign-in sign-in-by-link sign-in-factor sign-in-methods sign-up verify verify-form verify-page`,
	"access": `add-reaction add-totp ban-user block-user change-me change-password confirm-email confirm-totp create-room delete-me delete-message delete-room direct-room edit-message end-session factor get-room get-settings list-bans list-blocks list-members list-messages
		list-mutes list-rooms list-sessions mark-read me mute-user my-rooms new-recovery-codes reauthenticate remove-factor remove-member remove-reaction request-email send-message set-member sign-out sign-out-all socket-ticket unban-user unblock-user unmute-user update-room update-settings`,
	"admin": `admin-add-reaction admin-ban-user admin-create-room admin-delete-message admin-delete-room admin-direct-room admin-edit-message admin-get-room admin-list-bans admin-list-members admin-list-messages
		admin-list-mutes admin-list-rooms admin-mute-user admin-remove-member admin-remove-reaction admin-send-message admin-set-member admin-unban-user admin-unmute-user admin-update-room change-user create-user
		discard-event-aside discard-mail-job discard-mail-jobs discard-webhook-deliveries discard-webhook-delivery end-user-sessions erase-user export-user get-event-aside get-mail-job get-user get-webhook-delivery list-audit list-events-aside list-mail-jobs mail-user-password remove-user-factor
		list-users list-webhook-deliveries mail-stats replay-event-aside replay-events-aside replay-mail-job replay-mail-jobs replay-webhook-deliveries replay-webhook-delivery webhook-stats`,
}

// events says which events of a client carry a token. One that is in neither fails the test.
var carryToken, carryNone = []string{"renew"}, []string{"join_room", "leave_room", "message", "edit", "delete", "react", "mark", "isTyping", "history", "presence", "healthCheck"}

// whole is the all-in-one, with its addresses and one token of every kind.
type whole struct {
	url, admin string
	documents  [2][]byte
	kinds      map[string]string
	networks   atomic.Int64
}

// ask makes a request from a network of its own, so that no allowance of guesses stands in the way.
func (w *whole) ask(t *testing.T, method, url, token, body string) (int, []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	n := w.networks.Add(1)
	r.Header.Set("X-Forwarded-For", fmt.Sprintf("10.%d.%d.1", n/250%250, n%250))
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, text
}

func startWhole(t *testing.T) *whole {
	t.Helper()
	s, _, err := config.Load(config.Parley, []string{
		"--store", "memory:", "--data", t.TempDir(), "--docs-password", "x", "--drain-timeout", "1s", "--admin-token", adminToken, "--trusted-proxies", "127.0.0.0/8", "--socket-rate", "-1",
		"--webhook-url", "https://127.0.0.1:1/", "--webhook-secret", webhookSecret,
	}, nil, t.Output())
	require.NoError(t, err)
	w := &whole{kinds: map[string]string{"none": "", "admin": adminToken, "webhook secret": webhookSecret, "documents' password": "x"}}
	w.url = serveWith(t, s, func(app *wire.App) {
		for i, api := range []interface {
			Document(format string) ([]byte, error)
		}{app.API, app.AdminAPI} {
			w.documents[i], err = api.Document("json")
			require.NoError(t, err)
		}
		operators := httptest.NewServer(app.Admin)
		t.Cleanup(operators.Close)
		w.admin = operators.URL
	})
	status, _ := w.ask(t, "POST", w.url+"/auth/signup", "", `{"fullName":"Ada","email":"ada@example.com","password":"a long pass phrase"}`)
	require.Equal(t, http.StatusAccepted, status)
	w.kinds["verify code"] = w.code(t, "verify")
	status, text := w.ask(t, "POST", w.url+"/auth/verify", "", `{"code":"`+w.kinds["verify code"]+`"}`)
	require.Equal(t, http.StatusOK, status, "%s", text)
	status, _ = w.ask(t, "POST", w.url+"/auth/password/forgot", "", `{"email":"ada@example.com"}`)
	require.Equal(t, http.StatusAccepted, status)
	w.kinds["password code"] = w.code(t, "reset")
	w.signIn(t)
	return w
}

// signIn makes the tokens of a new session.
func (w *whole) signIn(t *testing.T) {
	t.Helper()
	status, text := w.ask(t, "POST", w.url+"/auth/signin", "", `{"email":"ada@example.com","password":"a long pass phrase"}`)
	require.Equal(t, http.StatusOK, status, "%s", text)
	var pair struct{ AccessToken, RefreshToken string }
	require.NoError(t, json.Unmarshal(text, &pair))
	w.kinds["access"], w.kinds["refresh"] = pair.AccessToken, pair.RefreshToken
	w.kinds["ticket"] = w.ticket(t)
}

func (w *whole) ticket(t *testing.T) string {
	t.Helper()
	status, text := w.ask(t, "POST", w.url+"/auth/socket-ticket", w.kinds["access"], "")
	require.Equal(t, http.StatusOK, status, "%s", text)
	var made struct{ Ticket string }
	require.NoError(t, json.Unmarshal(text, &made))
	return made.Ticket
}

var link = regexp.MustCompile(`code=([A-Za-z0-9_.-]+)`)

// code is that of a mail whose link leads to this.
func (w *whole) code(t *testing.T, to string) (code string) {
	t.Helper()
	require.Eventually(t, func() bool {
		answer, err := http.Get(w.url + "/dev/mail.json")
		if err != nil {
			return false
		}
		defer answer.Body.Close()
		var mails []struct{ Text string }
		if json.NewDecoder(answer.Body).Decode(&mails) != nil {
			return false
		}
		for _, m := range mails {
			for _, word := range strings.Fields(m.Text) {
				if found := link.FindStringSubmatch(word); found != nil && strings.Contains(word, to) {
					code = found[1]
					return true
				}
			}
		}
		return false
	}, patience, patience/1000)
	return code
}

// A token is good for what it is for, and for nothing else: every kind at every operation of both documents.
func TestEveryKindOfTokenAtEveryOperation(t *testing.T) {
	t.Parallel()
	w := startWhole(t)
	wants := map[string]string{}
	for kind, names := range asked {
		for _, name := range strings.Fields(names) {
			wants[name] = kind
		}
	}
	seen, tried := map[string]bool{}, 0
	var last []func() // what ends the session
	for i, base := range []string{w.url, w.admin} {
		var doc struct {
			Paths map[string]map[string]struct {
				OperationID string                `json:"operationId"`
				Security    []map[string][]string `json:"security"`
			}
		}
		require.NoError(t, json.Unmarshal(w.documents[i], &doc))
		for path, operations := range doc.Paths {
			url := base + regexp.MustCompile(`\{(\w+)\}`).ReplaceAllStringFunc(path, func(name string) string {
				if name == "{seq}" {
					return "1"
				}
				return "none-such"
			})
			for method, op := range operations {
				want, known := wants[op.OperationID]
				if !assert.True(t, known, "the operation %s is new: which kind of token does it ask for?", op.OperationID) {
					continue
				}
				seen[op.OperationID] = true
				scheme := "none"
				for _, s := range op.Security {
					for name := range s {
						scheme = map[string]string{"bearer": "access", "admin": "admin"}[name]
					}
				}
				assert.Equal(t, want, scheme, "the document says something else about %s", op.OperationID)
				method = strings.ToUpper(method)
				without, _ := w.ask(t, method, url, "", "")
				for kind, token := range w.kinds {
					about := fmt.Sprintf("%s with %s", op.OperationID, kind)
					tried++
					if kind != want || want == "none" {
						status, _ := w.ask(t, method, url, token, "")
						if want == "none" {
							assert.Equal(t, without, status, about)
						} else {
							assert.Equal(t, http.StatusUnauthorized, status, about)
						}
						continue
					}
					good := func() {
						status, text := w.ask(t, method, url, w.kinds[kind], "")
						assert.NotEqual(t, http.StatusUnauthorized, status, "%s: %s", about, text)
						assert.Less(t, status, 500, "%s: %s", about, text)
					}
					if op.OperationID == "sign-out" || op.OperationID == "sign-out-all" {
						last = append(last, func() { w.signIn(t); good() })
						continue
					}
					good()
				}
			}
		}
	}
	for name := range wants {
		assert.True(t, seen[name], "there is no operation %s", name)
	}
	for _, end := range last {
		end()
	}
	t.Logf("%d operations, %d kinds of tokens: %d requests", len(seen), len(w.kinds), tried)
}

// Sockets open by access tokens and tickets alone, each in its own place.
func TestEveryKindOfTokenAtTheSocket(t *testing.T) {
	t.Parallel()
	w := startWhole(t)
	for kind, token := range w.kinds {
		for place, shaken := range map[string]func(token string) int{
			"header": func(token string) int { return shake(t, w.url, "/socket", bearer(token)...) },
			"subprotocol": func(token string) int {
				return shake(t, w.url, "/socket", "Sec-WebSocket-Protocol", "parley.v1, bearer."+token)
			},
			"ticket": func(token string) int { return shake(t, w.url, "/socket?ticket="+token) },
		} {
			if kind == "ticket" {
				token = w.ticket(t) // each opens one socket
			}
			want := http.StatusUnauthorized
			if kind == "access" && place != "ticket" || kind == "ticket" && place == "ticket" {
				want = http.StatusSwitchingProtocols
			}
			assert.Equal(t, want, shaken(token), "%s as %s", kind, place)
		}
	}
}

func TestEveryKindOfTokenInEveryEvent(t *testing.T) {
	t.Parallel()
	w := startWhole(t)
	for _, e := range protocol.Own().ClientEvents() {
		assert.Contains(t, append(append([]string{}, carryToken...), carryNone...), e.Name, "the event %s is new: does it carry a token?", e.Name)
	}
	for kind, token := range w.kinds {
		for _, event := range carryToken {
			code := renewing(t, w, event, token)
			if kind == "access" {
				assert.Empty(t, code)
			} else {
				assert.NotEmpty(t, code, "%s with %s", event, kind)
			}
		}
	}
}

// renewing sends a token in an event on an open connection. It returns the code of the error, or of the close; empty if it was taken.
func renewing(t *testing.T, w *whole, event, token string) string {
	t.Helper()
	c, _, err := websocket.DefaultDialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(w.url, "http")+"/socket", http.Header{"Authorization": {"Bearer " + w.kinds["access"]}})
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(patience)))
	require.NoError(t, c.WriteJSON(object{"id": 1, "event": event, "data": object{"token": token}}))
	var answer struct {
		Event string
		Error struct{ Code string }
	}
	if err := c.ReadJSON(&answer); err != nil {
		return err.Error()
	}
	if answer.Event == "ack" {
		return ""
	}
	return answer.Error.Code
}
