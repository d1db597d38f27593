package chat

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// ErrNotMember refuses what only members of a room may do.
var ErrNotMember = fault.New(fault.Forbidden, "not_a_member", "this is for members of the room")

// Mark says that a member has read a room up to a message.
type Mark struct {
	Room string
	User Author
	// Read is the sequence of that message. 0 moves nothing, and asks how far the member has read.
	Read uint64
	// Hidden says, to those whom [Service.OnMarked] tells, that nobody but the user may hear of it. It does not count elsewhere.
	Hidden bool
}

// Marked is the answer to one mark.
type Marked struct {
	// Read is how far the member has read the room now, and Unread how many messages come behind it that are stored and not deleted.
	Read, Unread uint64
	// Moved says that Read is higher than it was before.
	Moved bool
	// Err says why the mark was refused. The rest is empty then, and nothing was stored.
	Err error
}

// MyRoom is a room as one of its members has it in a list.
type MyRoom struct {
	Membership
	// Seq and Rev are how far the room reaches: see [Bounds].
	Seq, Rev uint64
	// Unread is how many messages come behind Read that are stored and not deleted.
	Unread uint64
	// Last is the last message that is stored, as it is now, also if it was deleted. Its Seq is 0 if there is none.
	Last Message
	// Active is the later one of when Last was stored and when the member joined.
	Active time.Time
	// Mute is set by [Service.MyRooms] for a member who is muted; its Kind is empty otherwise. [Marks] leaves it empty.
	Mute Restriction
}

// Place returns where the room stands in the list.
func (r MyRoom) Place() Place { return Place{r.Active, r.Room} }

// Place is a place in a member's list of rooms. The zero Place is the beginning.
type Place struct {
	Active time.Time
	Room   string
}

// Marks keeps how far the members of rooms have read.
//
// It may be called from many goroutines.
// A member has read the last message that was stored when the membership began, and what comes before it.
// A member has read what they have sent, and what comes before it.
// What is read does not go back as long as the membership lasts.
// A message counts as unread from when it is stored until it is read, deleted, or no longer stored.
// Two rooms or users are the same only if they have the same bytes.
type Marks interface {
	// Mark moves marks durably, all or none, in the order given, and returns one answer for each.
	// A mark that is lower than what is read already moves nothing.
	// A mark behind the last message of the room is one at the last message.
	// The mark of somebody who is not a member is refused with ErrNotMember in its answer, and harms no other.
	// On an error no mark has moved, unless ctx ended or the store was lost meanwhile.
	Mark(ctx context.Context, marks []Mark) ([]Marked, error)
	// Mine returns the rooms of a user behind a place, at most limit: none if limit is below 1.
	// The rooms descend by Active, and where that is the same ascend by the bytes of the name.
	// Each has its membership, its last message and its numbers as they are stored.
	// Mine leaves out rooms that are deleted.
	Mine(ctx context.Context, id user.ID, behind Place, limit int) ([]MyRoom, error)
}

// Mark moves how far a member has read a room, and returns the answer after the durable commit. What is read never goes back; a mark behind the
// last message is one at the last message. It asks Access for ActionRead. It waits until ctx ends; then, and after any error of kind
// Unavailable, the outcome is unknown, and to do it again is harmless. It returns ErrRoomInvalid, ErrNotAllowed, ErrNotMember, ErrBusy or ErrClosed.
func (s *Service) Mark(ctx context.Context, m Mark) (Marked, error) {
	m, err := s.checkMark(ctx, m)
	if err != nil {
		return Marked{}, err
	}
	return outcome(s.marks.do(ctx, m))
}

// SubmitMark is [Service.Mark] without waiting, as [Service.Submit] is for [Service.Send]: done is called exactly once if it returns nil.
func (s *Service) SubmitMark(ctx context.Context, m Mark, done func(Marked, error)) error {
	m, err := s.checkMark(ctx, m)
	if err != nil {
		return err
	}
	return s.marks.submit(m, func(answer marked, err error) { done(outcome(answer, err)) })
}

func (s *Service) checkMark(ctx context.Context, m Mark) (Mark, error) {
	var err error
	if m.Room, err = s.Resolve(ctx, m.Room); err != nil {
		return m, err
	}
	return m, s.cfg.Access.May(ctx, m.User, ActionRead, m.Room)
}

// marked is an answer, and who has marked.
type marked struct {
	Marked
	mark Mark
}

// outcome is what whoever has marked is told.
func outcome(answer marked, err error) (Marked, error) {
	if err == nil {
		err = answer.Err
	}
	if err != nil {
		return Marked{}, err
	}
	return answer.Marked, nil
}

func (s *Service) commitMarks(ctx context.Context, marks []Mark) ([]marked, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CommitTimeout)
	defer cancel()
	stored, err := s.cfg.Marks.Mark(ctx, marks)
	if err != nil {
		return nil, fmt.Errorf("store marks: %w", err)
	}
	answers := make([]marked, len(stored))
	for i, m := range stored {
		answers[i] = marked{m, marks[i]}
	}
	s.hide(ctx, answers)
	return answers, nil
}

// OnMarked makes f hear of every mark that has moved, after the member has the answer: Read is how far they have read. A message that they
// sent themselves moves their mark too, and f does not hear of that. Of a user who hides how far they have read, or of whom that is not known, the mark is Hidden. f must be quick. A hub registers itself. OnMarked may be called
// from many goroutines.
func (s *Service) OnMarked(f func(Mark)) { listen(s, &s.heardMarks, f) }

func (s *Service) tellMarked(m marked) {
	if m.Err == nil && m.Moved {
		m.mark.Read = m.Read
		tellAll(&s.heardMarks, m.mark)
	}
}

// Mine returns at most limit (0 means MaxPage) rooms of the user behind a place of the list, which begins with the room that was active last. A
// room that becomes active moves to the front, so that whoever goes on behind a place does not meet it there.
func (s *Service) Mine(ctx context.Context, who user.ID, behind Place, limit int) ([]MyRoom, error) {
	rooms, err := s.cfg.Marks.Mine(ctx, who, behind, s.pageSize(limit))
	if err != nil {
		return nil, fmt.Errorf("read rooms: %w", err)
	}
	members := make([]Membership, len(rooms))
	for i, r := range rooms {
		members[i] = r.Membership
	}
	if err := s.curb(ctx, members); err != nil {
		return nil, err
	}
	for i := range rooms {
		rooms[i].Role = members[i].Role
	}
	return rooms, nil
}

// listen adds one who hears of something.
func listen[T any](s *Service, heard *atomic.Pointer[[]func(T)], f func(T)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []func(T)
	if before := heard.Load(); before != nil {
		all = append(all, *before...)
	}
	all = append(all, f)
	heard.Store(&all)
}

func tellAll[T any](heard *atomic.Pointer[[]func(T)], what T) {
	if all := heard.Load(); all != nil {
		for _, f := range *all {
			f(what)
		}
	}
}
