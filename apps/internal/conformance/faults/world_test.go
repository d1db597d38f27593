package faults_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/apps/internal/conformance/mailserver"
	"github.com/parley-chat/parley/apps/internal/conformance/stack"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/testkit"
	"github.com/parley-chat/parley/testkit/servers"
	"github.com/parley-chat/parley/testkit/wsraw"
)

const (
	room     = "storm"
	password = "a long pass phrase"
	// requestDeadline is the deadline of an operation, 10 seconds, and what a loaded machine needs besides.
	requestDeadline = 20 * time.Second
	// patience bounds what must come about by itself. Promised is less: see the table in docs/guarantees.md,
	// which is measured. A test must not depend on how fast the machine is.
	patience = 60 * time.Second
)

// talker is the address of somebody who talks.
func talker(i int) string { return fmt.Sprintf("talker%d@parley.test", i) }

// world is running services with people in them.
type world struct {
	*stack.Services
	t     *testing.T
	mails *mailserver.Server
	kafka *servers.KafkaServer

	stop    context.CancelFunc
	running sync.WaitGroup
	ctx     context.Context
	clients [2]*wsclient.Client
	heard   [2]record

	mu       sync.Mutex
	signed   map[string]bool // address → whether the answer was 202
	sent     []wsclient.Sent
	counts   counts
	people   int
	messages atomic.Int64
}

// counts are about one round.
type counts struct {
	requests, failed int
	slowest, live    time.Duration
}

// record is what one client heard, in order.
type record struct {
	mu   sync.Mutex
	seqs []uint64
	ids  map[uint64]string
	more chan struct{} // closed and replaced at each message
}

func (r *record) add(m wsclient.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seqs = append(r.seqs, m.Seq)
	r.ids[m.Seq] = m.ID
	close(r.more)
	r.more = make(chan struct{})
}

// await waits until a message was heard.
func (r *record) await(ctx context.Context, seq uint64) error {
	for {
		r.mu.Lock()
		_, heard := r.ids[seq]
		more := r.more
		r.mu.Unlock()
		if heard {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return fmt.Errorf("message %d was not heard: %w", seq, ctx.Err())
		}
	}
}

// answer is what a request came to.
type answer struct {
	status int
	body   []byte
	code   string
}

func (w *world) do(ctx context.Context, base, path string, body any, header ...string) (answer, error) {
	method, in := http.MethodGet, io.Reader(nil)
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return answer{}, err
		}
		method, in = http.MethodPost, bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, base+path, in)
	if err != nil {
		return answer{}, err
	}
	r.Header.Set("Content-Type", "application/json")
	if len(header) > 0 {
		r.Header.Set("Authorization", "Bearer "+header[0])
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{status: res.StatusCode, body: text}
	var problem struct{ Code string }
	if strings.Contains(res.Header.Get("Content-Type"), "problem+json") && json.Unmarshal(text, &problem) == nil {
		a.code = problem.Code
	}
	return a, nil
}

// begin lets two people talk, each at a node, and others sign up.
func (w *world) begin() {
	w.ctx, w.stop = context.WithCancel(context.Background())
	w.t.Cleanup(w.end)
	w.signed = map[string]bool{}
	for i := range w.clients {
		token := w.person(talker(i))
		w.heard[i] = record{ids: map[uint64]string{}, more: make(chan struct{})}
		c, err := wsclient.Dial(w.ctx, wsclient.Config{
			Inline: true, Rate: -1,
			URL: w.Sockets[i].SocketURL(), MaxPause: time.Second,
			Token: func(context.Context) (string, error) { return token, nil },
			Handle: func(e wsclient.Event) {
				if e.Kind == wsclient.EventMessage {
					w.heard[i].add(e.Message)
				}
				assert.False(w.t, e.Lost, "messages are lost")
			},
		})
		require.NoError(w.t, err)
		w.clients[i] = c
		joining, cancel := context.WithTimeout(w.ctx, patience)
		_, err = c.JoinSince(joining, room, 0)
		cancel()
		require.NoError(w.t, err)
		w.running.Go(func() { w.talk(i) })
		if i == 0 {
			w.running.Go(func() { w.joins(token) })
		}
	}
	w.person(comer)
	w.running.Go(w.signIns)
	w.running.Go(w.signUps)
	for _, p := range w.programs() {
		w.running.Go(func() { w.watch(p) })
	}
}

func (w *world) programs() []*stack.Program {
	return []*stack.Program{w.Auth, w.Mailer, w.Sockets[0], w.Sockets[1]}
}

func (w *world) of(p config.Program) []*stack.Program {
	switch p {
	case config.Auth:
		return []*stack.Program{w.Auth}
	case config.Mailer:
		return []*stack.Program{w.Mailer}
	}
	return w.Sockets[:]
}

