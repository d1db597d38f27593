package journal

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

// Anomaly is a way in which a history is wrong.
type Anomaly string

// The anomalies.
const (
	// Lost: a message was acknowledged, and the final log does not have it, or has it at another place or with another id.
	Lost Anomaly = "lost"
	// Missed: the final log has a message, and a client that was in the room at the end, with a connection, was not given it.
	Missed Anomaly = "missed"
	// Twice: a client was given a message twice; one client id has two places or two answers; or the final log has a place twice.
	Twice Anomaly = "twice"
	// OutOfOrder: a client was given a message after a later one, or a message has a place before one that was acknowledged before
	// it was sent.
	OutOfOrder Anomaly = "out of order"
	// Gap: a client was given a message and not the one before it, or a place in the final log is empty.
	Gap Anomaly = "gap"
	// Phantom: a message was seen, acknowledged or stored that nobody has sent; one was seen that the final log does not have;
	// or what was sent, seen and stored at one place differs.
	Phantom Anomaly = "phantom"
	// Ghost: somebody is listed as present who is not.
	Ghost Anomaly = "ghost"
	// Absent: somebody is present and is not listed.
	Absent Anomaly = "absent"
	// NoMail: a sign-up was acknowledged, or its account can be used, and no mail came.
	NoMail Anomaly = "no mail"
	// NoAccount: a sign-up was acknowledged, and its account cannot be used.
	NoAccount Anomaly = "no account"
	// PhantomMail: a mail came for which nobody asked.
	PhantomMail Anomaly = "phantom mail"
	// MailTwice: more mails came a second time than there were faults. A fault between sending a mail and noting that sends it again.
	MailTwice Anomaly = "mail twice"
)

// Anomalies are all that [Check] looks for, in the order of a table.
var Anomalies = []Anomaly{Lost, Missed, Twice, OutOfOrder, Gap, Phantom, Ghost, Absent, NoMail, NoAccount, PhantomMail, MailTwice}

// Finding says how often an [Anomaly] was found.
type Finding struct {
	Count int `json:"count"`
	// Examples describe the first ones.
	Examples []string `json:"examples,omitempty"`
}

// maxExamples is how many examples a [Finding] has at most.
const maxExamples = 5

// Verdict is what [Check] found.
type Verdict struct {
	Entries int `json:"entries"`
	Rounds  int `json:"rounds"`
	// Faults counts them by fault and victim, as in "kill server".
	Faults  map[string]int `json:"faults"`
	Clients int            `json:"clients"`
	Rooms   int            `json:"rooms"`
	// Sent, Acknowledged and Refused count messages; Delivered counts what clients were given, Stored what the final logs have.
	Sent         int `json:"sent"`
	Acknowledged int `json:"acknowledged"`
	Refused      int `json:"refused"`
	Delivered    int `json:"delivered"`
	Stored       int `json:"stored"`
	// Reloads counts how often a client was told that messages are missing for ever.
	Reloads int `json:"reloads"`
	// SignUps counts those that were acknowledged, MailsTwice the mails beyond the first for an account.
	SignUps    int `json:"signUps"`
	Mails      int `json:"mails"`
	MailsTwice int `json:"mailsTwice"`
	// LongestAbsence is how long a client was without a connection at most.
	LongestAbsence time.Duration `json:"longestAbsenceNanoseconds"`
	// Anomalies has a finding for each of [Anomalies].
	Anomalies map[Anomaly]Finding `json:"anomalies"`
	// Unread names the rooms whose final log is not in the journal. What was lost in them is not known.
	Unread []string `json:"unread,omitempty"`
}

// Count returns how often a was found.
func (v Verdict) Count(a Anomaly) int { return v.Anomalies[a].Count }

// OK reports whether nothing is wrong.
func (v Verdict) OK() bool {
	for _, f := range v.Anomalies {
		if f.Count > 0 {
			return false
		}
	}
	return true
}

// Wrong names the anomalies that were found, with their counts.
func (v Verdict) Wrong() []string {
	var all []string
	for _, a := range Anomalies {
		if n := v.Count(a); n > 0 {
			all = append(all, fmt.Sprintf("%d %s", n, a))
		}
	}
	return all
}

