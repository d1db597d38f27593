package jwtauth

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/fault"
)

// What keys refuse.
var (
	// ErrKeyUnknown is what a [KeySource] returns for a kid that no key has, or has any longer.
	ErrKeyUnknown = fault.New(fault.NotFound, "key_unknown", "no such key signs tokens")
	// ErrRotating says that a key of another algorithm is about to sign.
	ErrRotating = fault.New(fault.Conflict, "keys_rotating", "another key is published and will sign soon")
)

// KeySource finds the public key with this kid. It returns ErrKeyUnknown, or another error of kind
// NotFound, when there is none, and any other error when it cannot tell. It is called from many
// goroutines, with a kid of at most [MaxKeyID] bytes that anybody may have made up, and does
// not wait longer than ctx allows. [Keys.PublicKey] is one.
type KeySource func(ctx context.Context, kid string) (*PublicKey, error)

// KeysConfig says where keys are kept. Zero fields mean the default.
type KeysConfig struct {
	// File is where the keys are kept. Empty means in memory only: every token ends with the process.
	File string
	// Algorithm is that of the first key, where there is none yet: one of [Algorithms]. Default EdDSA.
	Algorithm string
	// Now is the clock by which keys begin to sign and retire. Default time.Now.
	Now func() time.Time
}

// Keys is a set of keys: one signs, one may be about to, the others still verify. Which one signs follows from the clock alone, so that
// all who read one file agree. Its methods may be called from many goroutines. It prints and logs as the kids of its keys.
type Keys struct {
	file string
	now  func() time.Time

	changing sync.Mutex // one Rotate or Reload at a time
	mu       sync.RWMutex
	set      keySet
}

// keySet is a value: it is replaced, never changed.
type keySet struct {
	entries []entry
	since   time.Time // when it was made, as far as is known
	// modeless says that its file is open to everybody because the file system has no other files.
	modeless bool
	raw      string // what the file said
}

type entry struct {
	id      string
	public  *PublicKey
	private crypto.Signer // nil for one that only verifies
	signs   time.Time     // when it begins to sign; zero for the first one, and where it is not known
	retires time.Time     // when it ceases to verify; zero for the newest, of which that is not known
}

func (e entry) retired(now time.Time) bool { return !e.retires.IsZero() && !now.Before(e.retires) }

// signer is the key that signs now: the latest that has begun to. If none has, by a clock that is behind, it is the first to begin.
func (s keySet) signer(now time.Time) entry {
	var best entry
	for _, e := range s.entries {
		switch {
		case e.private == nil:
		case best.private == nil, e.signs.After(best.signs) && !e.signs.After(now), e.signs.Before(best.signs) && best.signs.After(now):
			best = e
		}
	}
	return best
}

// newest is the key that signs last. There is exactly one that has no end.
func (s keySet) newest() entry {
	for _, e := range s.entries {
		if e.retires.IsZero() {
			return e
		}
	}
	return entry{}
}

// ordered returns the keys that verify now, the one that signs first.
func (s keySet) ordered(now time.Time) []entry {
	signer := s.signer(now)
	all := []entry{signer}
	for _, e := range s.entries {
		if e.id != signer.id && !e.retired(now) {
			all = append(all, e)
		}
	}
	return all
}

// OpenKeys reads the keys in file, and makes the file with one new key, readable by its owner
// only, when there is none. A file that it cannot make sense of, or that everybody may read, is an error: it is never replaced.
// The folder must exist, on a file system with hard links.
func OpenKeys(file string) (*Keys, error) {
	if file == "" {
		return nil, errors.New("jwtauth: the file is missing")
	}
	return NewKeys(KeysConfig{File: file})
}

// ReadKeys is OpenKeys for a file that must be there.
func ReadKeys(file string) (*Keys, error) {
	set, err := readKeySet(file)
	if err != nil {
		return nil, fmt.Errorf("jwtauth: %w", err)
	}
	return &Keys{file: file, now: time.Now, set: set}, nil
}

// NewKeys is OpenKeys with a clock and an algorithm, or makes keys that live in memory only.
func NewKeys(cfg KeysConfig) (*Keys, error) {
	k := &Keys{file: cfg.File, now: cfg.Now}
	if k.now == nil {
		k.now = time.Now
	}
	if cfg.Algorithm == "" {
		cfg.Algorithm = EdDSA
	}
	var err error
	if k.file == "" {
		k.set, err = newKeySet(cfg.Algorithm, k.now())
	} else {
		k.set, err = openKeySet(k.file, cfg.Algorithm, k.now())
	}
	if err != nil {
		return nil, fmt.Errorf("jwtauth: %w", err)
	}
	return k, nil
}

