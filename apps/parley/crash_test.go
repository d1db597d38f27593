package main_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/wsclient"
)

// For a longer campaign: go test ./apps/parley -run TestKilledUnderLoad -crash.rounds=1000 -timeout=0
var (
	crashRounds = flag.Int("crash.rounds", 3, "how often TestKilledUnderLoad kills the program")
	crashSeed   = flag.Uint64("crash.seed", 0, "what draws the moments of TestKilledUnderLoad; 0 draws it too")
)

const (
	talkers   = 20
	newcomers = 3 // sign up all the time, side by side

	adminToken = "a-token-for-the-crash"
)

// TestKilledUnderLoad kills the program at random moments while people talk and sign up. What it
// has confirmed must be there in the end, once and in order.
func TestKilledUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped by -short: the program is killed under load, again and again, for some seconds")
	}
	seed := *crashSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("the moments are drawn with -crash.seed=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	c := &campaign{
		t: t, data: t.TempDir(), address: freeAddress(t), stop: make(chan struct{}),
		rooms: map[string]*ledger{"lobby": {}, "garden": {}, "library": {}},
		mails: map[string]letter{}, asked: map[string]bool{},
	}
	c.start()
	c.open()
	c.invite()
	var working sync.WaitGroup
	for _, p := range c.people {
		working.Go(func() { c.talk(p) })
	}
	for i := range newcomers {
		working.Go(func() { c.signUpAlways(i) })
	}

	for round := range *crashRounds {
		if random.IntN(5) == 0 && round > 0 {
			// While it starts, or just after.
			pause(t, time.Duration(random.Int64N(int64(300*time.Millisecond))))
		} else {
			c.open()
			pause(t, 200*time.Millisecond+time.Duration(random.Int64N(int64(1300*time.Millisecond))))
		}
		c.server.kill()
		c.server.sound(t)
		c.collect()
		c.start()
	}
	c.open()
	close(c.stop)
	within(t, "all senders to get their acks", working.Wait)

	stored := c.audit()
	mails, extra := c.auditMails()
	c.server.stop(t, sigterm)
	t.Logf("crash: %d rounds, %d messages acknowledged and stored, %d of them sent again, %d sign-ups confirmed, %d mails, %d of them a second time",
		*crashRounds, stored, c.resent.Load(), len(c.accepted), mails, extra)
}

// campaign is one run of the test.
type campaign struct {
	t       *testing.T
	data    string
	address string
	server  *server
	people  []*person
	rooms   map[string]*ledger
	stop    chan struct{} // closed when nobody should begin anything more
	resent  atomic.Int64
	faults  atomic.Int64

	mails map[string]letter // by file

	mu       sync.Mutex
	asked    map[string]bool // addresses whose sign-up reached the program, maybe
	accepted []string        // and those whose sign-up it has confirmed
}

// fault reports a broken promise; the first few are enough.
func (c *campaign) fault(format string, args ...any) {
	if c.faults.Add(1) <= 20 {
		c.t.Errorf(format, args...)
	} else {
		c.t.Fail()
	}
}

// ledger is a room as everybody must have seen it: the first who sees a message enters it.
type ledger struct {
	mu   sync.Mutex
	seen []wsclient.Message // by sequence
}

// agrees enters m, or reports whether it is what others saw under its sequence.
func (l *ledger) agrees(m wsclient.Message) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for uint64(len(l.seen)) < m.Seq {
		l.seen = append(l.seen, wsclient.Message{})
	}
	known := &l.seen[m.Seq-1]
	if known.ID == "" {
		*known = m
	}
	return known.ID == m.ID && known.Text == m.Text && known.User == m.User
}

// person sends and reads.
type person struct {
	name    string
	client  *wsclient.Client
	waiting atomic.Bool // for an ack
	sent    []sentMessage

	mu   sync.Mutex
	read map[string]uint64 // the sequence up to which each room was read
}

type sentMessage struct {
	room, text string
	ack        wsclient.Sent
}

// start starts the program where it was before.
func (c *campaign) start() {
	c.server = launch(c.t, c.data, "--listen", c.address, "--log-level=warn", "--access-ttl=24h",
		"--socket-rate=-1", "--mail-burst=1000000", "--signin-burst=1000000", "--admin-token="+adminToken)
	c.server.url = "http://" + c.address
}

// open waits until the program serves.
func (c *campaign) open() {
	_, ok := c.server.stdout.line(c.t, c.server.exited, "Parley is at ")
	require.True(c.t, ok, "the program does not come back: %v\n%s", c.server.err, c.server.stderr)
	c.server.awaitAdmin(c.t)
}