// end stops the load. Ending twice is harmless.
func (w *world) end() {
	w.stop()
	w.running.Wait()
	for _, c := range w.clients {
		if c != nil {
			c.Close()
		}
	}
}

// person signs up, confirms and signs in, and returns the access token.
func (w *world) person(email string) string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	a, err := w.do(ctx, w.Auth.URL, "/auth/signup", map[string]any{"fullName": "Somebody", "email": email, "password": password})
	require.NoError(w.t, err)
	require.Equal(w.t, http.StatusAccepted, a.status, "%s", a.body)
	m, err := w.mails.Await(ctx, email, 1)
	require.NoError(w.t, err)
	code, err := testkit.Code(m)
	require.NoError(w.t, err)
	a, err = w.do(ctx, w.Auth.URL, "/auth/verify", map[string]any{"code": code})
	require.NoError(w.t, err)
	require.Equal(w.t, http.StatusOK, a.status, "%s", a.body)
	a, err = w.do(ctx, w.Auth.URL, "/auth/signin", map[string]any{"email": email, "password": password})
	require.NoError(w.t, err)
	var grant struct{ AccessToken string }
	require.NoError(w.t, json.Unmarshal(a.body, &grant))
	return grant.AccessToken
}

// signUps lets people sign up one after the other. Each answer is one of the documented ones, and
// comes within its deadline.
func (w *world) signUps() {
	for w.pause(100 * time.Millisecond) {
		w.signUp()
	}
}

// comer is somebody who only signs in: so many sessions end one's oldest, which must not be a talker's.
const comer = "comer@parley.test"

// signIns lets somebody sign in again and again, and come back with the refresh token.
func (w *world) signIns() {
	for w.pause(250 * time.Millisecond) {
		a, ok := w.post("/auth/signin", map[string]any{"email": comer, "password": password}, http.StatusOK)
		var grant struct{ RefreshToken string }
		if ok && assert.NoError(w.t, json.Unmarshal(a.body, &grant)) {
			w.post("/auth/refresh", map[string]any{"refreshToken": grant.RefreshToken}, http.StatusOK)
		}
	}
}

// joins lets somebody connect and enter a room again and again: it gets in, or is told that it cannot be now.
func (w *world) joins(token string) {
	for n := 0; w.pause(250 * time.Millisecond); n++ {
		ctx, cancel := context.WithTimeout(w.ctx, requestDeadline)
		if err := w.join(ctx, w.Sockets[n%2].SocketURL(), token); err != nil && w.ctx.Err() == nil {
			w.t.Errorf("somebody who comes in: %v", err)
		}
		cancel()
	}
}

func (w *world) join(ctx context.Context, socket, token string) error {
	c, err := wsraw.Dial(ctx, socket, http.Header{"Authorization": {"Bearer " + token}}, nil)
	if err != nil {
		return err // keys are known, so nothing is in the way of a handshake
	}
	defer c.Close()
	err = c.Send(wsraw.Frame{Final: true, Opcode: wsraw.OpText, Payload: []byte(`{"id":1,"event":"join_room","data":{"room":"lobby"}}`)})
	if err != nil {
		return err
	}
	for {
		f, err := c.Read()
		if err != nil {
			return err
		}
		var reply struct {
			ID    int
			Event string
			Error struct{ Code string }
		}
		if err := json.Unmarshal(f.Payload, &reply); err != nil {
			return fmt.Errorf("%q: %w", f.Payload, err)
		}
		switch {
		case reply.ID != 1: // somebody else has come or gone
		case reply.Event == "ack", reply.Error.Code == "unavailable":
			return nil
		default:
			return fmt.Errorf("the answer is %s", f.Payload)
		}
	}
}

// post makes a request of auth. Its answer is the one that is wanted, or that something does not answer, and
// comes within its deadline.
func (w *world) post(path string, body any, want int) (answer, bool) {
	started := time.Now()
	ctx, cancel := context.WithTimeout(w.ctx, requestDeadline)
	defer cancel()
	a, err := w.do(ctx, w.Auth.URL, path, body)
	if w.ctx.Err() != nil {
		return a, false
	}
	w.count(time.Since(started), a)
	switch {
	case err != nil:
		w.t.Errorf("%s got no answer in %v: %v", path, time.Since(started), err)
	case a.status == want:
		return a, true
	case a.status != http.StatusServiceUnavailable || a.code != "unavailable":
		w.t.Errorf("%s was answered %d %s", path, a.status, a.body)
	}
	return a, false
}

