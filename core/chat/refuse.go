package chat

import "slices"

// RefuseBy makes f say why a room takes no message and no change now, or nil. [Service.Send] and [Service.Change] ask it before anything is
// stored; whoever calls Submit and SubmitChange asks for itself. f must be quick. A hub registers itself: it refuses what it could not
// deliver. RefuseBy may be called from many goroutines.
func (s *Service) RefuseBy(f func(room string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []func(string) error
	if before := s.refusing.Load(); before != nil {
		all = slices.Clone(*before)
	}
	all = append(all, f)
	s.refusing.Store(&all)
}

// refused says why the room takes nothing now, or returns nil.
func (s *Service) refused(room string) error {
	if all := s.refusing.Load(); all != nil {
		for _, f := range *all {
			if err := f(room); err != nil {
				return err
			}
		}
	}
	return nil
}