// Print prints the figures, a line each, with a tab between name and figure.
func (v Verdict) Print(w io.Writer) {
	row := func(name string, figure any) { fmt.Fprintf(w, "%s\t%v\n", name, figure) }
	row("messages sent", v.Sent)
	row("acknowledged", v.Acknowledged)
	row("refused", v.Refused)
	row("stored", v.Stored)
	row("delivered", v.Delivered)
	row("told to reload", v.Reloads)
	row("longest absence", v.LongestAbsence.Round(time.Millisecond))
	row("sign-ups", v.SignUps)
	row("mails", fmt.Sprintf("%d, of which %d a second time", v.Mails, v.MailsTwice))
	for _, a := range Anomalies {
		row(string(a), v.Count(a))
		for _, e := range v.Anomalies[a].Examples {
			row("", e)
		}
	}
	for _, room := range v.Unread {
		row("no final log", room)
	}
}

// Check reads journals and says what is wrong. Each is in the order in which things happened; several are merged by the time of
// their entries. A journal that cannot be read, and one without entries, is an error.
func Check(journals ...io.Reader) (Verdict, error) {
	type source struct {
		reader *reader
		number int
		next   Entry
	}
	var sources []*source
	advance := func(s *source) (bool, error) {
		var err error
		s.next, err = s.reader.next()
		switch {
		case errors.Is(err, io.EOF):
			return false, nil
		case err != nil && len(journals) > 1:
			return false, fmt.Errorf("journal %d: %w", s.number, err)
		case err != nil:
			return false, fmt.Errorf("journal: %w", err)
		}
		return true, nil
	}
	for i, j := range journals {
		s := &source{reader: newReader(j), number: i + 1}
		more, err := advance(s)
		if err != nil {
			return Verdict{}, err
		}
		if more {
			sources = append(sources, s)
		}
	}
	c := NewChecker()
	for len(sources) > 0 {
		first := slices.MinFunc(sources, func(a, b *source) int { return cmp.Compare(a.next.At, b.next.At) })
		if err := c.Add(first.next); err != nil {
			return Verdict{}, err
		}
		more, err := advance(first)
		if err != nil {
			return Verdict{}, err
		}
		if !more {
			sources = slices.DeleteFunc(sources, func(s *source) bool { return s == first })
		}
	}
	if c.verdict.Entries == 0 {
		return Verdict{}, errors.New("journal: it has no entries")
	}
	return c.Verdict(), nil
}

// Checker does what [Check] does, with entries that are given one by one. It is for one goroutine.
type Checker struct {
	verdict  Verdict
	rooms    map[string]*room
	clients  map[string]*client
	accounts map[string]*account
	complete map[string]bool // Mails, Accounts
}

// NewChecker returns a Checker without entries.
func NewChecker() *Checker {
	return &Checker{
		verdict: Verdict{Faults: map[string]int{}, Anomalies: map[Anomaly]Finding{}},
		rooms:   map[string]*room{}, clients: map[string]*client{}, accounts: map[string]*account{}, complete: map[string]bool{},
	}
}

// room is what is known of a room.
type room struct {
	messages map[string]*message // by client id
	places   map[uint64]*place
	newest   uint64 // the highest place that was acknowledged
	complete bool   // the final log was read
	removed  uint64 // messages up to here were removed on purpose
	stored   []uint64
}

// message is what is known of one client id.
type message struct {
	key          string
	sender       string
	sent         bool
	text         string
	after        uint64 // room.newest when it was sent
	acknowledged bool
	seq          uint64 // where the server said it is
	id           string
	seen         uint64 // where it was seen first
	stored       uint64 // where it is stored first
}

// place is one sequence of a room: what was seen there first, and what is stored there.
type place struct {
	seen, stored *content
}

type content struct {
	message  *message
	id, text string
}

// client is what is known of one client.
type client struct {
	user  string
	away  bool
	since int64 // when it went away
	views map[string]*view
}

// view is what one client has of one room.
type view struct {
	in    bool
	known bool   // start is
	start uint64 // it has to be given everything after this
	last  uint64 // the highest that it has
	seen  spans
}

type account struct {
	asked, acknowledged, exists bool
	mails                       int
}

