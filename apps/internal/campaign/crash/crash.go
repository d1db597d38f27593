// Package crash is the crash campaign: clients talk, go away, come back and sign up, while servers are killed and frozen at random
// moments. What each client was told is written to a journal, which is checked at the end against what is stored.
package crash

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/apps/internal/campaign/journal"
	"github.com/parley-chat/parley/apps/internal/config"
)

// The faults.
const (
	killing  = "kill"
	freezing = "freeze"
)

// campaign is one run.
type campaign struct {
	config.Crash
	*deployment
	out     io.Writer
	run     string // part of every name, so that a second run has others
	rooms   []string
	random  *rand.Rand
	devices []*device
	began   time.Time

	journal *journal.Writer
	over    chan struct{} // closed when nobody may begin anything new

	acknowledged atomic.Int64
	mails        mailbox
	newcomers    addresses

	mu       sync.Mutex
	failed   error // the journal could not be written
	problems []string
	more     int // problems that are not in problems
}

// report is what a campaign prints.
type report struct {
	journal.Verdict
	Servers string  `json:"servers"`
	Seed    uint64  `json:"seed"`
	Seconds float64 `json:"seconds"`
	// StartedAgain counts how often nodes ended by themselves and were started again. A node ends where a server is away when it starts.
	StartedAgain int `json:"startedAgain"`
	// Problems are what the journal does not tell: a client that the server has ended for good, an answer that no request may get.
	Problems []string `json:"problems,omitempty"`
	Journal  string   `json:"journal,omitempty"`
}

