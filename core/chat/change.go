package chat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/internal/visible"
	"github.com/parley-chat/parley/core/user"
)

// Limits of reactions. They hold everywhere, because stores are built for them.
const (
	// MaxReactionKey is the longest key of a reaction in characters.
	MaxReactionKey = 32
	// MaxReactionKeys is the most different reactions of a message.
	MaxReactionKeys = 20
	// MaxReactions is the most reactions of a message, all keys and users together.
	MaxReactions = 10_000
	// MaxReactionUsers is the most users that a [Reaction] names.
	MaxReactionUsers = 20
)

// Reaction is what users think of a message.
type Reaction struct {
	// Key is a short text, mostly an emoji: see [CheckReaction].
	Key string
	// Count is how many users have reacted so, at least 1.
	Count int
	// Users are some of them, in the order in which they reacted: at most MaxReactionUsers.
	Users []user.ID
}

// What is refused to whoever changes a message.
var (
	ErrMessageNotFound = fault.New(fault.NotFound, "message_not_found", "there is no such message")
	ErrMessageDeleted  = fault.New(fault.Conflict, "message_deleted", "the message was deleted")
	ErrReactionInvalid = fault.New(fault.Invalid, "reaction_invalid", "the reaction is not valid")
	ErrReactionsFull   = fault.New(fault.Conflict, "too_many_reactions", "the message has too many reactions")
)

// CheckReaction refuses a key that is empty, longer than [MaxReactionKey] characters, not valid UTF-8, or that holds a character
// that cannot be seen. Any other short text will do, not only emoji.
func CheckReaction(key string) error {
	switch {
	case key == "":
		return ErrReactionInvalid.Detail("it is empty")
	case len(key) > 4*MaxReactionKey || utf8.RuneCountInString(key) > MaxReactionKey:
		return ErrReactionInvalid.Detail("it is longer than %d characters", MaxReactionKey)
	case !utf8.ValidString(key):
		return ErrReactionInvalid.Detail("it is not valid UTF-8")
	case !visible.Only(key) || !visible.Any(key):
		return ErrReactionInvalid.Detail("it has a character that cannot be seen")
	}
	return nil
}

// ChangeKind says what a [Change] does.
type ChangeKind uint8

// The kinds of changes.
const (
	Edit    ChangeKind = iota + 1 // another text, and other data if the change has some
	Delete                        // text, data and reactions are erased
	React                         // one reaction more
	Unreact                       // one reaction less
	// Erase is a deletion that leaves nothing of the author either: the name becomes [user.ErasedName], and the client id goes. Only the author's
	// own messages can be erased, whatever Any says; a message that was deleted before can be, and keeps DeletedAt.
	Erase
)

// Change is something done to a message that is stored.
type Change struct {
	Kind ChangeKind
	Room string
	Seq  uint64
	// By is who does it.
	By Author
	// Any says that By may edit and delete what others have written.
	Any bool
	// Moderates says that By may delete what others have written. [Service.Change] sets it where By has RightModerate.
	Moderates bool
	// Text is for Edit. Data is for Edit: empty, the message keeps what it has.
	Text, Data string
	// Key is for React and Unreact.
	Key string
	// At is when it was committed, in UTC, to the microsecond.
	At time.Time
}

// Changed is the answer to one change.
type Changed struct {
	// Message is the message as it is now. Its Rev is that of its last change.
	Message
	// Repeated says that the message was so already: nothing was stored.
	Repeated bool
	// Err says why the change was refused. Message is empty then, and nothing was stored.
	Err error
}

var errNoTime = fault.New(fault.Invalid, "time_missing", "a change has no time")

// Check refuses a change that no store keeps: a text, data or key that is not valid, and an edit, a deletion or an erasure without At. It is pure. Apply
// begins with it; a store may ask it before.
func (c Change) Check() error {
	if err := c.checkContent(); err != nil {
		return err
	}
	if c.At.IsZero() && (c.Kind == Edit || c.Kind == Delete || c.Kind == Erase) {
		return errNoTime
	}
	return nil
}

// checkContent refuses a text, data or key that is not valid. Data is in the form that [CompactData] returns.
func (c Change) checkContent() error {
	switch c.Kind {
	case Edit:
		if len(c.Data) > MaxData {
			return ErrDataInvalid.Detail("it has more than %d bytes", MaxData)
		}
		return CheckText(c.Text)
	case React, Unreact:
		return CheckReaction(c.Key)
	}
	return nil
}