// Rotation says how a key takes the place of another one.
type Rotation struct {
	// Algorithm is that of the new key, one of [Algorithms]. Empty means that of the one that signs.
	Algorithm string
	// Lead is how long the new key is published before it signs: longer than others keep the key set. Zero means that it signs at once.
	Lead time.Duration
	// Overlap is how long the old key verifies once the new one signs: at least as long as a token lasts. Zero ends its tokens then.
	Overlap time.Duration
}

// Rotate makes a new key, and returns its kid. The old one signs for the lead, and verifies for the overlap after that. Keys that have retired by
// then are forgotten, and so are the secrets of all that sign no longer.
//
// It starts from what the file says now, and puts a new file in its place by one rename: a crash leaves the one or the other, and each is whole. Others see
// the new key after Reload. Of programs that rotate one file at once, one makes a key: while a key is about to sign, Rotate with a lead makes none and returns
// that one with made false, or ErrRotating if it is of another algorithm. Without a lead the new key takes the place of one that is about to sign.
// They take turns by a lock on a file beside, with ".lock" behind the name; where files cannot be locked (not on Unix) there must be one at a time.
// On an error the keys have not changed.
func (k *Keys) Rotate(r Rotation) (kid string, made bool, err error) {
	kid, made, err = k.rotate(r, func(keySet) bool { return true })
	if err != nil {
		return "", false, fmt.Errorf("jwtauth: rotate: %w", err)
	}
	return kid, made, nil
}

// rotate does it if it is due by what the file says then.
func (k *Keys) rotate(r Rotation, due func(keySet) bool) (kid string, made bool, err error) {
	if r.Overlap < 0 || r.Lead < 0 {
		return "", false, fmt.Errorf("the lead is %v and the overlap %v, want none or more", r.Lead, r.Overlap)
	}
	err = k.change(func(current keySet, now time.Time) (next keySet, err error) {
		signer, newest := current.signer(now), current.newest()
		if r.Algorithm == "" {
			r.Algorithm = signer.public.algorithm
		}
		kid = newest.id
		switch waits := newest.id != signer.id; {
		case !due(current):
			return current, nil
		case waits && r.Lead > 0 && newest.public.algorithm != r.Algorithm:
			return current, ErrRotating.Because(fmt.Errorf("%s signs with %s from %s", newest.id, newest.public.algorithm, newest.signs.Format(time.RFC3339)))
		case waits && r.Lead > 0:
			return current, nil
		}
		fresh, err := newEntry(r.Algorithm, now.Add(r.Lead))
		if err != nil {
			return current, err
		}
		kid, made = fresh.id, true
		signer.retires = now.Add(r.Lead + r.Overlap).Round(0)
		next.since = now
		if r.Lead == 0 {
			signer.private = nil
			next.entries = []entry{fresh, signer}
		} else {
			next.entries = []entry{signer, fresh}
		}
		for _, e := range current.entries {
			if e.id != signer.id && !e.retires.IsZero() {
				e.private = nil
				next.entries = append(next.entries, e)
			}
		}
		next.entries = living(next.entries, now)
		return next, nil
	})
	if err != nil {
		return "", false, err
	}
	return kid, made, nil
}

// living returns those that have not retired.
func living(entries []entry, now time.Time) (left []entry) {
	for _, e := range entries {
		if !e.retired(now) {
			left = append(left, e)
		}
	}
	return left
}

// tidy forgets what nobody needs: keys that have retired, and the secrets of keys that sign no longer.
func (k *Keys) tidy() error {
	needed := func(current keySet, now time.Time) (left []entry, changed bool) {
		signer, newest := current.signer(now), current.newest()
		for _, e := range living(current.entries, now) {
			if e.private != nil && e.id != signer.id && e.id != newest.id {
				e.private, changed = nil, true
			}
			left = append(left, e)
		}
		return left, changed || len(left) != len(current.entries)
	}
	if _, changed := needed(k.current(), k.now()); !changed {
		return nil
	}
	return k.change(func(current keySet, now time.Time) (keySet, error) {
		left, changed := needed(current, now)
		if !changed {
			return current, nil
		}
		return keySet{entries: left, since: current.since}, nil
	})
}

