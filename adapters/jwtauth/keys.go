package jwtauth

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/fault"
)

// ErrKeyUnknown is what a [KeySource] returns for a kid that no key has, or has any longer.
var ErrKeyUnknown = fault.New(fault.NotFound, "key_unknown", "no such key signs tokens")

// KeySource finds the public key with this kid. It returns ErrKeyUnknown, or another error of kind
// NotFound, when there is none, and any other error when it cannot tell. It is called from many
// goroutines, with a kid of at most [MaxKeyID] bytes that anybody may have made up, and does
// not wait longer than ctx allows. [Keys.PublicKey] is one.
type KeySource func(ctx context.Context, kid string) (ed25519.PublicKey, error)

// KeysConfig says where keys are kept.
type KeysConfig struct {
	// File is where the keys are kept. Empty means in memory only: every token ends with the process.
	File string
	// Now is the clock by which old keys retire. Default time.Now.
	Now func() time.Time
}

// Keys is a set of Ed25519 keys: one signs, the others still verify. Its methods may be called
// from many goroutines. It prints and logs as the kids of its keys.
type Keys struct {
	file string
	now  func() time.Time

	changing sync.Mutex // one Rotate or Reload at a time
	mu       sync.RWMutex
	set      keySet
}

// keySet is a value: it is replaced, never changed.
type keySet struct {
	signing ed25519.PrivateKey
	id      string
	old     []oldKey // latest first
}

type oldKey struct {
	id      string
	public  ed25519.PublicKey
	retires time.Time
}

// OpenKeys reads the keys in file, and makes the file with one new key, readable by its owner
// only, when there is none. A file that it cannot make sense of is an error: it is never replaced.
// The folder must exist, on a file system with hard links.
func OpenKeys(file string) (*Keys, error) {
	if file == "" {
		return nil, errors.New("jwtauth: the file is missing")
	}
	return NewKeys(KeysConfig{File: file})
}

// NewKeys is OpenKeys with a clock, or makes keys that live in memory only.
func NewKeys(cfg KeysConfig) (*Keys, error) {
	k := &Keys{file: cfg.File, now: cfg.Now}
	if k.now == nil {
		k.now = time.Now
	}
	var err error
	if k.file == "" {
		k.set, err = newKeySet()
	} else {
		k.set, err = openKeySet(k.file)
	}
	if err != nil {
		return nil, fmt.Errorf("jwtauth: %w", err)
	}
	return k, nil
}