// Apply returns what the change makes of the message with its sequence, all but its new Rev. reacted says whether By has reacted to it with
// Key. The same message is returned if nothing is to change, with changed false: an edit to what it says already, a deletion of what is
// deleted, an erasure of what is erased, a reaction that is there, the end of one that is not. It refuses what Check refuses, by ErrNotAllowed what somebody else has written, by
// ErrMessageDeleted what is deleted, and by ErrReactionsFull a reaction for which there is no place. m stays as it is. It is pure.
func (c Change) Apply(m Message, reacted bool) (after Message, changed bool, err error) {
	if err := c.Check(); err != nil {
		return Message{}, false, err
	}
	foreign := m.Author.ID != c.By.ID && !c.Any
	if foreign && (c.Kind == Edit || c.Kind == Delete && !c.Moderates) {
		return Message{}, false, ErrNotAllowed.Detail("somebody else wrote the message")
	}
	if c.Kind == Erase {
		return c.erase(m)
	}
	deleted := !m.DeletedAt.IsZero()
	switch {
	case c.Kind == Delete && deleted:
		return m, false, nil
	case deleted:
		return Message{}, false, ErrMessageDeleted
	case c.Kind == Edit:
		if c.Text == m.Text && (c.Data == "" || c.Data == m.Data) {
			return m, false, nil
		}
		m.Text, m.EditedAt = c.Text, c.At
		if c.Data != "" {
			m.Data = c.Data
		}
		return m, true, nil
	case c.Kind == Delete:
		m.Text, m.Data, m.ReplyTo, m.Reactions, m.EditedAt, m.DeletedAt = "", "", 0, nil, time.Time{}, c.At
		return m, true, nil
	case c.Kind == React && reacted, c.Kind == Unreact && !reacted:
		return m, false, nil
	case c.Kind == React:
		if m.Reactions, err = withReaction(m.Reactions, c.Key, c.By.ID); err != nil {
			return Message{}, false, err
		}
		return m, true, nil
	case c.Kind == Unreact:
		m.Reactions = withoutReaction(m.Reactions, c.Key, c.By.ID)
		return m, true, nil
	}
	return Message{}, false, fault.Wrap(fault.Internal, fmt.Errorf("chat: there is no change of kind %d", c.Kind))
}

// erase is Apply for Erase.
func (c Change) erase(m Message) (after Message, changed bool, err error) {
	deleted := !m.DeletedAt.IsZero()
	switch {
	case m.Author.ID != c.By.ID:
		return Message{}, false, ErrNotAllowed.Detail("somebody else wrote the message")
	case deleted && m.Author.Name == user.ErasedName && m.ClientID == "":
		return m, false, nil
	case !deleted:
		m.DeletedAt = c.At
	}
	m.Text, m.Data, m.ReplyTo, m.Reactions, m.EditedAt = "", "", 0, nil, time.Time{}
	m.Author.Name, m.ClientID = user.ErasedName, ""
	return m, true, nil
}

func withReaction(all []Reaction, key string, by user.ID) ([]Reaction, error) {
	total, at := 0, -1
	for i, r := range all {
		total += r.Count
		if r.Key == key {
			at = i
		}
	}
	switch {
	case total >= MaxReactions:
		return nil, ErrReactionsFull.Detail("it has %d", total)
	case at < 0 && len(all) >= MaxReactionKeys:
		return nil, ErrReactionsFull.Detail("it has %d different ones", len(all))
	case at < 0:
		return append(slices.Clip(all), Reaction{Key: key, Count: 1, Users: []user.ID{by}}), nil
	}
	all = slices.Clone(all)
	r := &all[at]
	if r.Count++; len(r.Users) < MaxReactionUsers {
		r.Users = append(slices.Clip(r.Users), by)
	}
	return all, nil
}

func withoutReaction(all []Reaction, key string, by user.ID) []Reaction {
	all = slices.Clone(all)
	for i := range all {
		r := &all[i]
		if r.Key != key {
			continue
		}
		if r.Count--; r.Count <= 0 {
			if all = slices.Delete(all, i, i+1); len(all) == 0 {
				all = nil
			}
			break
		}
		r.Users = slices.DeleteFunc(slices.Clone(r.Users), func(id user.ID) bool { return id == by })
		break
	}
	return all
}

// Change changes a message and returns it after the durable commit. It waits until ctx ends; then, and after any error of kind
// Unavailable, the outcome is unknown, and to do it again is harmless. A member who has RightModerate may delete what others wrote. It returns ErrRoomInvalid, ErrMessageNotFound, ErrMessageDeleted,
// ErrTextInvalid, ErrDataInvalid, ErrReactionInvalid, ErrReactionsFull, ErrNotAllowed, what Config.Screen refuses, ErrUnscreened, ErrBusy,
// ErrClosed, or what [Service.RefuseBy] says; nothing was stored then. Access is asked for ActionSend, unless c.Any is set; Screen sees the text of an edit.
func (s *Service) Change(ctx context.Context, c Change) (Changed, error) {
	c, err := s.checkChange(ctx, c)
	if err == nil {
		err = s.refused(c.Room)
	}
	if err != nil {
		return Changed{}, err
	}
	changed, err := s.changes.do(ctx, c)
	if err == nil && s.needsModerator(c, changed.Err) {
		if c.Moderates, err = s.mayModerate(ctx, c); c.Moderates {
			changed, err = s.changes.do(ctx, c)
		}
	}
	return settled(changed, err)
}

