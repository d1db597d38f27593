package mail

import (
	"strings"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/user"
)

// deferrals are the waits after a server has put a mail off; the last one repeats. RFC 5321 section
// 4.5.4.1 wants at least 30 minutes between tries, but shorter ones in the first hour for those who
// wait for a code; greylisting asks for a few minutes (RFC 6647 section 2.1).
var deferrals = [...]time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour}

// deferral is the wait before the next try of a mail that was first put off so long ago. Jitter, in
// [0,1), makes it up to a quarter longer, so that mails that were put off together do not come back together.
func deferral(elapsed time.Duration, jitter float64) time.Duration {
	wait := deferrals[len(deferrals)-1]
	var passed time.Duration
	for _, d := range deferrals {
		if passed += d; elapsed < passed {
			wait = d
			break
		}
	}
	return wait + time.Duration(jitter*float64(wait/4))
}

// deferred is the outcome of a mail that the server has put off: another try, or the end if the code in
// the mail has expired until then and nobody can renew it, or the mail was put off for long enough.
func (w *Worker) deferred(j Job, err error) Outcome {
	now := microseconds(w.cfg.Now())
	since := j.DeferredSince
	if since.IsZero() {
		since = now
	}
	next := microseconds(now.Add(deferral(now.Sub(since), w.cfg.Random())))
	why := describe(err, j)
	if next.After(since.Add(w.cfg.DeferFor)) {
		return Outcome{State: Dead, Error: "it was put off for too long: " + why}
	}
	if p, err := decode(j.Kind, j.Data); err == nil && w.cfg.Renew == nil {
		if expires := p.expires(); !expires.IsZero() && !next.Before(expires) {
			return Outcome{State: Dead, Error: "its code expires before the next try: " + why}
		}
	}
	return Outcome{State: Ready, RunAt: next, Error: why, Untried: true, DeferredSince: since}
}

// maxPaces bounds the memory of a pace. Beyond it, the one that may be used first is forgotten.
const maxPaces = 1024

// pace keeps mails apart that go to a server which puts mails off. A server is known by the domain of its
// recipients, or is the sender's own, which has no name here. It may be used from many goroutines.
type pace struct {
	least, most time.Duration

	mu   sync.Mutex
	slow map[string]*slowness
}

// slowness is how slow a server is.
type slowness struct {
	interval time.Duration
	next     time.Time // the earliest time of the next mail
	last     time.Time // the last turn that was given away
}

func newPace(least, most time.Duration) *pace {
	return &pace{least: least, most: most, slow: map[string]*slowness{}}
}

// wait returns how long a mail to the server has to wait; 0 means that it can go now. What has not been
// slow for longer than most is forgotten.
func (p *pace) wait(server string, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.slow[server]
	switch {
	case s == nil:
		return 0
	case now.Before(s.next):
		return s.next.Sub(now)
	case now.Sub(s.next) > p.most:
		delete(p.slow, server)
	}
	return 0
}

// take notes that a mail goes to the server now.
func (p *pace) take(server string, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.slow[server]; s != nil {
		s.next = now.Add(s.interval)
	}
}

// turn takes the turn of a mail to the server, or returns when it should come back: each that waits gets
// a time of its own.
func (p *pace) turn(server string, now time.Time) (at time.Time, waits bool) {
	if p.wait(server, now) == 0 {
		p.take(server, now)
		return now, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.slow[server]
	if s == nil { // a mail was taken meanwhile
		return now, true
	}
	at = s.next
	if !s.last.Before(at) {
		at = s.last.Add(s.interval)
	}
	s.last = at
	return at, true
}

// slower notes that the server has put a mail off.
func (p *pace) slower(server string, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.slow[server]
	if s == nil {
		if len(p.slow) >= maxPaces {
			p.forget()
		}
		s = &slowness{interval: p.least / 2}
		p.slow[server] = s
	}
	s.interval = min(2*max(s.interval, p.least/2), p.most)
	if next := now.Add(s.interval); next.After(s.next) {
		s.next = next
	}
}

// faster notes that the server has taken a mail.
func (p *pace) faster(server string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.slow[server]; s != nil {
		if s.interval -= s.interval / 4; s.interval < p.least/8 {
			delete(p.slow, server)
		}
	}
}

// forget drops the entry that may be used first, under mu.
func (p *pace) forget() {
	var first string
	for server, s := range p.slow {
		if known := p.slow[first]; known == nil || s.next.Before(known.next) {
			first = server
		}
	}
	delete(p.slow, first)
}

// ownServer is the sender's own server in a pace: no domain is called so.
const ownServer = ""

// domain is what the recipient's server is known by.
func domain(to user.Email) string { return string(to[strings.LastIndexByte(string(to), '@')+1:]) }
