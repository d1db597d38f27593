package jwtauth

import (
	"crypto/sha256"
	"sync"
)

// signatureName stands for a key and a token whose signature by that key is right. That never becomes wrong. 16 bytes of
// a hash are enough: nobody finds a token that has the name of one of others.
type signatureName [16]byte

// signatures remembers at most so many of them, those that were of use lately. Its methods may be called from many goroutines.
type signatures struct {
	most int // below 1: none

	mu sync.Mutex
	// New ones go to young. When that has half of most it becomes old, and what was old is forgotten.
	young, old map[signatureName]struct{}
}

func (s *signatures) name(key *PublicKey, token string) (name signatureName) {
	if s.most < 1 {
		return name
	}
	both := make([]byte, 0, 768)                           // on the stack, for most tokens
	both = append(append(both, key.print[:]...), token...) // that of the key has always the same length
	sum := sha256.Sum256(both)
	copy(name[:], sum[:])
	return name
}

func (s *signatures) has(name signatureName) bool {
	if s.most < 1 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.young[name]; known {
		return true
	}
	_, known := s.old[name]
	if known {
		delete(s.old, name)
		s.put(name)
	}
	return known
}

func (s *signatures) add(name signatureName) {
	if s.most < 1 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(name)
}

// put adds a name under mu.
func (s *signatures) put(name signatureName) {
	if len(s.young) >= max(1, s.most/2) {
		s.young, s.old = nil, s.young
		if s.most == 1 {
			s.old = nil
		}
	}
	if s.young == nil {
		s.young = map[signatureName]struct{}{}
	}
	s.young[name] = struct{}{}
}

func (s *signatures) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.young) + len(s.old)
}
