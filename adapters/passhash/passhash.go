// Package passhash hashes passwords: the port [auth.Hasher].
//
// New hashes are Argon2id (RFC 9106) in the PHC string format. Hashes of bcrypt ($2a$, $2b$, $2y$)
// are verified and reported for an upgrade. It uses golang.org/x/crypto v0.58.
//
// # Guarantees
//
// At most Config.Parallel hashes run at once, whatever their kind, so memory is bounded by
// Parallel times the memory of one. At most Config.Waiting calls wait for their turn, in the
// order in which they came; one more is told at once to come back later ([ErrBusy]). A call that
// waits gives up when its context is done. A hash that runs is not interrupted: it takes tens of
// milliseconds with the defaults.
//
// A stored hash is input, and may be damaged or hostile: its parameters are checked against
// [MaxMemory], [MaxTime], [MaxThreads] and [MaxBcryptCost] before anything is allocated. Whatever
// cannot be read is [ErrHashUnreadable]; the error never quotes the hash.
//
// # Exceptions
//
// bcrypt reads 72 bytes of a password and ignores the rest. A longer password matches a bcrypt
// hash by its first 72 bytes, as it did in the system that made the hash; Verify then asks for an
// upgrade, and the new hash covers all of it.
//
// # Closing
//
// There is nothing to close: a Hasher holds no goroutine and no memory between calls.
package passhash

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/settings"
)

// Limits of the parameters in a hash, whether configured or read from storage.
const (
	MaxMemory     = 128 * 1024 // KiB
	MaxTime       = 10         // passes
	MaxThreads    = 8
	MaxBcryptCost = 14 // about a second
)

// Sizes in bytes (RFC 9106 section 3.1 asks for at least 8 and 4; 16 and 32 are what it recommends).
const (
	saltSize, minSalt, maxSalt = 16, 8, 64
	keySize, minKey, maxKey    = 32, 16, 64
	bcryptSize                 = 60
	bcryptPassword             = 72 // what bcrypt reads of a password
)

// bcryptAlphabet is bcrypt's own base64.
const bcryptAlphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// What this package refuses.
var (
	// ErrBusy says that too many calls wait already. It carries when to try again.
	ErrBusy = fault.New(fault.Exhausted, "hasher_busy", "too many passwords are being checked at the moment")
	// ErrHashUnreadable says that a stored hash is damaged, of an unknown kind, or beyond the limits.
	ErrHashUnreadable = fault.New(fault.Internal, "hash_unreadable", "the stored password hash cannot be read")
)

// Config says how to hash. Zero fields mean the default.
type Config struct {
	// Memory is what one hash uses, in KiB, from 8 times Threads to MaxMemory. Default 19456 (19 MiB).
	Memory uint32
	// Time is the number of passes over the memory, 1 to MaxTime. Default 2.
	Time uint32
	// Threads is the degree of parallelism of one hash, 1 to MaxThreads. Default 1.
	Threads uint8

	// Parallel is how many hashes run at once. Default half of GOMAXPROCS, at least 1: the other
	// half is left to requests that are not about passwords.
	Parallel int
	// Waiting is how many calls may wait for their turn. Default 64.
	Waiting int
	// RetryAfter is what a call is told that finds no place to wait. Default 1 second.
	RetryAfter time.Duration

	// Random is the source of salts; it may be read from many goroutines. Default crypto/rand.
	Random io.Reader
}

// Hasher hashes and verifies passwords. Its methods may be called from many goroutines.
type Hasher struct {
	current    params
	turns      chan struct{} // one element for each running hash
	waiting    atomic.Int64
	maxWaiting int64
	retryAfter time.Duration
	random     io.Reader
}

var _ auth.Hasher = (*Hasher)(nil)