// change replaces the set by what with makes of it, in the file too. What it returns unchanged is not written.
func (k *Keys) change(with func(current keySet, now time.Time) (keySet, error)) error {
	k.changing.Lock()
	defer k.changing.Unlock()
	current := k.current()
	if k.file != "" {
		if _, err := os.Stat(k.file); err != nil { // before there is a lock beside it
			return fmt.Errorf("read keys: %w", err)
		}
		release, err := lock(k.file)
		if err != nil {
			return err
		}
		defer release()
		if current, err = readKeySet(k.file); err != nil {
			return err
		}
	}
	next, err := with(current, k.now())
	if err != nil {
		return err
	}
	if k.file != "" && next.raw == "" {
		if next, err = next.store(k.file, os.Rename); err != nil {
			return err
		}
	}
	k.replace(next)
	return nil
}

// Reload reads the file again, for a process that did not rotate it itself. On an error the keys
// stay as they were. Keys without a file do not change.
func (k *Keys) Reload() error {
	if k.file == "" {
		return nil
	}
	k.changing.Lock()
	defer k.changing.Unlock()
	set, err := rereadKeySet(k.file, k.current())
	if err != nil {
		return fmt.Errorf("jwtauth: reload: %w", err)
	}
	k.replace(set)
	return nil
}

// PublicKey returns the key that verifies signatures under kid, or ErrKeyUnknown. It is a
// [KeySource] and never blocks.
func (k *Keys) PublicKey(_ context.Context, kid string) (*PublicKey, error) {
	for _, e := range k.current().entries {
		if kid == e.id && !e.retired(k.now()) {
			return e.public, nil
		}
	}
	return nil, ErrKeyUnknown
}

// KeyInfo tells of a key.
type KeyInfo struct {
	ID        string   `json:"kid"`
	Algorithm string   `json:"algorithm"`
	State     KeyState `json:"state"`
	// SignsAt is when it begins or began to sign; zero where that is not known.
	SignsAt time.Time `json:"signsAt,omitzero"`
	// RetiresAt is when it ceases to verify; zero while no other key follows it.
	RetiresAt time.Time `json:"retiresAt,omitzero"`
}

// KeyState is what a key does.
type KeyState string

// What keys do.
const (
	KeySigns    KeyState = "signs"
	KeyWaits    KeyState = "waits"    // it is published, and will sign
	KeyVerifies KeyState = "verifies" // it signs no longer
)

// List tells of the keys that have not retired, the one that signs first.
func (k *Keys) List() []KeyInfo {
	now := k.now()
	var list []KeyInfo
	for i, e := range k.current().ordered(now) {
		info := KeyInfo{ID: e.id, Algorithm: e.public.algorithm, State: KeyVerifies, SignsAt: e.signs, RetiresAt: e.retires}
		switch {
		case i == 0:
			info.State = KeySigns
		case e.signs.After(now):
			info.State = KeyWaits
		}
		list = append(list, info)
	}
	return list
}

// JWKS returns the public keys as a JWK Set (RFC 7517, RFC 7518 section 6, RFC 8037), the signing one first: what
// others fetch to verify tokens by themselves.
func (k *Keys) JWKS() []byte {
	var doc struct {
		Keys []jwk `json:"keys"`
	}
	for _, e := range k.current().ordered(k.now()) {
		doc.Keys = append(doc.Keys, newJWK(e.id, e.public))
	}
	b, _ := json.Marshal(doc) // strings always can be
	return b
}

// String lists the kids, so that printing Keys shows no secret.
func (k *Keys) String() string { return fmt.Sprint(k.ids()) }

// GoString is String.
func (k *Keys) GoString() string { return k.String() }

// LogValue lists the kids, so that logging Keys shows no secret.
func (k *Keys) LogValue() slog.Value { return slog.AnyValue(k.ids()) }

func (k *Keys) ids() []string {
	var ids []string
	for _, e := range k.current().entries {
		ids = append(ids, e.id)
	}
	return ids
}

func (k *Keys) current() keySet {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.set
}

func (k *Keys) replace(set keySet) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.set = set
}

func newKeySet(algorithm string, now time.Time) (keySet, error) {
	e, err := newEntry(algorithm, now)
	return keySet{entries: []entry{e}, since: now}, err
}

func newEntry(algorithm string, signs time.Time) (entry, error) {
	private, err := newPrivateKey(algorithm)
	if err != nil {
		return entry{}, fmt.Errorf("make a key: %w", err)
	}
	public, err := NewPublicKey(algorithm, private.Public())
	if err != nil {
		return entry{}, fmt.Errorf("make a key: %w", err)
	}
	return entry{id: thumbprint(public), public: public, private: private, signs: signs.Round(0)}, nil
}