// Add takes the next entry. An entry that lacks what its kind needs is an error.
func (c *Checker) Add(e Entry) error {
	if err := e.check(); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	v := &c.verdict
	v.Entries++
	switch e.Kind {
	case Sent:
		c.sent(e)
	case Acknowledged:
		c.acknowledged(e)
	case Refused:
		v.Refused++
	case Saw:
		c.saw(e)
	case Stored:
		c.stored(e)
	case Joined:
		c.joined(e)
	case Left:
		c.view(e).in = false
	case Reload:
		c.reload(e)
	case Away:
		if k := c.client(e.Client); !k.away {
			k.away, k.since = true, e.At
		}
	case Back:
		if k := c.client(e.Client); k.away {
			k.away = false
			if k.since > 0 {
				v.LongestAbsence = max(v.LongestAbsence, time.Duration(e.At-k.since)*time.Microsecond)
			}
		}
	case Presence:
		c.presence(e)
	case SigningUp:
		c.account(e).asked = true
	case SignedUp:
		if a := c.account(e); !a.acknowledged {
			a.asked, a.acknowledged = true, true
			v.SignUps++
		}
	case Mail:
		v.Mails++
		if a := c.account(e); a.mails == 0 {
			a.mails = 1
		} else {
			a.mails++
			v.MailsTwice++
		}
	case HasAccount:
		c.account(e).exists = true
	case Round:
		v.Rounds++
		v.Faults[e.Fault+" "+e.Victim]++
	case Complete:
		if e.What != Log {
			c.complete[e.What] = true
			break
		}
		r := c.room(e.Room)
		r.complete = true
		if e.From != nil {
			r.removed = *e.From
		}
	}
	return nil
}

func (c *Checker) found(a Anomaly, format string, args ...any) {
	f := c.verdict.Anomalies[a]
	f.Count++
	if len(f.Examples) < maxExamples {
		f.Examples = append(f.Examples, fmt.Sprintf(format, args...))
	}
	c.verdict.Anomalies[a] = f
}

func (c *Checker) room(name string) *room {
	r := c.rooms[name]
	if r == nil {
		r = &room{messages: map[string]*message{}, places: map[uint64]*place{}}
		c.rooms[name] = r
	}
	return r
}

func (r *room) message(key string) *message {
	m := r.messages[key]
	if m == nil {
		m = &message{key: key}
		r.messages[key] = m
	}
	return m
}

func (r *room) place(seq uint64) *place {
	p := r.places[seq]
	if p == nil {
		p = &place{}
		r.places[seq] = p
	}
	return p
}

func (c *Checker) client(name string) *client {
	k := c.clients[name]
	if k == nil {
		k = &client{user: name, views: map[string]*view{}}
		c.clients[name] = k
	}
	return k
}

func (c *Checker) view(e Entry) *view {
	k := c.client(e.Client)
	w := k.views[e.Room]
	if w == nil {
		w = &view{}
		k.views[e.Room] = w
	}
	c.room(e.Room)
	return w
}

func (c *Checker) account(e Entry) *account {
	a := c.accounts[e.Account]
	if a == nil {
		a = &account{}
		c.accounts[e.Account] = a
	}
	return a
}

func (c *Checker) sent(e Entry) {
	c.client(e.Client)
	r := c.room(e.Room)
	m := r.message(e.ClientID)
	if m.sent {
		return // once more
	}
	m.sent, m.sender, m.text, m.after = true, e.Client, e.Text, r.newest
	c.verdict.Sent++
}

func (c *Checker) acknowledged(e Entry) {
	r := c.room(e.Room)
	m := r.message(e.ClientID)
	if m.acknowledged {
		if m.seq != e.Seq || m.id != e.ID {
			c.found(Twice, "room %s: %s was acknowledged to %s as %d (%s), and then as %d (%s)", e.Room, m.key, e.Client, m.seq, m.id, e.Seq, e.ID)
		}
		return
	}
	c.verdict.Acknowledged++
	m.acknowledged, m.seq, m.id = true, e.Seq, e.ID
	if e.Seq > 0 && m.sent && e.Seq <= m.after {
		c.found(OutOfOrder, "room %s: %s of %s was acknowledged as %d; %d was acknowledged before it was sent", e.Room, m.key, e.Client, e.Seq, m.after)
	}
	r.newest = max(r.newest, e.Seq)
}

func (c *Checker) saw(e Entry) {
	c.verdict.Delivered++
	r, w := c.room(e.Room), c.view(e)
	m := r.message(e.ClientID)
	if !w.known {
		w.known, w.start, w.last = true, e.Seq-1, e.Seq-1
	}
	switch {
	case w.seen.has(e.Seq):
		c.found(Twice, "%s was given %d (%s) of room %s twice", e.Client, e.Seq, m.key, e.Room)
	case e.Seq <= w.last:
		c.found(OutOfOrder, "%s was given %d (%s) of room %s after %d", e.Client, e.Seq, m.key, e.Room, w.last)
	case e.Seq > w.last+1:
		c.found(Gap, "%s was given %d (%s) of room %s after %d", e.Client, e.Seq, m.key, e.Room, w.last)
	}
	w.seen.add(e.Seq)
	w.last = max(w.last, e.Seq)

	if m.seen == 0 {
		m.seen = e.Seq
	} else if m.seen != e.Seq {
		c.found(Twice, "room %s: %s was seen as %d, and by %s as %d", e.Room, m.key, m.seen, e.Client, e.Seq)
	}
	p, is := r.place(e.Seq), content{m, e.ID, e.Text}
	if p.seen == nil {
		p.seen = &is
	} else if !p.seen.agrees(&is) {
		c.found(Phantom, "%s was given %s as %d of room %s, and others %s", e.Client, is.String(), e.Seq, e.Room, p.seen.String())
	}
}

