package power

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-chat/parley/adapters/jwtauth"
	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/apps/internal/campaign/journal"
	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/apps/internal/wire"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/user"
	"github.com/parley-chat/parley/testkit/local"
)

// rooms is how many rooms the clients spread over.
const rooms = 4

// issuer is the default of parley.
const issuer = "parley"

// chat is the program parley with clients, on a database.
type chat struct {
	*campaign
	database *local.SQLServer // nil for SQLite, whose process is parley
	parley   *local.Process
	data     string
	address  string
	killed   bool // parley was killed, too

	tokens  []string
	clients []*wsclient.Client
	seen    []atomic.Uint64 // up to where each client was told
	file    *os.File
	journal *journal.Writer
	acks    atomic.Int64
	stop    chan struct{}
	working sync.WaitGroup
	mu      sync.Mutex
	failed  error // the first
}

func newChat(c *campaign) (*chat, error) {
	name := c.Journal
	if name == "" {
		name = filepath.Join(c.folder, "journal")
	}
	file, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	return &chat{campaign: c, file: file, journal: journal.NewWriter(file), stop: make(chan struct{})}, nil
}

// program makes a process of parley, which listens on address, and whose Command is still to be set: see serve.
func (c *campaign) program() (p *local.Process, address string, err error) {
	if address, err = local.FreeAddress(); err != nil {
		return nil, "", err
	}
	if p, err = local.New("parley", false); err != nil {
		return nil, "", err
	}
	p.Ready, p.Patience = local.Answering("http://"+address+"/readyz"), startPatience
	return p, address, nil
}

// serve returns the command of parley on a data folder.
func (c *campaign) serve(data, address string, more ...string) func() (*exec.Cmd, error) {
	return func() (*exec.Cmd, error) {
		return exec.Command(c.Program, append([]string{ //nolint:noctx,gosec // it is killed
			"serve", "--data=" + data, "--listen=" + address, "--admin-listen=off", "--log-level=warn", "--access-ttl=24h", "--socket-rate=-1",
		}, more...)...), nil
	}
}

// firstStarts cuts the power so many times in a first start, each on a folder of its own.
func (c *campaign) firstStarts(ctx context.Context, times int) (err error) {
	p, address, err := c.program()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	for range times {
		if err := c.firstStart(ctx, p, address); err != nil {
			return err
		}
	}
	return nil
}

// firstStart cuts the power while the program starts for the first time, or when it has just acknowledged a sign-up. It has to start then, and a sign-up that
// was acknowledged has to have its mail.
func (c *campaign) firstStart(ctx context.Context, p *local.Process, address string) (err error) {
	c.result.FirstStarts++
	data := filepath.Join(c.disk.Path(), fmt.Sprintf("first-%d", c.result.FirstStarts), "data")
	p.Command = c.serve(data, address)
	if err := p.Launch(); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, p.Kill(), os.RemoveAll(filepath.Dir(data)), c.disk.Sync())
	}()
	email := ""
	if c.result.FirstStarts%2 == 0 {
		if err := pause(ctx, time.Duration(c.random.Int64N(int64(120*time.Millisecond)))); err != nil {
			return err
		}
	} else {
		if err := p.Await(ctx); err != nil {
			return err
		}
		email = "first@example.com"
		if err := signUp(ctx, address, email); err != nil {
			return err
		}
		c.result.Acknowledged++
	}
	if err := c.cut(func(*rand.Rand) error { return p.SendKill() }); err != nil {
		return err
	}
	if err := again(ctx, p); err != nil || email == "" {
		return err
	}
	found, err := mailed(ctx, address, email)
	if !found {
		c.result.Lost++
	}
	return err
}

// signUp returns nil once a sign-up is acknowledged.
func signUp(ctx context.Context, address, email string) error {
	body := fmt.Sprintf(`{"fullName":"First Comer","email":%q,"password":"a long password of the campaign"}`, email)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/auth/signup", strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}).Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusAccepted {
		return fmt.Errorf("the sign-up was answered %s", answer.Status)
	}
	return nil
}

// mailPatience is how long a mail may take, which may have been leased by the process that was killed.
const mailPatience = 2 * time.Minute

