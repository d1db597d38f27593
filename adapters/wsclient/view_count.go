package wsclient

import (
	"maps"
	"slices"
)

// count is how much of a room is unread.
//
// It is told by a list, as of a message and a change: of the messages up to from, below are unread. Those behind from are known one by one up to seen,
// and fresh are the unread ones among them. Deletions come one by one too, from changes, from pages and in the messages themselves, in any order and more than
// once: gone has those that are known, so that each counts once, and so that what is told in an older state later is known to be deleted.
type count struct {
	counted    bool
	knowsRead  bool // read is what the server has, or had
	read       uint64
	from, seen uint64
	below      uint64
	rev0       uint64 // below has the deletions up to here
	fresh      map[uint64]struct{}
	gone       map[uint64]Message // behind read
	forgotten  uint64             // the highest Rev that gone has no place for
	doubtful   uint64             // messages that are kept up to here may be deleted without the view's knowing
	live       bool               // the client is in the room, and tells of it
	began      uint64             // the Rev from which on it tells changes
	told       uint64             // the Rev of the last change that it has told
	unread     uint64             // what was counted last
}

// number is how many messages are unread, or what was counted last.
func (r *count) number() uint64 {
	if r.counted {
		return r.below + uint64(len(r.fresh))
	}
	return r.unread
}

// uncount says that the count is not known any more. What was counted last stays.
func (r *count) uncount() { r.unread, r.counted = r.number(), false }

// end is the last message that is known to be there.
func (r *shown) end() uint64 { return max(r.seen, r.seq) }

// has reports whether all messages behind after, up to seq, are kept.
func (r *shown) has(after, seq uint64) bool {
	n := len(r.messages)
	return after >= seq || n > 0 && r.messages[0].Seq <= after+1 && r.messages[n-1].Seq >= seq
}

// newest returns a message as it is known to be, if that is newer.
func (r *shown) newest(m Message) Message {
	if gone, ok := r.gone[m.Seq]; ok && gone.Rev > m.Rev {
		return gone
	}
	return m
}

// message takes a message whose turn it is.
func (r *shown) message(m Message, cfg ViewConfig) {
	r.live = true
	m = r.newest(m)
	r.update(m, cfg)
	n := len(r.messages)
	switch {
	case n > 0 && m.Seq <= r.messages[n-1].Seq: // it is known, or too old
	case n > 0 && m.Seq == r.messages[n-1].Seq+1:
		r.messages = append(r.messages, m)
	default: // there is a hole before it
		r.messages = []Message{m}
	}
	if over := len(r.messages) - cfg.Keep; over > 0 {
		clear(r.messages[:over]) // or they are not freed
		r.messages = r.messages[over:]
		r.own = slices.DeleteFunc(r.own, func(c *ownChange) bool { return c.rev != 0 && c.seq < r.messages[0].Seq })
	}
	if m.Seq > r.seen {
		r.next(m, cfg)
	}
	r.recount()
}

// next counts a message.
func (r *shown) next(m Message, cfg ViewConfig) {
	if m.Seq > r.seen+1 && r.read < m.Seq-1 {
		r.uncount() // nobody has counted what lies between
	}
	r.seen = m.Seq
	switch {
	case m.User.ID == cfg.User: // to send is to have read
		r.advance(m.Seq)
		r.knowsRead = true
	case m.Seq > r.read && m.DeletedAt.IsZero():
		r.fresh[m.Seq] = struct{}{}
	}
	if len(r.fresh) > cfg.Keep {
		r.below += uint64(len(r.fresh))
		r.from = r.seen
		clear(r.fresh)
	}
}

// changed takes a message as it is after a change.
func (r *shown) changed(m Message, cfg ViewConfig) {
	r.live = true
	r.update(m, cfg)
	r.told = max(r.told, m.Rev)
	r.recount()
}

// update takes a message as it is now, if that is newer than what is known.
func (r *shown) update(m Message, cfg ViewConfig) {
	r.seq, r.rev = max(r.seq, m.Seq), max(r.rev, m.Rev)
	if m.Seq > r.last.Seq || m.Seq == r.last.Seq && m.Rev >= r.last.Rev {
		r.last = m
	}
	known := false // that it is deleted
	if i, ok := r.at(m.Seq); ok {
		if r.messages[i].Rev > m.Rev {
			return
		}
		known = !r.messages[i].DeletedAt.IsZero()
		r.messages[i] = m
	}
	r.own = slices.DeleteFunc(r.own, func(c *ownChange) bool { return c.seq == m.Seq && c.rev != 0 && c.rev <= m.Rev })
	if !m.DeletedAt.IsZero() && m.Seq > r.read {
		r.deleted(m, known, cfg)
	}
}

