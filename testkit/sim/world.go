package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/testkit"
)

// world is everything of one run: the processes, what they share, those who use them, and what goes wrong.
type world struct {
	scheduler *scheduler
	bug       *bug
	profile   Profile

	// What outlives the processes.
	store    *memory.Store
	messages chat.MessageStore // of store, as processes have it
	cache    *memory.RecentCache
	presence *memory.Presence
	tokens   *memory.Tokens
	limiter  *memory.Limiter
	bus      *bus
	fanout   *fanout
	smtp     *smtp
	ledger   *ledger
	rules    *rules // nil without Profile.Rights

	programs  []*program
	processes []*process // all that were ever started
	people    []*person
	clients   []*client
	rooms     []string
	adopting  sync.Mutex
	conns     []*conn           // under adopting
	acked     map[string]placed // by the client's name for the message
	mu        sync.Mutex
	changers  map[revision]*process // who has made each change, under mu

	// What goes wrong, drawn at the beginning: how often, and where.
	calm bool    // nothing goes wrong any more
	away *person // somebody who does not come back for now
	// presenceLost is when Presence was last lost; 0 if it was not.
	presenceLost time.Duration
	faulty       map[string]float64
	slowness     float64
	lateness     float64
	loss         float64
	cut          map[string]bool // nodes that the fan-out does not reach
	partition    map[string]bool // processes that the bus does not reach
	settings     settings

	replays  map[string]int // of dead letters, by their address
	spared   atomic.Int64   // reads of a cache that lacks what a process that is gone has stored
	counts   Counts
	violated string
}

// settings are sizes that a run draws, small enough that their limits are met.
type settings struct {
	page, recent, cacheRooms, cacheMessages, write, queued int
}

// program is something that runs as a process, again and again.
type program struct {
	name  string
	runs  int
	now   *process // nil while it does not run
	start func(*process) error

	accounts *parley.Accounts
	node     *parley.Node
	auth     *auth.Service // of a node: it says whose a token is
	behind   time.Duration // by how much its clock is
	mailer   *parley.Mailer
}

func (p *program) isNode() bool { return strings.HasPrefix(p.name, "n") }

// up reports whether the program takes requests.
func (p *program) up() bool { return p.now != nil && !p.now.dead.Load() }

func newWorld(o Options) *world {
	w := &world{
		scheduler: newScheduler(o.Seed, o.Lines), profile: o.Profile,
		store: memory.NewStore(), presence: memory.NewPresence(),
		tokens: memory.NewTokens(memory.TokensConfig{}), limiter: memory.NewLimiter(memory.LimiterConfig{}),
		acked: map[string]placed{}, changers: map[revision]*process{}, replays: map[string]int{}, faulty: map[string]float64{}, cut: map[string]bool{}, partition: map[string]bool{},
	}
	w.bug = &bug{name: o.Bug}
	w.messages = w.store.Messages
	if w.bug.is("a client id is stored twice") {
		w.messages = w.bug.ports(w.store.Ports()).Messages // it is what others see
	}
	w.bus = &bus{world: w}
	w.bus.group(mail.Topic, mail.Group)
	w.fanout = &fanout{world: w}
	w.smtp = &smtp{tries: map[string]int{}}
	w.ledger = newLedger()
	if o.Profile.Rights {
		w.rules = newRules(w)
	}
	w.draw()
	w.cache = w.newCache()
	return w
}

// failing are the ports that may fail, as a plan of faults names them.
var failing = []string{
	"Users", "Sessions", "Codes", "SignUps", "Nonces", "Outbox", "Publisher", "Subscriber", "Queue", "Sender",
	"Messages", "Rooms", "Members", "Marks", "Cache", "Fanout", "Presence",
}