// Rotate makes a new key, which signs from now on. The old one still verifies for the given
// overlap, which should be at least as long as a token lasts; zero ends its tokens at once. Keys
// that were retired by then are forgotten. It starts from what the file says now; two processes
// must not rotate one file at the same time, and others see the new key after Reload. On an error
// the key has not changed.
func (k *Keys) Rotate(overlap time.Duration) error {
	if overlap < 0 {
		return fmt.Errorf("jwtauth: rotate: the overlap is %v, want none or more", overlap)
	}
	k.changing.Lock()
	defer k.changing.Unlock()
	current := k.current()
	if k.file != "" {
		var err error
		if current, err = readKeySet(k.file); err != nil {
			return fmt.Errorf("jwtauth: rotate: %w", err)
		}
	}
	next, err := newKeySet()
	if err != nil {
		return fmt.Errorf("jwtauth: rotate: %w", err)
	}
	now := k.now()
	for _, o := range append([]oldKey{{current.id, public(current.signing), now.Add(overlap)}}, current.old...) {
		if now.Before(o.retires) {
			next.old = append(next.old, o)
		}
	}
	if k.file != "" {
		if err := next.store(k.file, os.Rename); err != nil {
			return fmt.Errorf("jwtauth: rotate: %w", err)
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
	set, err := readKeySet(k.file)
	if err != nil {
		return fmt.Errorf("jwtauth: reload: %w", err)
	}
	k.replace(set)
	return nil
}

// PublicKey returns the key that verifies signatures under kid, or ErrKeyUnknown. It is a
// [KeySource] and never blocks.
func (k *Keys) PublicKey(_ context.Context, kid string) (ed25519.PublicKey, error) {
	set := k.current()
	if kid == set.id {
		return public(set.signing), nil
	}
	for _, o := range set.old {
		if kid == o.id && k.now().Before(o.retires) {
			return slices.Clone(o.public), nil
		}
	}
	return nil, ErrKeyUnknown
}

// JWKS returns the public keys as a JWK Set (RFC 7517, RFC 8037), the signing one first: what
// others fetch to verify tokens by themselves.
func (k *Keys) JWKS() []byte {
	set := k.current()
	doc := struct {
		Keys []jwk `json:"keys"`
	}{Keys: []jwk{newJWK(set.id, public(set.signing))}}
	for _, o := range set.old {
		if k.now().Before(o.retires) {
			doc.Keys = append(doc.Keys, newJWK(o.id, o.public))
		}
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
	set := k.current()
	ids := []string{set.id}
	for _, o := range set.old {
		ids = append(ids, o.id)
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

func public(private ed25519.PrivateKey) ed25519.PublicKey {
	return ed25519.PublicKey(slices.Clone(private[ed25519.PrivateKeySize-ed25519.PublicKeySize:]))
}

func newKeySet() (keySet, error) {
	pub, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return keySet{}, fmt.Errorf("make a key: %w", err)
	}
	return keySet{signing: private, id: thumbprint(pub)}, nil
}

// jwk is a key of RFC 8037 section 2. D and RetiresAt stand in the file only: D is the secret of
// the key that signs, RetiresAt when one that does not sign any longer ceases to verify.
type jwk struct {
	KeyType   string     `json:"kty"`
	Curve     string     `json:"crv"`
	X         string     `json:"x"`
	D         string     `json:"d,omitempty"`
	ID        string     `json:"kid"`
	Use       string     `json:"use"`
	Algorithm string     `json:"alg"`
	RetiresAt *time.Time `json:"retiresAt,omitempty"`
}

func newJWK(id string, key ed25519.PublicKey) jwk {
	return jwk{KeyType: "OKP", Curve: "Ed25519", X: b64.EncodeToString(key), ID: id, Use: "sig", Algorithm: algorithm}
}

var b64 = base64.RawURLEncoding.Strict()

// thumbprint names a key by what it is (RFC 7638 section 3, RFC 8037 appendix A.3).
func thumbprint(key ed25519.PublicKey) string {
	sum := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + b64.EncodeToString(key) + `"}`))
	return b64.EncodeToString(sum[:])
}

// openKeySet reads the file, or makes it.
func openKeySet(file string) (keySet, error) {
	set, err := readKeySet(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return set, err
	}
	set, err = newKeySet()
	if err != nil {
		return keySet{}, err
	}
	// A link, unlike a rename, fails where another process was first; its key is the one, then.
	err = set.store(file, os.Link)
	if errors.Is(err, fs.ErrExist) {
		return readKeySet(file)
	}
	return set, err
}

const maxKeyFile = 1 << 20 // bytes

func readKeySet(file string) (keySet, error) {
	info, err := os.Stat(file)
	if err != nil {
		return keySet{}, fmt.Errorf("read keys: %w", err)
	}
	var set keySet
	if !info.Mode().IsRegular() || info.Size() > maxKeyFile {
		err = fmt.Errorf("it is not a regular file of at most %d bytes", maxKeyFile)
	} else {
		var data []byte
		if data, err = os.ReadFile(file); err != nil {
			return keySet{}, fmt.Errorf("read keys: %w", err)
		}
		set, err = decodeKeySet(data)
	}
	if err != nil {
		return keySet{}, fmt.Errorf("the key file %s is damaged (%w): restore it from a copy, or remove it to start with a new key, which ends every access token", file, err)
	}
	return set, nil
}

// decodeKeySet reads what encode writes. Its errors do not quote the data, which is secret.
func decodeKeySet(data []byte) (keySet, error) {
	var doc struct {
		Keys []jwk `json:"keys"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return keySet{}, errors.New("not the expected JSON")
	}
	var set keySet
	seen := map[string]bool{}
	for i, j := range doc.Keys {
		pub, err := b64.DecodeString(j.X)
		switch {
		case err != nil || len(pub) != ed25519.PublicKeySize || j.KeyType != "OKP" || j.Curve != "Ed25519":
			return keySet{}, fmt.Errorf("key %d is not an Ed25519 key", i+1)
		case j.ID != thumbprint(pub):
			return keySet{}, fmt.Errorf("key %d does not match its name", i+1)
		case seen[j.ID]:
			return keySet{}, fmt.Errorf("key %d is there twice", i+1)
		}
		seen[j.ID] = true
		if i > 0 {
			if j.RetiresAt == nil {
				return keySet{}, fmt.Errorf("key %d does not say when it retires", i+1)
			}
			set.old = append(set.old, oldKey{j.ID, pub, *j.RetiresAt})
			continue
		}
		seed, err := b64.DecodeString(j.D)
		if err != nil || len(seed) != ed25519.SeedSize {
			return keySet{}, errors.New("the first key has no private part")
		}
		set.id, set.signing = j.ID, ed25519.NewKeyFromSeed(seed)
		if !public(set.signing).Equal(ed25519.PublicKey(pub)) {
			return keySet{}, errors.New("the private part of the first key does not match the public one")
		}
	}
	if set.signing == nil {
		return keySet{}, errors.New("there is no key in it")
	}
	return set, nil
}

func (s keySet) encode() ([]byte, error) {
	first := newJWK(s.id, public(s.signing))
	first.D = b64.EncodeToString(s.signing.Seed())
	keys := []jwk{first}
	for _, o := range s.old {
		j, at := newJWK(o.id, o.public), o.retires.UTC()
		j.RetiresAt = &at
		keys = append(keys, j)
	}
	return json.MarshalIndent(map[string]any{"keys": keys}, "", "  ")
}

// store writes the set to a new file beside the named one, durably, and puts it in place by
// os.Rename or os.Link. A crash may leave the other file, which only its owner can read.
func (s keySet) store(file string, place func(from, to string) error) (err error) {
	data, err := s.encode()
	if err != nil {
		return fmt.Errorf("write keys: %w", err)
	}
	folder := filepath.Dir(file)
	temp, err := os.CreateTemp(folder, "."+filepath.Base(file)+"-*") // made with mode 0600
	if err != nil {
		return fmt.Errorf("write keys: %w", err)
	}
	defer func() {
		if removed := os.Remove(temp.Name()); removed != nil && !errors.Is(removed, fs.ErrNotExist) {
			err = errors.Join(err, fmt.Errorf("write keys: %w", removed))
		}
	}()
	_, err = temp.Write(append(data, '\n'))
	if err == nil {
		err = temp.Sync()
	}
	if err = errors.Join(err, temp.Close()); err == nil {
		err = place(temp.Name(), file)
	}
	if err == nil {
		err = syncFolder(folder)
	}
	if err != nil {
		return fmt.Errorf("write keys: %w", err)
	}
	return nil
}

// syncFolder makes a new name in the folder survive a power cut.
func syncFolder(folder string) error {
	if runtime.GOOS == "windows" { // where folders cannot be synced
		return nil
	}
	d, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