// invite signs everybody up and in, and lets them join all rooms.
func (c *campaign) invite() {
	for i := range talkers {
		p := &person{name: fmt.Sprintf("Talker %02d", i), read: map[string]uint64{}}
		token := c.server.member(c.t, p.name).AccessToken
		ctx, cancel := context.WithTimeout(c.t.Context(), patience)
		defer cancel()
		var err error
		p.client, err = wsclient.Dial(ctx, wsclient.Config{
			Inline: true, Rate: -1,
			URL: c.server.socket(), MinPause: 20 * time.Millisecond, MaxPause: 200 * time.Millisecond,
			Token:  func(context.Context) (string, error) { return token, nil },
			Handle: func(e wsclient.Event) { c.hear(p, e) },
		})
		require.NoError(c.t, err)
		c.t.Cleanup(p.client.Close)
		for room := range c.rooms {
			_, err := p.client.JoinSince(ctx, room, 0)
			require.NoError(c.t, err)
		}
		c.people = append(c.people, p)
	}
}

// hear checks what somebody is told while it is told.
func (c *campaign) hear(p *person, e wsclient.Event) {
	switch e.Kind {
	case wsclient.EventDisconnected:
		if p.waiting.Load() {
			c.resent.Add(1)
		}
	case wsclient.EventResync:
		if e.Lost {
			c.fault("%s: messages of %s are lost", p.name, e.Room)
		}
	case wsclient.EventMessage:
		m := e.Message
		p.mu.Lock()
		before := p.read[m.Room]
		p.read[m.Room] = m.Seq
		p.mu.Unlock()
		if m.Seq != before+1 {
			c.fault("%s read message %d of %s after %d", p.name, m.Seq, m.Room, before)
		}
		if !c.rooms[m.Room].agrees(m) {
			c.fault("%s read something else as message %d of %s than others: %+v", p.name, m.Seq, m.Room, m)
		}
	}
}

// talk sends as fast as acks come.
func (c *campaign) talk(p *person) {
	names := []string{"lobby", "garden", "library"}
	for i := 0; ; i++ {
		select {
		case <-c.stop:
			return
		default:
		}
		room, text := names[i%len(names)], fmt.Sprintf("%s: %d", p.name, i)
		p.waiting.Store(true)
		ack, err := p.client.Send(c.t.Context(), room, text)
		p.waiting.Store(false)
		if err != nil {
			c.fault("%s: message %d: %v", p.name, i, err)
			return
		}
		p.sent = append(p.sent, sentMessage{room, text, ack})
	}
}

// signUpAlways signs up one new user after the other, whatever becomes of it.
func (c *campaign) signUpAlways(who int) {
	for i := 0; ; i++ {
		select {
		case <-c.stop:
			return
		default:
		}
		email := fmt.Sprintf("newcomer-%d-%d@example.com", who, i)
		got, err := ask(c.t.Context(), "POST", "http://"+c.address+"/auth/signup", "",
			map[string]string{"fullName": "New Comer", "email": email, "password": password})
		var failed *net.OpError
		if errors.As(err, &failed) && failed.Op == "dial" {
			select { // it is not there at the moment
			case <-time.After(20 * time.Millisecond):
			case <-c.stop:
			}
			continue
		}
		if err == nil && got.status != 202 {
			c.fault("the sign-up of %s was answered with %d: %s", email, got.status, got.body)
			return
		}
		c.mu.Lock()
		c.asked[email] = true
		if err == nil {
			c.accepted = append(c.accepted, email)
		}
		c.mu.Unlock()
	}
}

// collect takes the mails out of the folder of the program, which keeps the newest only.
func (c *campaign) collect() {
	files, err := filepath.Glob(filepath.Join(c.data, "mail", "*.json"))
	require.NoError(c.t, err)
	for _, file := range files {
		if _, known := c.mails[file]; known {
			continue
		}
		text, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue // removed just now as the oldest; it was collected rounds ago
		}
		require.NoError(c.t, err)
		var m letter
		require.NoError(c.t, json.Unmarshal(text, &m), "a mail is not whole: %s", file)
		c.mails[file] = m
	}
}