// New checks the configuration, all of it at once.
func New(cfg Config) (*Hasher, error) {
	p := params{memory: cfg.Memory, time: cfg.Time, threads: cfg.Threads, salt: saltSize, key: keySize}
	if p.memory == 0 {
		p.memory = 19 * 1024
	}
	if p.time == 0 {
		p.time = 2
	}
	if p.threads == 0 {
		p.threads = 1
	}
	if cfg.Random == nil {
		cfg.Random = rand.Reader
	}
	c := settings.Of("passhash: Config")
	p.check(c.Refuse)
	settings.Default(c, "Parallel", &cfg.Parallel, max(1, runtime.GOMAXPROCS(0)/2))
	settings.Default(c, "Waiting", &cfg.Waiting, 64)
	settings.Default(c, "RetryAfter", &cfg.RetryAfter, time.Second)
	if err := c.Err(); err != nil {
		return nil, err
	}
	return &Hasher{
		current:    p,
		turns:      make(chan struct{}, cfg.Parallel),
		maxWaiting: int64(cfg.Waiting),
		retryAfter: cfg.RetryAfter,
		random:     cfg.Random,
	}, nil
}

// Hash returns an Argon2id hash of password with a fresh salt, as a PHC string. It returns
// ErrBusy when too many calls wait, and an error of kind Unavailable when ctx is done before its
// turn or the source of randomness fails.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	if err := h.enter(ctx); err != nil {
		return "", err
	}
	defer h.leave()
	salt := make([]byte, h.current.salt)
	if _, err := io.ReadFull(h.random, salt); err != nil {
		return "", fmt.Errorf("passhash: make a salt: %w", fault.Wrap(fault.Unavailable, err))
	}
	return h.current.encode(salt, h.current.derive(password, salt)), nil
}

// Verify reports whether password is the one that was hashed, and whether the hash should be
// made anew because it is not what Hash makes now. It returns ErrHashUnreadable, at once, for a
// hash that it cannot read; otherwise the errors of Hash.
func (h *Hasher) Verify(ctx context.Context, hash, password string) (ok, upgrade bool, err error) {
	check, current, err := h.parse(hash)
	if err != nil {
		return false, false, ErrHashUnreadable.Because(err)
	}
	if err := h.enter(ctx); err != nil {
		return false, false, err
	}
	defer h.leave()
	ok, err = check(password)
	if err != nil {
		return false, false, ErrHashUnreadable.Because(err)
	}
	return ok, ok && !current, nil
}

// parse returns how to check a password against hash, and whether hash has the current form.
func (h *Hasher) parse(hash string) (check func(password string) (bool, error), current bool, err error) {
	switch {
	case strings.HasPrefix(hash, "$argon2id$"):
		p, salt, key, err := decode(hash)
		if err != nil {
			return nil, false, err
		}
		return func(password string) (bool, error) {
			return subtle.ConstantTimeCompare(key, p.derive(password, salt)) == 1, nil
		}, p == h.current, nil
	case strings.HasPrefix(hash, "$2a$"), strings.HasPrefix(hash, "$2b$"), strings.HasPrefix(hash, "$2y$"):
		if len(hash) != bcryptSize {
			return nil, false, fmt.Errorf("bcrypt hash of %d bytes, want %d", len(hash), bcryptSize)
		}
		if strings.Trim(hash[len("$2a$00$"):], bcryptAlphabet) != "" {
			return nil, false, errors.New("bcrypt hash is malformed")
		}
		cost, err := bcrypt.Cost([]byte(hash))
		if err != nil {
			return nil, false, errors.New("bcrypt hash is malformed") // the vendor's text quotes it
		}
		if cost > MaxBcryptCost {
			return nil, false, fmt.Errorf("bcrypt cost is %d, want at most %d", cost, MaxBcryptCost)
		}
		return func(password string) (bool, error) { return checkBcrypt(hash, password) }, false, nil
	default:
		return nil, false, errors.New("unknown kind of hash")
	}
}

func checkBcrypt(hash, password string) (bool, error) {
	if len(password) > bcryptPassword {
		password = password[:bcryptPassword]
	}
	err := bcrypt.CompareHashAndPassword([]byte(hash), []byte(password))
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, bcrypt.ErrMismatchedHashAndPassword):
		return false, nil
	default:
		return false, errors.New("bcrypt hash is malformed") // the vendor's text quotes it
	}
}

// Waiting is how many hashes wait for their turn.
func (h *Hasher) Waiting() int { return int(h.waiting.Load()) }