// Run runs a campaign and prints what it found. It returns an error if something is wrong, or if the campaign could not be run.
func Run(ctx context.Context, s config.Settings, c config.Crash, stdout io.Writer) (err error) {
	if err := check(c); err != nil {
		return err
	}
	if c.Seed == 0 {
		c.Seed = rand.Uint64() //nolint:gosec // it need not be secret
	}
	k := &campaign{
		Crash: c, out: stdout, run: strconv.FormatInt(time.Now().UnixMilli(), 36), random: rand.New(rand.NewPCG(c.Seed, 0)), //nolint:gosec // it need not be secret
		over: make(chan struct{}), mails: mailbox{known: map[string]bool{}, codes: map[string]string{}},
	}
	if c.JSON {
		k.out = io.Discard
	}
	if c.Rate == 0 && len(c.URL) == 0 {
		k.Rate = -1
	}
	for i := range c.Rooms {
		k.rooms = append(k.rooms, fmt.Sprintf("crash-%s-%d", k.run, i+1))
	}
	file, err := journalFile(c.Journal)
	if err != nil {
		return fmt.Errorf("crash: --journal: %w", err)
	}
	kept := c.Journal != ""
	defer func() {
		err = errors.Join(err, file.Close())
		if !kept {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	k.journal = journal.NewWriter(file)
	if len(c.URL) > 0 {
		k.deployment, err = given(c)
	} else {
		k.deployment, err = own(ctx, s, c)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.close()) }()
	k.say("The moments are drawn with --seed %d. Servers: %s.", c.Seed, k.about)
	if err := k.all(ctx); err != nil {
		if ctx.Err() != nil {
			err = errors.New("crash: it was interrupted")
		}
		kept = kept || ctx.Err() == nil
		if flushed := k.journal.Flush(); flushed != nil {
			return errors.Join(err, flushed)
		}
		if kept {
			err = fmt.Errorf("%w; the journal so far is in %s", err, file.Name())
		}
		return err
	}
	verdict, err := judge(file.Name())
	if err != nil {
		return err
	}
	r := report{Verdict: verdict, Servers: k.about, Seed: c.Seed, Seconds: time.Since(k.began).Seconds(), Problems: k.problemList()}
	if len(c.URL) == 0 && r.Reloads > 0 {
		r.Problems = append(r.Problems, fmt.Sprintf("clients were told %d times that messages are missing for ever, and nobody has removed any", r.Reloads))
	}
	if k.again != nil {
		r.StartedAgain = k.again()
	}
	wrong := r.wrong()
	if kept = kept || len(wrong) > 0; kept {
		r.Journal = file.Name()
	}
	if c.JSON {
		err = json.NewEncoder(stdout).Encode(r)
	} else {
		err = r.print(stdout)
	}
	if len(wrong) > 0 {
		return errors.Join(fmt.Errorf("crash: %s; the journal is %s", strings.Join(wrong, ", "), file.Name()), err)
	}
	return err
}

func check(c config.Crash) error {
	bad := func(format string, args ...any) error { return fmt.Errorf("crash: "+format, args...) }
	switch {
	case c.Rounds < 1 || c.Clients < 1 || c.Rooms < 1 || c.InFlight < 1:
		return bad("--rounds, --clients, --rooms and --in-flight are at least 1")
	case c.SignUps < 0 || c.Nodes < 0 || c.For < 0 || c.Rate < 0:
		return bad("--sign-ups, --nodes, --for and --rate are at least 0")
	case c.Frozen <= 0 || c.Settle <= 0:
		return bad("--frozen and --settle are more than 0")
	case len(c.Faults) == 0:
		return bad("--faults names none")
	}
	for _, f := range c.Faults {
		if f != killing && f != freezing {
			return bad("--faults: %q is neither kill nor freeze", f)
		}
	}
	stores := 0
	for i, what := range c.Start {
		switch what {
		case startPostgres, startMySQL, startMongo:
			stores++
		case startRedis, startKafka:
		default:
			return bad("--start: %q is none of postgres, mysql, mongo, redis and kafka", what)
		}
		if slices.Contains(c.Start[:i], what) || stores > 1 {
			return bad("--start: one store, and each server once")
		}
	}
	if slices.Contains(c.Start, startMongo) && c.MongoJars == "" {
		return bad("--start mongo needs --mongo-jars")
	}
	if slices.Contains(c.Start, startKafka) && c.KafkaJars == "" {
		return bad("--start kafka needs --kafka-jars")
	}
	for _, u := range c.URL {
		if p, err := url.Parse(u); err != nil || p.Host == "" || p.Scheme != "http" && p.Scheme != "https" {
			return bad("--url: %q is no URL like http://localhost:5002", u)
		}
	}
	commands := len(c.Kill) + len(c.Restart) + len(c.Freeze) + len(c.Thaw)
	switch {
	case len(c.URL) > 0 && (len(c.Start) > 0 || c.Nodes > 0):
		return bad("--url is of servers that run; --start and --nodes start some: it is one or the other")
	case len(c.URL) == 0 && (commands > 0 || c.Tokens != ""):
		return bad("--kill, --restart, --freeze, --thaw and --tokens are for --url")
	}
	return nil
}

// journalFile makes the file of the journal, or a temporary one.
func journalFile(name string) (*os.File, error) {
	if name == "" {
		return os.CreateTemp("", "parley-crash-*.jsonl")
	}
	return os.OpenFile(name, os.O_CREATE|os.O_RDWR|os.O_EXCL, 0o600) //nolint:gosec // whoever calls says which
}

func judge(name string) (journal.Verdict, error) {
	file, err := os.Open(name) //nolint:gosec // it was made here
	if err != nil {
		return journal.Verdict{}, err
	}
	defer file.Close()
	return journal.Check(file)
}

func (c *campaign) say(format string, args ...any) { fmt.Fprintf(c.out, format+"\n", args...) }

// write enters e in the journal.
func (c *campaign) write(e journal.Entry) {
	if err := c.journal.Write(e); err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.failed = errors.Join(c.failed, err)
	}
}

// maxProblems is how many problems are printed; the others are counted.
const maxProblems = 10

func (c *campaign) problem(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.problems) < maxProblems {
		c.problems = append(c.problems, fmt.Sprintf(format, args...))
	} else {
		c.more++
	}
}

func (c *campaign) problemList() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.more > 0 {
		return append(slices.Clone(c.problems), fmt.Sprintf("and %d more", c.more))
	}
	return slices.Clone(c.problems)
}