// count takes note of a request and its answer.
func (w *world) count(took time.Duration, a answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts.requests++
	w.counts.slowest = max(w.counts.slowest, took)
	if a.status == http.StatusServiceUnavailable {
		w.counts.failed++
	}
}

// signUp lets one more person sign up, and returns the address and whether it was accepted.
func (w *world) signUp() (email string, accepted bool) {
	w.mu.Lock()
	w.people++
	email = fmt.Sprintf("person%d@parley.test", w.people)
	w.mu.Unlock()
	_, accepted = w.post("/auth/signup", map[string]any{"fullName": "Somebody", "email": email, "password": password}, http.StatusAccepted)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.signed[email] = accepted
	return email, accepted
}

// talk sends messages until each is acknowledged, with the same id again if it was refused.
func (w *world) talk(i int) {
	for n := 1; w.pause(20 * time.Millisecond); n++ {
		if _, err := w.say(w.ctx, i, fmt.Sprintf("talker%d-%d", i, n)); err != nil && w.ctx.Err() == nil {
			w.t.Errorf("talker %d gave up: %v", i, err)
			return
		}
	}
}

// say sends one message for as long as it takes.
func (w *world) say(ctx context.Context, i int, id string) (wsclient.Sent, error) {
	for {
		s, err := w.clients[i].SendAs(ctx, room, "text of "+id, id)
		var refused *wsclient.Error
		switch {
		case err == nil:
			w.mu.Lock()
			w.sent = append(w.sent, s)
			w.mu.Unlock()
			return s, nil
		case errors.As(err, &refused):
			if refused.Code != "unavailable" && refused.Code != "room_busy" {
				return s, err
			}
		default:
			return s, err
		}
		select {
		case <-time.After(aWhile):
		case <-ctx.Done():
			return s, ctx.Err()
		}
	}
}

// watch asks whether a program lives, all the time.
func (w *world) watch(p *stack.Program) {
	for w.pause(aWhile) {
		started := time.Now()
		ctx, cancel := context.WithTimeout(w.ctx, requestDeadline)
		a, err := w.do(ctx, p.URL, "/livez", nil)
		cancel()
		if w.ctx.Err() != nil {
			return
		}
		if err != nil || a.status != http.StatusOK {
			w.t.Errorf("/livez of %s: %d %v", p.URL, a.status, err)
		}
		w.mu.Lock()
		w.counts.live = max(w.counts.live, time.Since(started))
		w.mu.Unlock()
	}
}

// pause waits, and reports whether to go on.
func (w *world) pause(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-w.ctx.Done():
		return false
	}
}

// result is what one fault came to.
type result struct {
	counts
	// seen is how long it took until /readyz of each program concerned named the dependency, and
	// healed, from its end, until all were ready, a sign-up had its mail and a message had gone from
	// node to node.
	seen, healed time.Duration
}

// round lets one dependency fail in one way.
func (w *world) round(d *dependency, f fault) result {
	w.await(d, f, "people talk and sign up before it", w.busy())
	w.mu.Lock()
	w.counts = counts{}
	w.mu.Unlock()
	started := time.Now()
	f.begin(d)
	over := time.After(*howLong)
	var concerned []*stack.Program
	for _, p := range d.of {
		concerned = append(concerned, w.of(p)...)
	}
	w.await(d, f, "/readyz of each names it", func(ctx context.Context) bool {
		return w.each(concerned, func(p *stack.Program) bool {
			down, ok := w.down(ctx, p)
			return ok && slices.Equal(down, []string{d.check})
		})
	})
	r := result{seen: time.Since(started)}
	<-over
	f.heal(d)
	healing := time.Now()
	w.await(d, f, "all are ready again", func(ctx context.Context) bool {
		return w.each(w.programs(), func(p *stack.Program) bool {
			down, ok := w.down(ctx, p)
			return ok && len(down) == 0
		})
	})
	w.await(d, f, "people sign up again, and get a mail", func(ctx context.Context) bool {
		email, accepted := w.signUp()
		if !accepted {
			return false
		}
		_, err := w.mails.Await(ctx, email, 1)
		return err == nil
	})
	w.await(d, f, "messages go from node to node again", func(ctx context.Context) bool {
		s, err := w.say(ctx, 0, fmt.Sprintf("healed-%d", w.messages.Add(1)))
		return err == nil && w.heard[1].await(ctx, s.Seq) == nil
	})
	r.healed = time.Since(healing)
	w.mu.Lock()
	defer w.mu.Unlock()
	r.counts = w.counts
	return r
}

// busy returns what says whether some more was said and some more people have signed up since.
func (w *world) busy() func(context.Context) bool {
	load := func() (messages, accepted int) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, a := range w.signed {
			if a {
				accepted++
			}
		}
		return len(w.sent), accepted
	}
	messages, accepted := load()
	return func(context.Context) bool {
		m, a := load()
		return m >= messages+20 && a >= accepted+5
	}
}