// deleted takes note that an unread message is deleted. known says that this was known.
func (r *shown) deleted(m Message, known bool, cfg ViewConfig) {
	_, told := r.gone[m.Seq]
	r.gone[m.Seq] = m
	_, fresh := r.fresh[m.Seq]
	delete(r.fresh, m.Seq)
	switch {
	case told, known, fresh, m.Seq > r.from, m.Rev <= r.rev0:
	case m.Rev > r.began && m.Rev <= r.told: // it was counted when it was told
	case m.Rev <= r.forgotten:
		r.uncount() // it may have been counted
	default:
		r.below -= min(r.below, 1)
	}
	if len(r.gone) > cfg.Keep {
		r.forget()
	}
}

// forget makes room among the deletions: the older half goes.
func (r *shown) forget() {
	var revs []uint64
	for _, m := range r.gone {
		revs = append(revs, m.Rev)
	}
	slices.Sort(revs)
	r.forgotten = max(r.forgotten, revs[len(revs)/2])
	maps.DeleteFunc(r.gone, func(_ uint64, m Message) bool { return m.Rev <= r.forgotten })
}

// added takes note that a message of a page is kept.
func (r *shown) added(seq uint64) {
	if r.forgotten > 0 {
		r.doubtful = max(r.doubtful, seq) // the page may be older than a deletion that was forgotten
	}
}

// doubt takes note that the room has had changes up to rev. followed says that the client tells them.
func (r *shown) doubt(rev uint64, followed bool) {
	if n := len(r.messages); n > 0 && !followed && rev > r.rev {
		r.doubtful = max(r.doubtful, r.messages[n-1].Seq)
	}
}

// advance takes note that the user has read up to a message.
func (r *shown) advance(read uint64) {
	if read <= r.read {
		return
	}
	r.read = read
	maps.DeleteFunc(r.gone, func(seq uint64, _ Message) bool { return seq <= read })
	maps.DeleteFunc(r.fresh, func(seq uint64, _ struct{}) bool { return seq <= read })
	if read < r.from {
		r.uncount() // how many of below are read is not known
		return
	}
	r.below = 0
	r.counted = r.counted || read >= r.end()
}

// recount counts what is unread of the messages that are kept, if they are all of those that are unread.
func (r *shown) recount() {
	if r.counted || !r.knowsRead || r.end() == 0 || !r.has(r.read, r.end()) || r.doubtful > r.read {
		return
	}
	r.counted, r.seen = true, r.end()
	r.from, r.below, r.rev0 = r.read, 0, 0
	r.refresh(r.read)
}

// refresh takes the fresh messages behind after from those that are kept.
func (r *shown) refresh(after uint64) {
	clear(r.fresh)
	for _, m := range r.messages {
		if m.Seq > after && m.DeletedAt.IsZero() {
			r.fresh[m.Seq] = struct{}{}
		}
	}
}

// follow takes the answer to a join. followed says that the client was in the room.
func (r *shown) follow(j Joined, followed bool) {
	r.live = true
	r.doubt(j.Rev, followed)
	r.seq, r.rev = max(r.seq, j.Seq), max(r.rev, j.Rev)
	if !followed {
		if r.counted && j.Rev > max(r.rev0, r.told) {
			r.uncount() // what was deleted between the list and the join is not told
		}
		r.began, r.told = j.Rev, j.Rev
	}
	r.advance(j.Read)
	r.knowsRead = true
	if r.seen == 0 {
		r.seen, r.counted = j.Seq, j.Read >= j.Seq
	}
}

// list takes what a list of the user's rooms says of the room.
func (r *shown) list(m MyRoom, cfg ViewConfig) {
	r.role, r.mutedUntil = m.Role, m.MutedUntil
	if m.Last.Seq != 0 {
		r.update(r.newest(m.Last), cfg)
	}
	r.doubt(m.Rev, r.live)
	oneByOne := r.counted && r.from <= m.Seq // behind the list
	r.seq, r.rev = max(r.seq, m.Seq), max(r.rev, m.Rev)
	behind := r.knowsRead && r.read > m.Read
	r.advance(m.Read)
	r.knowsRead = true
	seen := max(r.seen, m.Seq)
	switch {
	case m.Rev < r.began, r.forgotten > m.Rev, // it has other deletions than are known
		behind && r.read < m.Seq,                         // how many of its unread ones were read is not known
		!oneByOne && seen > m.Seq && !r.has(m.Seq, seen): // what has come since is not known
		if r.counted && r.live {
			return // it is older than what was counted, or the client tells what is new
		}
		r.uncount()
		r.seen = seen
		r.recount()
		return
	}
	if after := max(m.Seq, r.read); oneByOne {
		maps.DeleteFunc(r.fresh, func(seq uint64, _ struct{}) bool { return seq <= after })
	} else {
		r.refresh(after)
	}
	r.below = m.Unread
	for seq, gone := range r.gone {
		if seq <= m.Seq && gone.Rev > m.Rev {
			r.below -= min(r.below, 1)
		}
	}
	if r.read >= m.Seq {
		r.below = 0
	}
	r.counted, r.from, r.seen, r.rev0 = true, m.Seq, seen, m.Rev
}