func (c *content) String() string {
	return fmt.Sprintf("%q (id %q, text %q)", c.message.key, c.id, c.text)
}

// agrees reports whether both can be the same message: an id or text that one of them lacks is no difference.
func (c *content) agrees(o *content) bool {
	same := func(a, b string) bool { return a == b || a == "" || b == "" }
	return c.message == o.message && same(c.id, o.id) && same(c.text, o.text)
}

func (c *Checker) stored(e Entry) {
	r := c.room(e.Room)
	m := r.message(e.ClientID)
	c.verdict.Stored++
	if m.stored == 0 {
		m.stored = e.Seq
	} else if m.stored != e.Seq {
		c.found(Twice, "room %s: %s is stored as %d and as %d", e.Room, m.key, m.stored, e.Seq)
	}
	p := r.place(e.Seq)
	if p.stored != nil {
		c.found(Twice, "room %s: the final log has %d twice", e.Room, e.Seq)
		return
	}
	p.stored = &content{m, e.ID, e.Text}
	r.stored = append(r.stored, e.Seq)
}

func (c *Checker) joined(e Entry) {
	k, w := c.client(e.Client), c.view(e)
	w.in = true
	if e.User != "" {
		k.user = e.User
	}
	switch {
	case e.Recovered != nil && !*e.Recovered:
		c.reload(e)
	case e.From == nil:
		w.begin(nil)
	case !w.known:
		w.begin(e.From)
	case *e.From < w.last: // it wants some again
		w.seen.cut(*e.From)
		w.last, w.start = *e.From, min(w.start, *e.From)
	default: // it wants none of those in between
		if *e.From > w.last {
			w.seen.addAll(w.last+1, *e.From)
			w.last = *e.From
		}
	}
}

func (c *Checker) reload(e Entry) {
	c.verdict.Reloads++
	c.view(e).begin(e.From)
}

// begin forgets what was seen.
func (w *view) begin(from *uint64) {
	w.known, w.start, w.last, w.seen = from != nil, 0, 0, nil
	if from != nil {
		w.start, w.last = *from, *from
	}
}

func (c *Checker) presence(e Entry) {
	if !e.Settled {
		return
	}
	c.room(e.Room)
	there := map[string]bool{}
	for _, k := range c.clients {
		if w := k.views[e.Room]; w != nil && w.in && !k.away {
			there[k.user] = true
		}
	}
	for _, m := range e.Members {
		if !there[m] {
			c.found(Ghost, "room %s: %s is listed as present and is not", e.Room, m)
		}
	}
	if e.More {
		return
	}
	for _, m := range slices.Sorted(maps.Keys(there)) {
		if !slices.Contains(e.Members, m) {
			c.found(Absent, "room %s: %s is present and is not listed", e.Room, m)
		}
	}
}

// Verdict compares everything with the final logs and says what was found. It is called once, last.
func (c *Checker) Verdict() Verdict {
	for _, name := range slices.Sorted(maps.Keys(c.rooms)) {
		c.settle(name, c.rooms[name])
	}
	for _, address := range slices.Sorted(maps.Keys(c.accounts)) {
		a := c.accounts[address]
		if c.complete[Mails] && a.mails == 0 && (a.acknowledged || a.exists) {
			c.found(NoMail, "%s has no mail", address)
		}
		if c.complete[Accounts] && a.acknowledged && !a.exists {
			c.found(NoAccount, "%s has signed up and has no account", address)
		}
		if a.mails > 0 && !a.asked {
			c.found(PhantomMail, "%s has a mail and has not asked for it", address)
		}
	}
	v := &c.verdict
	for range v.MailsTwice - v.Rounds {
		c.found(MailTwice, "%d mails came a second time, and there were %d faults", v.MailsTwice, v.Rounds)
	}
	for _, a := range Anomalies {
		if _, found := v.Anomalies[a]; !found {
			v.Anomalies[a] = Finding{}
		}
	}
	v.Clients, v.Rooms = len(c.clients), len(c.rooms)
	return *v
}