// settled returns a change as whoever made it hears of it.
func settled(c Changed, err error) (Changed, error) {
	if err != nil {
		return Changed{}, err
	}
	return c, c.Err
}

// needsModerator reports whether a deletion was refused because somebody else wrote the message, and who made it may be a moderator.
func (s *Service) needsModerator(c Change, refused error) bool {
	return c.Kind == Delete && !c.Moderates && s.cfg.Roles != nil && errors.Is(refused, ErrNotAllowed)
}

// mayModerate reports whether a change is one by a member who has RightModerate. An error says that the store does not tell.
func (s *Service) mayModerate(ctx context.Context, c Change) (bool, error) {
	_, err := s.Standing(ctx, Actor{Author: c.By}, c.Room, RightModerate)
	if errors.Is(err, fault.Forbidden) || errors.Is(err, fault.NotFound) {
		return false, nil
	}
	return err == nil, err
}

// SubmitChange is [Service.Change] without waiting, as [Service.Submit] is for [Service.Send]: done is called exactly once if it returns nil. Where a deletion needs RightModerate,
// done is called from another goroutine, and later than those of changes that were submitted after it.
func (s *Service) SubmitChange(ctx context.Context, c Change, done func(Changed, error)) error {
	c, err := s.checkChange(ctx, c)
	if err != nil {
		return err
	}
	return s.changes.submit(c, func(changed Changed, err error) {
		if err != nil || !s.needsModerator(c, changed.Err) {
			done(settled(changed, err))
			return
		}
		s.moderating.Go(func() { // commits must not wait for it
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.CommitTimeout)
			defer cancel()
			if c.Moderates, err = s.mayModerate(ctx, c); c.Moderates {
				err = s.changes.submit(c, func(changed Changed, err error) { done(settled(changed, err)) })
				if err == nil {
					return
				}
			}
			done(settled(changed, err))
		})
	})
}

// checkChange returns the change as it may be stored.
func (s *Service) checkChange(ctx context.Context, c Change) (Change, error) {
	var err error
	if c.Room, err = s.Resolve(ctx, c.Room); err != nil {
		return c, err
	}
	if c.Data, err = CompactData(c.Data); err != nil {
		return c, err
	}
	c.Key = s.cfg.Normalize(c.Key)
	if err := c.checkContent(); err != nil {
		return c, err
	}
	if !c.Any {
		if err := s.cfg.Access.May(ctx, c.By, ActionSend, c.Room); err != nil {
			return c, err
		}
	}
	if c.Seq == 0 {
		return c, ErrMessageNotFound
	}
	if c.Kind == Edit && s.screening != nil {
		d, err := s.screening.ask(ctx, Draft{Room: c.Room, Author: c.By, Text: c.Text, Data: c.Data, Edits: c.Seq})
		if err != nil {
			return c, err
		}
		c.Text, c.Data = d.Text, d.Data
	}
	return c, nil
}

func (s *Service) commitChanges(whole context.Context, changes []Change) ([]Changed, error) {
	ctx, cancel := context.WithTimeout(whole, s.cfg.CommitTimeout)
	defer cancel()
	at := s.now()
	rooms := make([]string, len(changes))
	for i := range changes {
		changes[i].At = at
		rooms[i] = changes[i].Room
	}
	answers, err := s.cfg.Store.Change(ctx, changes)
	if err != nil {
		if fault.KindOf(err) == fault.Unavailable { // they may be stored
			s.recent.note(rooms, false)
		}
		return nil, fmt.Errorf("change messages: %w", err)
	}
	fresh, repeated := make([]Message, 0, len(answers)), []string(nil)
	for i, c := range answers {
		switch {
		case c.Err != nil:
		case c.Repeated:
			repeated = append(repeated, rooms[i])
		default:
			fresh = append(fresh, c.Message)
		}
	}
	s.recent.note(repeated, false) // nobody may have been there to say so
	if len(fresh) > 0 {
		s.recent.change(whole, fresh)
	}
	return answers, nil
}

// OnChanged makes f hear of every message that was changed, as [Service.OnStored] does of those that were stored, in the order of
// Rev in each room. f hears some again: one that was to be changed to what it was already, and the last change of a room whose cache was behind.
// f must be quick. A hub registers itself. OnChanged may be called from many goroutines.
func (s *Service) OnChanged(f func(Message)) { listen(s, &s.heardChanges, f) }

func (s *Service) tellChanged(m Message) {
	if m.Rev > 0 {
		tellAll(&s.heardChanges, m)
	}
}