// draw decides how large the world is, and what goes wrong in it. Each run has only some of the faults: a rare one is seen best
// where there are few others.
func (w *world) draw() {
	r := w.scheduler.random
	w.settings = settings{
		page: 3 + r.IntN(12), recent: 2 + r.IntN(8), cacheRooms: 1 + r.IntN(3), cacheMessages: 3 + r.IntN(15),
		write: pick(r, []int{64, 256, 16 << 10}), queued: pick(r, []int{6 << 10, 64 << 10, 1 << 20}),
	}
	some := failing
	if w.rules != nil {
		some = append(slices.Clone(some), "Roles", "Restrictions", "Blocks")
	}
	if len(w.profile.Failing) > 0 {
		some = w.profile.Failing
	}
	for _, name := range some {
		if r.Float64() < 0.4 {
			w.faulty[name] = pick(r, []float64{0.01, 0.05, 0.2})
			if name == "Sender" {
				w.faulty[name] *= 4 // few mails are sent
			}
		}
	}
	w.slowness = pick(r, []float64{0, 0, 0.02, 0.1})
	w.lateness = pick(r, []float64{0, 0.02, 0.2})
	w.loss = pick(r, []float64{0, 0, 0.05, 0.3})
	for i := range 1 + r.IntN(2) {
		w.rooms = append(w.rooms, string(rune('a'+i)))
	}
	for i := range w.profile.Nodes + r.IntN(2) {
		w.programs = append(w.programs, w.nodeProgram(fmt.Sprintf("n%d", i+1)))
	}
	if w.rules != nil {
		for _, pr := range w.programs {
			pr.behind = pick(r, []time.Duration{0, 0, 3 * time.Second, time.Duration(r.Int64N(int64(behindMost)))})
		}
	}
	w.programs = append(w.programs, w.accountsProgram(), w.mailerProgram())
	for i := range w.profile.People {
		p := &person{
			reads: map[string]uint64{}, left: map[string]bool{},
			name: fmt.Sprintf("P%d", i+1), email: fmt.Sprintf("p%d@sim.test", i+1), password: fmt.Sprintf("pass phrase of P%d", i+1),
		}
		w.people = append(w.people, p)
		for d := range 1 + r.IntN(2) {
			w.clients = append(w.clients, newClient(w, p, fmt.Sprintf("c%d%c", i+1, 'x'+d)))
		}
	}
}

func (w *world) newCache() *memory.RecentCache {
	return memory.NewRecentCache(memory.RecentCacheConfig{Rooms: w.settings.cacheRooms, Messages: w.settings.cacheMessages})
}

// trouble is chance until calmDown; then it is false.
func (w *world) trouble(p float64) bool { return !w.calm && w.scheduler.chance(p) }

// callTime is how long a call of a port takes.
func (w *world) callTime(r *rand.Rand) time.Duration {
	d := between(20*time.Microsecond, 3*time.Millisecond)(r)
	if !w.calm && r.Float64() < w.slowness {
		d += pick(r, []latency{between(5*time.Millisecond, 300*time.Millisecond), between(time.Second, 20*time.Second)})(r)
	}
	return d
}

// fate is what becomes of a call.
func (w *world) fate(p *process, method string) (testkit.Fault, string) {
	name, _, _ := strings.Cut(method, ".")
	if !w.trouble(w.faulty[name]) {
		return testkit.Fault{}, ""
	}
	type fate struct {
		fault testkit.Fault
		what  string
	}
	fates := []fate{{testkit.Fail(nil), "fails"}, {testkit.LoseAnswer(), "loses its answer"}}
	switch method {
	case "Sender.Send":
		fates = append(fates, fate{testkit.Fail(mail.ErrUntried), "is not tried"})
	case "Fanout.Publish":
		fates = append(fates, fate{testkit.Drop(), "is lost"})
	default:
		fates = append(fates, fate{testkit.Duplicate(), "happens twice"})
	}
	fates = slices.DeleteFunc(fates, func(f fate) bool { return !testkit.Stands(method, f.fault) })
	f := pick(w.scheduler.random, fates)
	return f.fault, f.what
}