// settle compares a room with its final log.
func (c *Checker) settle(name string, r *room) {
	for _, key := range slices.Sorted(maps.Keys(r.messages)) {
		m := r.messages[key]
		if !m.sent && (m.seen > 0 || m.stored > 0) {
			c.found(Phantom, "room %s: nobody has sent %s, which is %d", name, key, max(m.seen, m.stored))
		}
		if m.acknowledged && !m.sent {
			c.found(Phantom, "room %s: %s was acknowledged and not sent", name, key)
		}
	}
	if !r.complete {
		if len(r.messages) > 0 {
			c.verdict.Unread = append(c.verdict.Unread, name)
		}
		return
	}
	slices.Sort(r.stored)
	before := r.removed
	for _, seq := range r.stored {
		if seq > before+1 {
			c.found(Gap, "room %s: the final log has %d after %d", name, seq, before)
		}
		before = max(before, seq)
	}
	for _, key := range slices.Sorted(maps.Keys(r.messages)) {
		m := r.messages[key]
		switch {
		case !m.acknowledged:
		case m.seq > 0 && m.seq <= r.removed:
		case m.stored == 0:
			c.found(Lost, "room %s: %s of %s was acknowledged as %d and is not stored", name, key, m.sender, m.seq)
		case m.seq > 0 && m.stored != m.seq:
			c.found(Lost, "room %s: %s of %s was acknowledged as %d and is stored as %d", name, key, m.sender, m.seq, m.stored)
		case m.id != "" && r.places[m.stored].stored.id != "" && r.places[m.stored].stored.id != m.id:
			c.found(Lost, "room %s: %s of %s was acknowledged with the id %s and is stored with %s", name, key, m.sender, m.id, r.places[m.stored].stored.id)
		}
		if m.stored > 0 && m.sent && m.text != "" {
			if s := r.places[m.stored].stored; s.message == m && s.text != "" && s.text != m.text {
				c.found(Phantom, "room %s: %s was sent with the text %q and is stored with %q", name, key, m.text, s.text)
			}
		}
	}
	for _, seq := range slices.Sorted(maps.Keys(r.places)) {
		switch p := r.places[seq]; {
		case p.seen == nil || seq <= r.removed:
		case p.stored == nil:
			c.found(Phantom, "room %s: %s was seen as %d and is not stored", name, p.seen.String(), seq)
		case !p.seen.agrees(p.stored):
			c.found(Phantom, "room %s: %d was seen as %s and is stored as %s", name, seq, p.seen.String(), p.stored.String())
		}
	}
	for _, who := range slices.Sorted(maps.Keys(c.clients)) {
		k := c.clients[who]
		w := k.views[name]
		if w == nil || !w.in || !w.known || k.away {
			continue
		}
		for _, seq := range r.stored {
			if seq > w.start && !w.seen.has(seq) {
				c.found(Missed, "%s was not given %d (%s) of room %s", who, seq, r.places[seq].stored.message.key, name)
			}
		}
	}
}

// spans is a set of numbers as ranges, which do not touch, in order.
type spans []span

type span struct{ first, last uint64 }

// at returns the first span that ends at n or later.
func (s spans) at(n uint64) int {
	if len(s) > 0 && s[len(s)-1].last < n { // the usual case
		return len(s)
	}
	i, _ := slices.BinarySearchFunc(s, n, func(a span, n uint64) int { return cmp.Compare(a.last, n) })
	return i
}

func (s spans) has(n uint64) bool {
	i := s.at(n)
	return i < len(s) && s[i].first <= n
}

func (s *spans) add(n uint64) { s.addAll(n, n) }

// addAll adds first up to last.
func (s *spans) addAll(first, last uint64) {
	i := s.at(first)
	if i > 0 && (*s)[i-1].last+1 == first { // it touches the one before
		i--
		first = (*s)[i].first
	}
	j := i
	for ; j < len(*s) && ((*s)[j].first <= last || (*s)[j].first-1 == last); j++ {
		first, last = min(first, (*s)[j].first), max(last, (*s)[j].last)
	}
	if i+1 == j { // the usual case
		(*s)[i] = span{first, last}
		return
	}
	*s = slices.Replace(*s, i, j, span{first, last})
}

// cut removes everything above last.
func (s *spans) cut(last uint64) {
	i := s.at(last + 1)
	if last+1 == 0 {
		return
	}
	*s = (*s)[:min(i+1, len(*s))]
	if i < len(*s) {
		if (*s)[i].first > last {
			*s = (*s)[:i]
		} else {
			(*s)[i].last = last
		}
	}
}