// audit compares what was acknowledged, what everybody has read and what is stored, and
// returns how many messages there are.
func (c *campaign) audit() int {
	t := c.t
	auditor := c.server.connect(t, c.server.member(t, "The Auditor").AccessToken, nil)
	total := 0
	for name, room := range c.rooms {
		joined, err := auditor.Join(t.Context(), name)
		require.NoError(t, err)
		all, err := stored(t.Context(), auditor, name, joined.Seq)
		require.NoError(t, err)
		require.Len(t, all, int(joined.Seq), "room %s has gaps", name)
		for _, p := range c.people {
			await(t, p.name+" to read the rest of "+name, func() bool {
				p.mu.Lock()
				defer p.mu.Unlock()
				return p.read[name] >= joined.Seq
			})
		}
		texts := map[string]uint64{}
		for i, m := range all {
			if m.Seq != uint64(i+1) {
				c.fault("room %s: message %d is where %d should be", name, m.Seq, i+1)
			}
			if !room.agrees(m) {
				c.fault("room %s: message %d is stored as something else than was read: %+v", name, m.Seq, m)
			}
			if first, twice := texts[m.Text]; twice {
				c.fault("room %s: %q is stored as %d and as %d", name, m.Text, first, m.Seq)
			}
			texts[m.Text] = m.Seq
		}
		acknowledged := 0
		for _, p := range c.people {
			last := uint64(0)
			for _, s := range p.sent {
				if s.room != name {
					continue
				}
				acknowledged++
				if s.ack.Seq <= last {
					c.fault("%s: %q got sequence %d after %d", p.name, s.text, s.ack.Seq, last)
				}
				last = s.ack.Seq
				if s.ack.Seq == 0 || s.ack.Seq > joined.Seq {
					c.fault("%s: %q was acknowledged as %d of %s, which has %d", p.name, s.text, s.ack.Seq, name, joined.Seq)
				} else if m := all[s.ack.Seq-1]; m.Text != s.text || m.ID != s.ack.ID || m.User.Name != p.name {
					c.fault("%s: %q was acknowledged as %d of %s, where %+v is", p.name, s.text, s.ack.Seq, name, m)
				}
			}
		}
		require.Len(t, all, acknowledged, "room %s: every sender has waited for its acks", name)
		require.NotZero(t, acknowledged, "nobody could send to %s", name)
		total += acknowledged
	}
	for _, p := range c.people {
		assert.NotEmpty(t, p.sent, "%s could send nothing", p.name)
	}
	return total
}

// auditMails checks that there is a mail for each user and a user for each mail, and returns how
// many mails there are, and how many of them came a second time.
func (c *campaign) auditMails() (total, extra int) {
	t := c.t
	codes := map[string]string{} // by address
	defer func() {
		if !t.Failed() {
			return
		}
		for _, email := range c.accepted {
			if codes[email] == "" {
				c.fault("%s signed up and got no mail", email)
			}
		}
	}()
	// What was under way at the last kill is taken up again when its lease is over.
	await(t, "the last mails", func() bool {
		stats := decode[map[string]int](t, must(t, 200, "GET", c.server.admin+"/mail/stats", adminToken, nil))
		if stats["ready"]+stats["running"] > 0 {
			return false
		}
		c.collect()
		clear(codes)
		for _, m := range c.mails {
			codes[m.To] = m.code()
		}
		for _, email := range c.accepted {
			if codes[email] == "" {
				return false
			}
		}
		return true
	})
	for file, m := range c.mails {
		total++
		if m.code() == "" || m.code() != codes[m.To] {
			c.fault("%s to %s: code %q, other mails to it have %q", filepath.Base(file), m.To, m.code(), codes[m.To])
		}
	}
	extra = total - len(codes)
	// A kill can come when a mail was handed over and that was not yet noted.
	assert.LessOrEqual(t, extra, *crashRounds, "mails that came a second time")
	users := 0
	for email, code := range codes {
		if !c.asked[email] {
			continue // of a talker, who has used it
		}
		users++
		c.server.verify(t, code)
		if users%25 == 0 {
			require.True(t, c.server.signIn(t, email).User.IsVerified)
		}
	}
	require.GreaterOrEqual(t, users, len(c.accepted))
	require.NotZero(t, len(c.accepted), "nobody could sign up")
	for email := range c.asked {
		if codes[email] != "" {
			continue
		}
		got, err := ask(t.Context(), "POST", c.server.url+"/auth/signin", "", map[string]string{"email": email, "password": password})
		require.NoError(t, err)
		if got.status != 401 {
			c.fault("%s has an account and got no mail: %d %s", email, got.status, got.body)
		}
	}
	return total, extra
}

// freeAddress finds an address that nobody listens on, below the ports that outgoing connections
// get: it must stay free while the program is down.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000))
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
		if err == nil {
			require.NoError(t, l.Close())
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}

// pause lets the program work for a while before it is killed.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}

// within waits for something that ends by itself.
func within(t *testing.T, what string, wait func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		wait()
	}()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-done:
	case <-late.C:
		t.Fatalf("waited %v in vain for %s", patience, what)
	}
}
