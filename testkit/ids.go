package testkit

import (
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
)

// IDs makes identifiers that ascend and are the same in each run of a test.
type IDs struct {
	prefix string
	last   atomic.Uint64
}

// NewIDs returns a generator of prefix-00000001, prefix-00000002, …
func NewIDs(prefix string) *IDs { return &IDs{prefix: prefix} }

// Next returns the next identifier. It fits every field named NewID in core.
func (ids *IDs) Next() string { return fmt.Sprintf("%s-%08d", ids.prefix, ids.last.Add(1)) }

// Random is a source of bytes that are the same in each run of a test. Not for real secrets.
type Random struct {
	mu     sync.Mutex
	source *rand.ChaCha8
}

var _ io.Reader = (*Random)(nil)

// NewRandom returns the source of a seed.
func NewRandom(seed uint64) *Random {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	return &Random{source: rand.NewChaCha8(key)}
}

// Read fills p. It never fails.
func (r *Random) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.source.Read(p)
}