func (c *campaign) working() bool {
	select {
	case <-c.over:
		return false
	default:
		return true
	}
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// until tries until try succeeds, for Settle at most.
func (c *campaign) until(ctx context.Context, what string, try func() error) error {
	late := time.Now().Add(c.Settle)
	for {
		err := try()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Now().After(late) {
			return fmt.Errorf("crash: %s: in vain for %v: %w", what, c.Settle, err)
		}
		pause(ctx, 50*time.Millisecond)
	}
}

// collect enters new mails in the journal.
func (c *campaign) collect(ctx context.Context) {
	for node, letters := range c.deployment.mails(ctx) {
		c.take(node, letters)
	}
}

// well waits until every node is ready, and starts those again that have ended by themselves.
func (c *campaign) well(ctx context.Context) error {
	return c.until(ctx, "the servers are not well", func() error {
		if err := c.alive(); err != nil {
			return err
		}
		for _, u := range c.urls {
			if err := ready(u)(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

// all runs the campaign, up to the last entry of the journal.
func (c *campaign) all(ctx context.Context) error {
	if err := c.well(ctx); err != nil {
		return err
	}
	if err := c.invite(ctx); err != nil {
		return err
	}
	c.began = time.Now()
	var working sync.WaitGroup
	talking, stop := context.WithCancel(ctx)
	defer working.Wait()
	defer stop()
	for i, d := range c.devices {
		for line := range c.InFlight {
			working.Go(func() { d.talk(talking, line, c.Seed+uint64(i)) })
		}
	}
	if c.Tokens == "" {
		for i := range c.SignUps {
			working.Go(func() { c.newcomer(talking, i) })
		}
	}
	defer func() {
		if c.working() {
			close(c.over)
		}
	}()
	if err := c.faults(ctx); err != nil {
		return err
	}
	for _, d := range c.devices {
		if err := c.back(ctx, d); err != nil {
			return err
		}
	}
	close(c.over)
	late := time.AfterFunc(c.Settle, stop)
	defer late.Stop()
	working.Wait()
	if talking.Err() != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c.problem("after %v some messages and sign-ups still have no answer", c.Settle)
	}
	for _, d := range c.devices {
		if d.acked.Load() == 0 {
			c.problem("%s could send nothing", d.name)
		}
	}
	if err := c.settle(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(c.failed, c.journal.Flush())
}

// invite lets everybody come in.
func (c *campaign) invite(ctx context.Context) error {
	tokens, err := tokensOf(c.Tokens)
	if err != nil {
		return err
	}
	for i := range c.Clients {
		name := fmt.Sprintf("client-%d", i+1)
		d, err := c.person(ctx, name, tokens, i)
		if err != nil {
			return err
		}
		c.devices = append(c.devices, d)
		if err := d.come(ctx, c.urls[i%len(c.urls)]); err != nil {
			return fmt.Errorf("crash: %w", err)
		}
	}
	return nil
}

// person returns a device whose user has a token of --tokens, or a new account.
func (c *campaign) person(ctx context.Context, name string, tokens []string, number int) (*device, error) {
	if len(tokens) > 0 {
		token := tokens[number%len(tokens)]
		user, err := subject(token)
		if err != nil {
			return nil, fmt.Errorf("crash: %w", err)
		}
		return c.newDevice(name, user, func(cfg *wsclient.Config) {
			cfg.Token = func(context.Context) (string, error) { return token, nil }
		}), nil
	}
	session, err := c.member(ctx, name)
	if err != nil {
		return nil, err
	}
	return c.newDevice(name, session.Account().ID, func(cfg *wsclient.Config) { cfg.Tokens = session }), nil
}

func tokensOf(file string) ([]string, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file) //nolint:gosec // whoever calls says which
	if err != nil {
		return nil, fmt.Errorf("crash: --tokens: %w", err)
	}
	if lines := strings.Fields(string(text)); len(lines) > 0 {
		return lines, nil
	}
	return nil, fmt.Errorf("crash: --tokens: %s has none", file)
}

// back connects a device to some node, if it is away. One that is refused stays away.
func (c *campaign) back(ctx context.Context, d *device) error {
	d.mu.Lock()
	away := d.client == nil
	d.mu.Unlock()
	if !away || d.refused {
		return nil
	}
	within, cancel := context.WithTimeout(ctx, c.Settle)
	defer cancel()
	if err := d.come(within, c.urls[c.random.IntN(len(c.urls))]); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		d.refused = true
		c.problem("%v", err)
	}
	return nil
}

// faults runs the rounds.
func (c *campaign) faults(ctx context.Context) error {
	type chance struct {
		victim
		faults []string
	}
	var chances []chance
	for _, v := range c.victims {
		if len(c.Victims) > 0 && !slices.Contains(c.Victims, v.name) {
			continue
		}
		if all := v.faults(c.Faults); len(all) > 0 {
			chances = append(chances, chance{v, all})
		}
	}
	if len(chances) == 0 {
		return errors.New("crash: there is nobody to whom --faults can be done, of those that --victims names")
	}
	between := func(least, most time.Duration) time.Duration {
		return least + time.Duration(c.random.Int64N(int64(most-least)+1))
	}
	told := time.Now()
	for round := 1; round <= c.Rounds && ctx.Err() == nil; round++ {
		if c.For > 0 && time.Since(c.began) > c.For {
			c.say("It ends before round %d: --for is over.", round)
			break
		}
		if c.random.IntN(5) == 0 && round > 1 {
			pause(ctx, between(0, 300*time.Millisecond)) // while it starts, or just after
		} else {
			if err := c.well(ctx); err != nil {
				return err
			}
			pause(ctx, between(200*time.Millisecond, 1500*time.Millisecond))
		}
		// Most of those who are away come back; one may go, and be away for some rounds.
		for _, d := range c.devices {
			if c.random.IntN(3) > 0 {
				if err := c.back(ctx, d); err != nil {
					return err
				}
			}
		}
		if c.random.IntN(2) == 0 {
			c.devices[c.random.IntN(len(c.devices))].leave()
		}
		v := chances[c.random.IntN(len(chances))]
		fault := v.faults[c.random.IntN(len(v.faults))]
		down := between(0, 500*time.Millisecond)
		if fault == freezing {
			down = between(c.Frozen/10, c.Frozen)
		}
		if err := c.journal.Flush(); err != nil {
			return err
		}
		c.write(journal.Entry{Kind: journal.Round, Round: round, Fault: fault, Victim: v.name})
		if err := inflict(ctx, v.victim, fault, down); err != nil {
			return fmt.Errorf("crash: %w", err)
		}
		c.write(journal.Entry{Kind: journal.Healed, Round: round})
		c.collect(ctx)
		if time.Since(told) > 5*time.Second || round == c.Rounds {
			told = time.Now()
			c.say("round %d of %d, %.0f s: %s %s; %d messages acknowledged", round, c.Rounds, time.Since(c.began).Seconds(), fault, v.name, c.acknowledged.Load())
		}
	}
	return ctx.Err()
}

// inflict does a fault to a victim and undoes it.
func inflict(ctx context.Context, v victim, fault string, down time.Duration) error {
	do, undo := v.kill, v.restart
	if fault == freezing {
		do, undo = v.freeze, v.thaw
	}
	if err := do(ctx); err != nil {
		return err
	}
	pause(ctx, down)
	return undo(context.WithoutCancel(ctx)) // nobody is left frozen
}

// auditor is the name of who reads the final log.
const auditor = "auditor"

// settle waits until everybody has everything, and writes down what there is then.
func (c *campaign) settle(ctx context.Context) error {
	if err := c.well(ctx); err != nil {
		return err
	}
	c.say("The faults are over; everybody gets what they have missed.")
	tokens, err := tokensOf(c.Tokens)
	if err != nil {
		return err
	}
	reader, err := c.person(ctx, auditor, tokens, 0)
	if err != nil {
		return err
	}
	// It reads the history, and is given no messages.
	tops := map[string]uint64{}
	dialling, cancel := context.WithTimeout(ctx, c.Settle)
	defer cancel()
	cfg := wsclient.Config{URL: "ws" + strings.TrimPrefix(c.urls[0], "http") + "/socket", Rate: c.Rate}
	reader.tokens(&cfg)
	client, err := wsclient.Dial(dialling, cfg)
	if err != nil {
		return fmt.Errorf("crash: the auditor: %w", err)
	}
	defer client.Close()
	for _, room := range c.rooms {
		c.write(journal.Entry{Kind: journal.Joined, Client: auditor, User: reader.user, Room: room})
		joined, err := client.Join(dialling, room)
		if err != nil {
			return fmt.Errorf("crash: the auditor: %w", err)
		}
		tops[room] = joined.Seq
		if err := c.log(ctx, client, room, joined.Seq); err != nil {
			return err
		}
	}
	if err := c.until(ctx, "not everybody has got everything", func() error {
		for _, d := range c.devices {
			if !d.here() {
				continue
			}
			for room, top := range tops {
				if has := d.has(room); has < top {
					return fmt.Errorf("%s has %d of %d messages of %s", d.name, has, top, room)
				}
			}
		}
		return nil
	}); err != nil {
		if ctx.Err() != nil {
			return err
		}
		c.problem("%v", err)
	}
	for _, room := range c.rooms {
		c.write(journal.Entry{Kind: journal.Complete, What: journal.Log, Room: room})
	}
	if err := c.present(ctx, client, reader.user); err != nil {
		return err
	}
	if c.Tokens != "" {
		return nil
	}
	return c.accounts(ctx)
}

// log writes down what is stored of a room.
func (c *campaign) log(ctx context.Context, client *wsclient.Client, room string, top uint64) error {
	for before := top + 1; before > 1; {
		page, err := client.History(ctx, room, wsclient.Range{Before: before, Limit: 1000})
		if err != nil {
			return fmt.Errorf("crash: read the log of %s: %w", room, err)
		}
		for _, m := range page.Messages {
			key := m.ClientID
			if key == "" {
				key = "without an id: " + m.ID // nobody has sent it
			}
			c.write(journal.Entry{Kind: journal.Stored, Room: room, Seq: m.Seq, ID: m.ID, ClientID: key, Text: digest(m.Text)})
		}
		if len(page.Messages) == 0 || page.Messages[0].Seq >= before {
			break // the check says what is missing
		}
		before = page.Messages[0].Seq
	}
	return nil
}

// present writes down who is listed as present, once that is right or Settle is over.
func (c *campaign) present(ctx context.Context, client *wsclient.Client, self string) error {
	want := map[string]bool{self: true}
	for _, d := range c.devices {
		if d.here() {
			want[d.user] = true
		}
	}
	for _, room := range c.rooms {
		e := journal.Entry{Kind: journal.Presence, Room: room}
		err := c.until(ctx, "the members of "+room+" are not right", func() error {
			there, err := client.Presence(ctx, room)
			if err != nil {
				return err
			}
			e.Members, e.More = nil, there.Count > len(there.Members)
			for _, m := range there.Members {
				e.Members = append(e.Members, m.ID)
			}
			for _, m := range e.Members {
				if !want[m] {
					return fmt.Errorf("%s is listed as present", m)
				}
			}
			if !e.More && len(e.Members) != len(want) {
				return fmt.Errorf("%d of %d are listed as present", len(e.Members), len(want))
			}
			return nil
		})
		if err != nil && ctx.Err() != nil {
			return err
		}
		if e.Members == nil && err != nil {
			c.problem("%v", err)
			continue
		}
		e.Settled = true
		c.write(e)
	}
	return nil
}

// accounts collects the last mails and uses their codes.
func (c *campaign) accounts(ctx context.Context) error {
	err := c.until(ctx, "some sign-ups have no mail", func() error {
		c.collect(ctx)
		for _, address := range c.newcomers.accepted {
			if c.codeOf(address) == "" {
				return errors.New(address + " has none")
			}
		}
		return nil
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		c.problem("%v", err)
	}
	c.write(journal.Entry{Kind: journal.Complete, What: journal.Mails})
	used := 0
	for _, address := range c.newcomers.asked {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if c.codeOf(address) == "" {
			// It got no answer: there may be no sign-up.
			status, text, err := ask(ctx, http.MethodPost, c.urls[0]+"/auth/signin", map[string]string{"email": address, "password": password})
			if err != nil {
				return fmt.Errorf("crash: sign-in of %s: %w", address, err)
			}
			if status != http.StatusUnauthorized {
				c.problem("%s has no mail, and its sign-in was answered with %d: %.300s", address, status, text)
				c.write(journal.Entry{Kind: journal.HasAccount, Account: address})
			}
			continue
		}
		if err := c.verify(ctx, address); err != nil {
			c.problem("the code of %s: %v", address, err)
			continue
		}
		if used++; used%signInEvery == 0 {
			if _, err := wsclient.SignIn(ctx, wsclient.SessionConfig{Server: c.urls[0], HTTP: browser}, address, password); err != nil {
				c.problem("the sign-in of %s: %v", address, err)
			}
		}
	}
	c.write(journal.Entry{Kind: journal.Complete, What: journal.Accounts})
	return nil
}

// signInEvery: of so many new accounts, one signs in. More would measure the hash of passwords.
const signInEvery = 25

// wrong names what is wrong.
func (r *report) wrong() []string {
	all := r.Wrong()
	if len(r.Unread) > 0 {
		all = append(all, fmt.Sprintf("%d rooms whose log was not read", len(r.Unread)))
	}
	if len(r.Problems) > 0 {
		all = append(all, "problems: "+strings.Join(r.Problems, "; "))
	}
	if r.Acknowledged == 0 {
		all = append(all, "no message was acknowledged")
	}
	return all
}

func (r *report) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(t, "%s\t"+format+"\n", append([]any{name}, args...)...)
	}
	row("servers", "%s", r.Servers)
	row("seed", "%d", r.Seed)
	row("rounds", "%d in %.0f s", r.Rounds, r.Seconds)
	for _, f := range slices.Sorted(maps.Keys(r.Faults)) {
		row("  "+f, "%d", r.Faults[f])
	}
	row("nodes started again", "%d", r.StartedAgain)
	r.Print(t)
	for _, p := range r.Problems {
		row("problem", "%s", p)
	}
	if r.Journal != "" {
		row("journal", "%s", r.Journal)
	}
	return t.Flush()
}