// mailed reports whether a mail to this address comes.
func mailed(ctx context.Context, address, email string) (bool, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	for late := time.Now().Add(mailPatience); time.Now().Before(late); {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/dev/mail.json", nil)
		if err != nil {
			return false, err
		}
		answer, err := client.Do(r)
		if err != nil {
			return false, err
		}
		var mails []struct {
			To string `json:"to"`
		}
		err = errors.Join(json.NewDecoder(answer.Body).Decode(&mails), answer.Body.Close())
		if err != nil {
			return false, err
		}
		for _, m := range mails {
			if m.To == email {
				return true, nil
			}
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return false, err
		}
	}
	return false, nil
}

func (c *chat) begin(ctx context.Context) (err error) {
	if c.parley, c.address, err = c.program(); err != nil {
		return err
	}
	if c.database, err = c.newDatabase(ctx); err != nil {
		return err
	}
	// Beside SQLite's file, nothing of parley has to be on the file system.
	c.data = filepath.Join(c.folder, "data")
	store := "sqlite:" + filepath.Join(c.data, "parley.db")
	if c.database != nil {
		store = c.database.URL
		if err := start(ctx, c.database.Process); err != nil {
			return err
		}
	}
	if err := os.Mkdir(c.data, 0o700); err != nil {
		return err
	}
	if err := c.accounts(ctx, store); err != nil {
		return err
	}
	if c.database == nil {
		at := filepath.Join(c.disk.Path(), "data")
		// SQLite maps files to memory, which this process must not do on its own file system.
		if err := os.CopyFS(at, os.DirFS(c.data)); err != nil {
			return err
		}
		// A copy is open to everybody, which the keys must not be.
		if err := os.Chmod(filepath.Join(at, keysFile), 0o600); err != nil {
			return err
		}
		c.data = at
		c.parley.Command = c.serve(c.data, c.address)
	} else {
		c.parley.Command = c.serve(c.data, c.address, "--store="+store)
	}
	return start(ctx, c.parley)
}

// newDatabase returns the server of the campaign's store with its data on the file system, nil for SQLite.
func (c *campaign) newDatabase(ctx context.Context) (s *local.SQLServer, err error) {
	o := local.SQLOptions{Data: filepath.Join(c.disk.Path(), "data")}
	switch c.Store {
	case "postgres":
		o.Args = []string{
			"-c", "fsync=on", "-c", "full_page_writes=on", "-c", c.Setting,
			// Checkpoints come often enough to be cut.
			"-c", "checkpoint_timeout=30s", "-c", "max_wal_size=64MB",
		}
		s, err = local.Postgres(ctx, o)
	case "mariadb":
		o.Args = []string{"--" + strings.ReplaceAll(c.Setting, "_", "-"), "--innodb-log-file-size=16M"}
		s, err = local.MySQL(ctx, o)
	}
	if s != nil {
		s.Patience = startPatience
	}
	return s, err
}

// keysFile is where a program keeps the keys that tokens are signed with, in its data folder.
const keysFile = "keys.json"