// ports are the ports of a process, each behind its gate.
func (w *world) ports(p *process) parley.Ports {
	f := p.faults
	s := w.ledger.ports(w.store.Ports()).With(parley.Ports{
		Recent: cacheOf{w}, Presence: presenceOf{w}, Sender: w.smtp, Publisher: port{w.bus, p}, Subscriber: port{w.bus, p},
	})
	s = w.bug.ports(s)
	s.Messages = changesOf{s.Messages, w, p}
	if w.rules != nil {
		s = w.rules.ports(s, p)
	}
	ports := parley.Ports{
		Users: testkit.FaultyUsers(s.Users, f), Sessions: testkit.FaultySessions(s.Sessions, f), Codes: testkit.FaultyCodes(s.Codes, f), Factors: testkit.FaultyFactors(s.Factors, f),
		SignUps: testkit.FaultySignUps(s.SignUps, f), Nonces: testkit.FaultyNonces(s.Nonces, f),
		Limiter: w.limiter, Hasher: memory.NewHasher(), Issuer: w.tokens, Verifier: w.tokens,
		Outbox: testkit.FaultyOutbox(s.Outbox, f), Asides: testkit.FaultyAsides(s.Asides, f),
		Publisher: testkit.FaultyPublisher(s.Publisher, f), Subscriber: testkit.FaultySubscriber(s.Subscriber, f),
		MailQueue: testkit.FaultyQueue(s.MailQueue, f), DeadLetters: testkit.FaultyDeadLetters(s.DeadLetters, f),
		MailStats: testkit.FaultyStats(s.MailStats, f), Sender: testkit.FaultySender(s.Sender, f),
		Messages: testkit.FaultyMessages(s.Messages, f), Rooms: testkit.FaultyRooms(s.Rooms, f), Members: testkit.FaultyMembers(s.Members, f),
		Marks:  testkit.FaultyMarks(s.Marks, f),
		Recent: testkit.FaultyCache(s.Recent, f), Presence: testkit.FaultyPresence(s.Presence, f),
	}
	if strings.HasPrefix(p.name, "n") {
		ports.Fanout = testkit.FaultyFanout(w.fanout.node(p), f)
	}
	if w.rules != nil {
		ports.Roles, ports.Restrictions = testkit.FaultyRoles(s.Roles, f), testkit.FaultyRestrictions(s.Restrictions, f)
		ports.Blocks = testkit.FaultyBlocks(s.Blocks, f)
	}
	ports.Sender = counted{ports.Sender, w.smtp}
	return told(ports)
}

// config is what all processes have in common.
func (w *world) config(p *process) parley.Config {
	many := auth.Rate{Burst: 1 << 20, Per: time.Second}
	return parley.Config{
		Ports: w.ports(p), PublicURL: "https://sim.test", NewID: p.newID,
		Auth:   auth.Config{Random: testkit.NewRandom(w.scheduler.random.Uint64()), MailRate: many, SignInRate: many, CodeRate: many, NewID: p.newID},
		Worker: mail.WorkerConfig{Random: func() float64 { return 0.37 }, Backoff: 2 * time.Second, Poll: 1013 * time.Millisecond},
		Relay:  event.RelayConfig{Poll: 1009 * time.Millisecond},
		Chat:   chat.Config{MaxPage: w.settings.page, Recent: w.settings.recent},
		Hub: realtime.HubConfig{
			Node: p.name, Workers: 1, LeaseTTL: 9001 * time.Millisecond, TypingTTL: 3703 * time.Millisecond,
			MaxWrite: w.settings.write, MaxQueued: w.settings.queued,
		},
	}
}

func (w *world) accountsProgram() *program {
	pr := &program{name: "accounts"}
	pr.start = func(p *process) (err error) {
		if pr.accounts, err = parley.NewAccounts(w.config(p)); err != nil {
			return err
		}
		run := pr.accounts.Run
		go func() { defer close(p.ended); w.ran(p, run(p.ctx)) }()
		return nil
	}
	return pr
}

func (w *world) mailerProgram() *program {
	pr := &program{name: "mailer"}
	pr.start = func(p *process) (err error) {
		if pr.mailer, err = parley.NewMailer(w.config(p)); err != nil {
			return err
		}
		run := pr.mailer.Run
		go func() { defer close(p.ended); w.ran(p, run(p.ctx, nil)) }()
		return nil
	}
	return pr
}