// enter waits for a turn, which leave gives back.
func (h *Hasher) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("passhash: %w", fault.Wrap(fault.Unavailable, err))
	}
	select {
	case h.turns <- struct{}{}:
		return nil
	default:
	}
	defer h.waiting.Add(-1)
	if h.waiting.Add(1) > h.maxWaiting {
		return ErrBusy.RetryAfter(h.retryAfter)
	}
	select {
	case h.turns <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("passhash: wait for a turn: %w", fault.Wrap(fault.Unavailable, ctx.Err()))
	}
}

func (h *Hasher) leave() { <-h.turns }

// params are the parameters of an Argon2id hash; salt and key are sizes in bytes.
type params struct {
	memory, time uint32
	threads      uint8
	salt, key    int
}

// check tells refuse which of the parameters are out of their range.
func (p params) check(refuse func(parameter, format string, args ...any)) {
	if least := 8 * uint32(p.threads); p.memory < least || p.memory > MaxMemory {
		refuse("Memory", "is %d KiB, want %d to %d", p.memory, least, MaxMemory)
	}
	if p.time < 1 || p.time > MaxTime {
		refuse("Time", "is %d passes, want 1 to %d", p.time, MaxTime)
	}
	if p.threads < 1 || p.threads > MaxThreads {
		refuse("Threads", "is %d, want 1 to %d", p.threads, MaxThreads)
	}
	if p.salt < minSalt || p.salt > maxSalt {
		refuse("Salt", "has %d bytes, want %d to %d", p.salt, minSalt, maxSalt)
	}
	if p.key < minKey || p.key > maxKey {
		refuse("Key", "has %d bytes, want %d to %d", p.key, minKey, maxKey)
	}
}

func (p params) derive(password string, salt []byte) []byte {
	return argon2.IDKey([]byte(password), salt, p.time, p.memory, p.threads, uint32(p.key))
}

// b64 is the base64 of PHC strings: no padding, no stray bits.
var b64 = base64.RawStdEncoding.Strict()

func (p params) encode(salt, key []byte) string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s",
		argon2.Version, p.memory, p.time, p.threads, b64.EncodeToString(salt), b64.EncodeToString(key))
}

// decode reads what encode writes, and checks the limits.
func decode(hash string) (p params, salt, key []byte, err error) {
	const longest = 256 // the largest salt and key need less
	if len(hash) > longest {
		return p, nil, nil, fmt.Errorf("hash of %d bytes, want at most %d", len(hash), longest)
	}
	parts := strings.Split(hash, "$") // "", "argon2id", version, parameters, salt, key
	if len(parts) != 6 {
		return p, nil, nil, errors.New("hash does not have five parts")
	}
	if parts[2] != "v="+strconv.Itoa(argon2.Version) {
		return p, nil, nil, fmt.Errorf("unknown version of Argon2, want %d", argon2.Version)
	}
	numbers := strings.Split(parts[3], ",")
	if len(numbers) != 3 {
		return p, nil, nil, errors.New("want the parameters m, t and p")
	}
	var n [3]uint32
	for i, name := range []string{"m=", "t=", "p="} {
		text, found := strings.CutPrefix(numbers[i], name)
		v, err := strconv.ParseUint(text, 10, 32)
		if !found || err != nil || strconv.FormatUint(v, 10) != text {
			return p, nil, nil, fmt.Errorf("parameter %s is malformed", name[:1])
		}
		n[i] = uint32(v)
	}
	if n[2] > MaxThreads {
		return p, nil, nil, fmt.Errorf("threads are %d, want 1 to %d", n[2], MaxThreads)
	}
	if salt, err = decodeBase64(parts[4]); err != nil {
		return p, nil, nil, errors.New("salt is not base64")
	}
	if key, err = decodeBase64(parts[5]); err != nil {
		return p, nil, nil, errors.New("key is not base64")
	}
	p = params{memory: n[0], time: n[1], threads: uint8(n[2]), salt: len(salt), key: len(key)}
	var errs []error
	p.check(func(parameter, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s %s", strings.ToLower(parameter), fmt.Sprintf(format, args...)))
	})
	return p, salt, key, errors.Join(errs...)
}

// decodeBase64 refuses line breaks, which the standard decoder skips.
func decodeBase64(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, errors.New("line break")
	}
	return b64.DecodeString(s)
}