// accounts stores a user with a session for each client, and one who reads at the end. No password is hashed.
func (c *chat) accounts(ctx context.Context, address string) error {
	store, err := wire.OpenStore(ctx, config.Settings{Store: address}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer store.Close()
	if err := store.Migrate(ctx); err != nil {
		return err
	}
	keys, err := jwtauth.OpenKeys(filepath.Join(c.data, keysFile))
	if err != nil {
		return err
	}
	issue, err := jwtauth.NewIssuer(jwtauth.IssuerConfig{Keys: keys, Issuer: issuer})
	if err != nil {
		return err
	}
	ports, now := store.Ports(), time.Now().UTC().Truncate(time.Second)
	for i := range c.Clients + 1 {
		id := fmt.Sprintf("client-%03d", i)
		err := ports.Users.Create(ctx, user.User{
			ID: user.ID(id), FullName: id, Email: user.Email(id + "@example.com"), PasswordHash: "none", CreatedAt: now, VerifiedAt: now, PasswordChangedAt: now,
		})
		if err == nil {
			err = ports.Sessions.Create(ctx, auth.Session{
				ID: "s-" + id, UserID: user.ID(id), FamilyHash: "f" + id, TokenHash: "t" + id, CreatedAt: now, RotatedAt: now, ExpiresAt: now.Add(24 * time.Hour),
			})
		}
		if err != nil {
			return err
		}
		token, err := issue.Issue(ctx, auth.Claims{
			ID: "j-" + id, Audience: auth.AudienceAPI, UserID: user.ID(id), Name: id, SessionID: "s-" + id, IssuedAt: now, ExpiresAt: now.Add(24 * time.Hour),
		})
		if err != nil {
			return err
		}
		c.tokens = append(c.tokens, token)
	}
	return nil
}

// note writes to the journal.
func (c *chat) note(e journal.Entry) { c.fault(c.journal.Write(e)) }

// fault remembers the first error of a client.
func (c *chat) fault(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed == nil {
		c.failed = err
	}
}

func (c *chat) dial(ctx context.Context, number int, handle func(wsclient.Event)) (*wsclient.Client, error) {
	return wsclient.Dial(ctx, wsclient.Config{
		URL: "ws://" + c.address + "/socket", Inline: true, Rate: -1, MinPause: 20 * time.Millisecond, MaxPause: 200 * time.Millisecond,
		AckTimeout: time.Minute, // a database that recovers is not a broken connection
		Token:      func(context.Context) (string, error) { return c.tokens[number], nil },
		Handle:     handle,
	})
}

func (c *chat) work(ctx context.Context) error {
	c.seen = make([]atomic.Uint64, c.Clients)
	for i := range c.Clients {
		name, room := fmt.Sprintf("client-%03d", i), fmt.Sprintf("room-%d", i%rooms)
		client, err := c.dial(ctx, i, func(e wsclient.Event) { c.heard(i, name, e) })
		if err != nil {
			return err
		}
		c.clients = append(c.clients, client)
		c.note(journal.Entry{Kind: journal.Joined, Client: name, Room: room, From: new(uint64)})
		if _, err := client.JoinSince(ctx, room, 0); err != nil {
			return err
		}
		c.working.Go(func() { c.talk(ctx, client, name, room) })
	}
	return nil
}

// heard writes down what a client is told. A message's text is its client id.
func (c *chat) heard(number int, name string, e wsclient.Event) {
	switch e.Kind {
	case wsclient.EventMessage:
		m := e.Message
		c.seen[number].Store(m.Seq)
		c.note(journal.Entry{Kind: journal.Saw, Client: name, Room: m.Room, Seq: m.Seq, ID: m.ID, ClientID: m.Text, Text: m.Text})
	case wsclient.EventResync:
		if e.Lost {
			c.note(journal.Entry{Kind: journal.Reload, Client: name, Room: e.Room})
		}
	case wsclient.EventDisconnected:
		c.note(journal.Entry{Kind: journal.Away, Client: name})
	case wsclient.EventConnected:
		c.note(journal.Entry{Kind: journal.Back, Client: name})
	}
}

// talk sends one message after the other, each until it is acknowledged.
func (c *chat) talk(ctx context.Context, client *wsclient.Client, name, room string) {
	for i := 0; ; i++ {
		select {
		case <-c.stop:
			return
		case <-ctx.Done():
			return
		default:
		}
		text := fmt.Sprintf("%s:%d", name, i)
		c.note(journal.Entry{Kind: journal.Sent, Client: name, Room: room, ClientID: text, Text: text})
		for {
			sent, err := client.SendAs(ctx, room, text, text)
			if err == nil {
				c.acks.Add(1)
				c.note(journal.Entry{Kind: journal.Acknowledged, Client: name, Room: room, ClientID: text, Seq: sent.Seq, ID: sent.ID})
				break
			}
			// While the database is away the server says so; it may have stored the message all the same.
			var refused *wsclient.Error
			if !errors.As(err, &refused) || !refused.Temporary() {
				if ctx.Err() == nil {
					c.fault(fmt.Errorf("%s cannot send: %w", name, err))
				}
				return
			}
			if pause(ctx, 20*time.Millisecond) != nil {
				return
			}
		}
	}
}

func (c *chat) acknowledged() int { return int(c.acks.Load()) }

func (c *chat) noted(cut int, over bool) error {
	c.mu.Lock()
	failed := c.failed
	c.mu.Unlock()
	if over {
		return errors.Join(failed, c.journal.Write(journal.Entry{Kind: journal.Healed, Round: cut}))
	}
	victim := "store"
	if c.database == nil {
		victim = "server"
	}
	return errors.Join(failed, c.journal.Write(journal.Entry{Kind: journal.Round, Round: cut, Fault: "power", Victim: victim}))
}

// kill ends the server of the database and, half of the time, parley, as if it were on the same machine.
func (c *chat) kill(random *rand.Rand) error {
	c.killed = c.database == nil || random.IntN(2) == 0
	var err error
	if c.database != nil {
		err = c.database.SendKill()
	}
	if c.killed {
		err = errors.Join(err, c.parley.SendKill())
	}
	return err
}

func (c *chat) start(ctx context.Context) error {
	if c.database != nil {
		if err := again(ctx, c.database.Process); err != nil {
			return err
		}
	}
	if !c.killed {
		select {
		case <-c.parley.Exited():
			return fmt.Errorf("parley ended without its database: %s", c.parley.Tail())
		default:
			return nil
		}
	}
	return again(ctx, c.parley)
}

func (c *chat) finish(ctx context.Context, r *Result) error {
	ctx, cancel := context.WithTimeout(ctx, endPatience)
	defer cancel()
	close(c.stop)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.working.Wait()
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		return fmt.Errorf("the clients wait for their acks: %w", ctx.Err())
	}
	if err := c.read(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	err := c.failed
	c.mu.Unlock()
	if err := errors.Join(err, c.journal.Flush()); err != nil {
		return err
	}
	if _, err := c.file.Seek(0, 0); err != nil {
		return err
	}
	verdict, err := journal.Check(c.file)
	if err != nil {
		return err
	}
	r.Journal = &verdict
	r.Acknowledged += verdict.Acknowledged
	r.Lost += verdict.Count(journal.Lost)
	r.Twice += verdict.Count(journal.Twice)
	return nil
}

// read writes down what is stored, and waits until every client has been told.
func (c *chat) read(ctx context.Context) error {
	reader, err := c.dial(ctx, c.Clients, nil)
	if err != nil {
		return err
	}
	defer reader.Close()
	const most = 100 // messages of a page
	var last [rooms]uint64
	for i := range min(rooms, c.Clients) {
		room := fmt.Sprintf("room-%d", i)
		joined, err := reader.Join(ctx, room)
		if err != nil {
			return err
		}
		last[i] = joined.Seq
		for after := uint64(0); after < joined.Seq; {
			page, err := reader.History(ctx, room, wsclient.Range{Before: min(after+most, joined.Seq) + 1, Limit: most})
			if err != nil {
				return err
			}
			next := after
			for _, m := range page.Messages {
				if m.Seq <= after {
					continue
				}
				next = m.Seq
				c.note(journal.Entry{Kind: journal.Stored, Room: room, Seq: m.Seq, ID: m.ID, ClientID: m.Text, Text: m.Text})
			}
			if next == after { // a hole, which the check finds
				next = min(after+most, joined.Seq)
			}
			after = next
		}
		c.note(journal.Entry{Kind: journal.Complete, What: journal.Log, Room: room})
	}
	// Their last messages may still be on their way. A client that has lost some never gets there, which the check says.
	quiet, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for i := range c.clients {
		for c.seen[i].Load() < last[i%rooms] && pause(quiet, 10*time.Millisecond) == nil {
		}
	}
	return ctx.Err()
}

func (c *chat) close() error {
	select {
	case <-c.stop:
	default:
		close(c.stop)
	}
	for _, client := range c.clients {
		client.Close()
	}
	c.working.Wait()
	var err error
	if c.parley != nil {
		err = c.parley.Close()
	}
	if c.database != nil {
		err = errors.Join(err, c.database.Close())
	}
	return errors.Join(err, c.file.Close())
}