func (w *world) nodeProgram(name string) *program {
	pr := &program{name: name}
	pr.start = func(p *process) (err error) {
		cfg := w.config(p)
		if w.rules != nil {
			cfg.Chat.Now = w.rules.clock(pr)
			cfg.Hub.Now = cfg.Chat.Now
			cfg.Presence = onTime{cfg.Presence}
		}
		a := cfg.Auth
		a.Users, a.SignUps, a.Sessions, a.Codes, a.Nonces, a.Limiter = cfg.Users, cfg.SignUps, cfg.Sessions, cfg.Codes, cfg.Nonces, cfg.Limiter
		a.Hasher, a.Issuer, a.Verifier = cfg.Hasher, cfg.Issuer, cfg.Verifier
		if pr.auth, err = auth.New(a); err != nil {
			return err
		}
		cfg.Nonces = nil
		cfg.Authenticator = parley.Authenticate(pr.auth)
		if pr.node, err = parley.NewNode(cfg); err != nil {
			return err
		}
		run := pr.node.Run
		go func() { defer close(p.ended); w.ran(p, run(p.ctx, nil)) }()
		return nil
	}
	return pr
}

// ran notes a process that has ended with an error.
func (w *world) ran(p *process, err error) {
	if err != nil && !p.dead.Load() {
		w.scheduler.arrive(p.name+" has ended", between(1, 2), func() string {
			w.violate("%s has ended: %v", p.name, err)
			return err.Error()
		})
	}
}

// begin starts a program anew.
func (w *world) begin(pr *program) {
	pr.runs++
	p := w.newProcess(fmt.Sprintf("%s.%d", pr.name, pr.runs))
	if err := pr.start(p); err != nil {
		panic(err) // the configuration of this package is wrong
	}
	pr.now = p
	w.processes = append(w.processes, p)
}

// violate notes the first promise that is broken. The run ends with it.
func (w *world) violate(format string, args ...any) {
	if w.violated == "" {
		w.violated = fmt.Sprintf("after %.6fs: ", w.scheduler.now().Seconds()) + fmt.Sprintf(format, args...)
	}
}

// cacheOf is the present cache: a run may lose it, and get an empty one.
type cacheOf struct{ w *world }

func (c cacheOf) Get(ctx context.Context, room string) (chat.Recent, bool, error) {
	recent, held, err := c.w.cache.Get(ctx, room)
	if err == nil && held && (c.w.orphaned(ctx, room, recent.Messages) || c.w.changer(room, recent.Rev+1).gone()) {
		c.w.spared.Add(1)
		return chat.Recent{}, false, nil
	}
	return recent, held, err
}

// changesOf notes which process has changed what.
type changesOf struct {
	chat.MessageStore
	w *world
	p *process
}

func (c changesOf) Change(ctx context.Context, changes []chat.Change) ([]chat.Changed, error) {
	answers, err := c.MessageStore.Change(ctx, changes)
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	for i, a := range answers {
		if a.Err == nil && !a.Repeated {
			c.w.changers[revision{changes[i].Room, a.Rev}] = c.p
		}
	}
	return answers, err
}

// revision is a change of a room.
type revision struct {
	room string
	rev  uint64
}

// changer is the process that has made a change, nil if nobody has.
func (w *world) changer(room string, rev uint64) *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changers[revision{room, rev}]
}

// gone reports whether the process has ended.
func (p *process) gone() bool { return p != nil && (p.dead.Load() || p.ctx.Err() != nil) }

// orphaned reports whether the cache lacks a message of a process that has gone. Real nodes notice that when its lease has ended, which
// is documented. A run goes on as if the cache had lost the room.
func (w *world) orphaned(ctx context.Context, room string, messages []chat.Message) bool {
	last := uint64(0)
	if n := len(messages); n > 0 {
		last = messages[n-1].Seq
	}
	next, err := w.store.Messages.List(ctx, room, chat.Range{After: last, Limit: 1})
	if err != nil || len(next) == 0 {
		return false
	}
	for _, p := range w.processes {
		if strings.Contains(next[0].ID, "-"+p.name+"-") {
			return p.gone()
		}
	}
	return false
}

func (c cacheOf) Add(ctx context.Context, messages ...chat.Message) error {
	return c.w.cache.Add(ctx, messages...)
}

func (c cacheOf) Change(ctx context.Context, messages ...chat.Message) error {
	return c.w.cache.Change(ctx, messages...)
}