// each asks about all programs side by side, and reports whether it holds for every one.
func (w *world) each(programs []*stack.Program, holds func(*stack.Program) bool) bool {
	var asking sync.WaitGroup
	var no atomic.Int64
	for _, p := range programs {
		asking.Go(func() {
			if !holds(p) {
				no.Add(1)
			}
		})
	}
	asking.Wait()
	return no.Load() == 0
}

// await waits until done says so.
func (w *world) await(d *dependency, f fault, what string, done func(ctx context.Context) bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	for !done(ctx) {
		select {
		case <-time.After(aWhile):
		case <-ctx.Done():
			w.t.Fatalf("%s %s: it does not come about that %s", d.name, f.name, what)
		}
	}
}

// down is what /readyz of a program says is down.
func (w *world) down(ctx context.Context, p *stack.Program) ([]string, bool) {
	ctx, cancel := context.WithTimeout(ctx, requestDeadline)
	defer cancel()
	a, err := w.do(ctx, p.URL, "/readyz", nil)
	var report struct{ Error map[string]any }
	if err != nil || json.Unmarshal(a.body, &report) != nil {
		return nil, false
	}
	var names []string
	for name := range report.Error {
		names = append(names, name)
	}
	return names, (a.status == http.StatusOK) == (len(names) == 0)
}

// finish checks what was promised to everybody, and says in one line what there was. Each fault may have
// crashed one mail.
func (w *world) finish(faults int) string {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	// The load ends first, and the clients with it but for what they have heard.
	history := w.history(ctx)
	w.end()

	// Messages: what was acknowledged is in its place, once, and both nodes heard the same.
	byID, at := map[string]bool{}, map[uint64]wsclient.Message{}
	for n, m := range history {
		require.EqualValues(w.t, n+1, m.Seq, "a gap")
		require.False(w.t, byID[m.ClientID], "%s is there twice", m.ClientID)
		byID[m.ClientID], at[m.Seq] = true, m
	}
	acknowledged := 0
	for _, s := range w.sent {
		if s.Seq <= uint64(len(history)) {
			acknowledged++
			require.Equal(w.t, s.ID, at[s.Seq].ID, "an acknowledged message is not in its place")
		}
	}
	for i := range w.heard {
		for n, seq := range w.heard[i].seqs {
			require.EqualValues(w.t, n+1, seq, "client %d hears out of order", i)
		}
		for seq, id := range w.heard[i].ids {
			if m, ok := at[seq]; ok {
				require.Equal(w.t, m.ID, id)
			}
		}
	}

	// Mails: each who was accepted has one, and nobody many.
	twice, mails := 0, 0
	for email, accepted := range w.signed {
		if accepted {
			_, err := w.mails.Await(ctx, email, 1)
			require.NoError(w.t, err, "no mail for somebody who signed up")
		}
		got := w.mails.To(email)
		mails += len(got)
		ids := map[string]bool{}
		for _, m := range got {
			if ids[m.ID] {
				twice++
			}
			ids[m.ID] = true
		}
		require.LessOrEqual(w.t, len(ids), 1, "different mails for one sign-up")
	}
	require.LessOrEqual(w.t, twice, faults, "mails came twice more often than there were crashes")
	a, err := w.do(ctx, w.Mailer.AdminURL, "/mail/stats", nil, stack.AdminToken)
	require.NoError(w.t, err)
	var stats map[mail.State]int
	require.NoError(w.t, json.Unmarshal(a.body, &stats))
	require.Zero(w.t, stats[mail.Dead], "dead letters although nobody was refused")
	summary := fmt.Sprintf("%d faults: %d messages in the room, %d acknowledged and all in their place; %d mails for %d sign-ups, %d of them twice, no dead letter",
		faults, len(history), acknowledged, mails, len(w.signed), twice)
	w.t.Log(summary)
	return summary
}

// history is everything in the room up to now.
func (w *world) history(ctx context.Context) []wsclient.Message {
	w.t.Helper()
	last, err := w.say(ctx, 0, "the-end")
	require.NoError(w.t, err)
	for i := range w.heard {
		require.NoError(w.t, w.heard[i].await(ctx, last.Seq))
	}
	var all []wsclient.Message
	for before := last.Seq + 1; before > 1; {
		page, err := w.clients[0].History(ctx, room, wsclient.Range{Before: before, Limit: 100})
		require.NoError(w.t, err)
		require.NotEmpty(w.t, page.Messages)
		all = append(page.Messages, all...)
		before = all[0].Seq
	}
	return all
}