func (c cacheOf) Fill(ctx context.Context, room string, r chat.Recent) error {
	return c.w.cache.Fill(ctx, room, r)
}

// presenceOf is the present Presence: a run may lose it, and get an empty one.
type presenceOf struct{ w *world }

func (p presenceOf) Enter(ctx context.Context, now time.Time, node, room string, who chat.Author) (bool, error) {
	return p.w.presence.Enter(ctx, now, node, room, who)
}

func (p presenceOf) Exit(ctx context.Context, now time.Time, node, room string, who chat.Author) (bool, error) {
	return p.w.presence.Exit(ctx, now, node, room, who)
}

func (p presenceOf) List(ctx context.Context, now time.Time, room string, limit int) ([]chat.Author, int, error) {
	return p.w.presence.List(ctx, now, room, limit)
}

// Renew sorts what it returns, which has no order by itself.
func (p presenceOf) Renew(ctx context.Context, r realtime.Renewal) (realtime.Renewed, error) {
	done, err := p.w.presence.Renew(ctx, r)
	byName := func(a, b realtime.Whereabouts) int {
		return strings.Compare(a.Room+"\x00"+string(a.User.ID), b.Room+"\x00"+string(b.User.ID))
	}
	slices.SortFunc(done.Entered, byName)
	slices.SortFunc(done.Left, byName)
	return done, err
}

// smtp takes mails.
type smtp struct {
	mu    sync.Mutex
	mails []mail.Message
	tries map[string]int // by Message-ID
}

func (s *smtp) Send(ctx context.Context, m mail.Message) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mails = append(s.mails, m)
	return nil
}

func (s *smtp) Check(ctx context.Context) error { return ctx.Err() }

// counted counts the tries of mails that a process makes.
type counted struct {
	mail.Sender
	smtp *smtp
}

func (c counted) Send(ctx context.Context, m mail.Message) error {
	err := c.Sender.Send(ctx, m)
	if errors.Is(err, mail.ErrUntried) || errors.Is(err, errKilled) {
		return err
	}
	c.smtp.mu.Lock()
	defer c.smtp.mu.Unlock()
	c.smtp.tries[m.ID]++
	return err
}

// code returns the code in the last mail to an address.
func (s *smtp) code(email string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range slices.Backward(s.mails) {
		if m.To == email {
			if code, err := testkit.Code(m); err == nil {
				return code
			}
		}
	}
	return ""
}

// ledger notes what was committed, in that order.
type ledger struct {
	mu     sync.Mutex
	events []event.Event
}

func newLedger() *ledger { return &ledger{} }

func (l *ledger) note(err error, events []event.Event) {
	if err != nil || len(events) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, events...)
}

func (l *ledger) ports(p parley.Ports) parley.Ports {
	p.SignUps = notedSignUps{p.SignUps, l}
	p.Sessions = notedSessions{p.Sessions, l}
	p.Codes = notedCodes{p.Codes, l}
	return p
}

type notedSignUps struct {
	auth.SignUps
	ledger *ledger
}

func (n notedSignUps) Create(ctx context.Context, s auth.WaitingSignUp, keep int, events ...event.Event) error {
	err := n.SignUps.Create(ctx, s, keep, events...)
	n.ledger.note(err, events)
	return err
}

type notedSessions struct {
	auth.SessionStore
	ledger *ledger
}

func (n notedSessions) Create(ctx context.Context, s auth.Session, events ...event.Event) error {
	err := n.SessionStore.Create(ctx, s, events...)
	n.ledger.note(err, events)
	return err
}

func (n notedSessions) Update(ctx context.Context, id string, change func(*auth.Session) error, events ...event.Event) (auth.Session, error) {
	s, err := n.SessionStore.Update(ctx, id, change, events...)
	n.ledger.note(err, events)
	return s, err
}

type notedCodes struct {
	auth.CodeStore
	ledger *ledger
}

func (n notedCodes) Put(ctx context.Context, c auth.Code, events ...event.Event) error {
	err := n.CodeStore.Put(ctx, c, events...)
	n.ledger.note(err, events)
	return err
}

var _ socket.Conn = (*conn)(nil)
