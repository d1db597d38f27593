package jwtauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/settings"
)

const (
	maxKeySet = 1 << 20 // bytes of a key set that is read
	maxKeys   = 1000    // keys of a set that are kept
)

// RemoteKeysConfig says where keys are published. Zero fields without "required" mean the default.
type RemoteKeysConfig struct {
	// URL is where a JWK Set is (RFC 7517), for example "https://auth.example.com/.well-known/jwks.json". Required.
	URL string
	// Algorithms are those of keys that are believed. A key that does not say its algorithm is of the one that stands for its kind: EdDSA, ES256, or for RSA
	// the first of RS256 and PS256 that is among these. Default [Algorithms].
	Algorithms []string
	// Client fetches it. Default: one of its own, which follows no redirects.
	Client *http.Client
	// Timeout bounds one fetch. Default 3 seconds.
	Timeout time.Duration
	// Refresh is how old a set may be before it is fetched again, and so how long a key that was
	// withdrawn is still believed while its tokens come in. Default 5 minutes.
	Refresh time.Duration
	// Pause is the least time between two fetches, so that made-up kids cannot be used to flood
	// whoever publishes the set. Default 1 second.
	Pause time.Duration
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// RemoteKeys are the public keys that another process publishes, for those who only verify. A kid that is not known
// makes it fetch them, at most once in a Pause. Keys that are known are used meanwhile, and while a newer set cannot
// be had. Its methods may be called from many goroutines.
type RemoteKeys struct {
	cfg RemoteKeysConfig
	// locate says where the set is; nil: at Config.URL.
	locate func(ctx context.Context) (string, error)

	mu      sync.Mutex
	keys    map[string]*PublicKey
	fetched time.Time // when keys came; zero before
	tried   time.Time // when the last fetch ended
	failure error     // of the last fetch
	flight  chan struct{}
}

// NewRemoteKeys checks the configuration. It fetches nothing yet.
func NewRemoteKeys(cfg RemoteKeysConfig) (*RemoteKeys, error) {
	c := settings.Of("jwtauth: RemoteKeysConfig")
	c.Require("URL", cfg.URL == "")
	if u, err := url.Parse(cfg.URL); cfg.URL != "" && (err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "") {
		c.Refuse("URL", "is not an address of http or https")
	}
	settings.Default(c, "Timeout", &cfg.Timeout, 3*time.Second)
	settings.Default(c, "Refresh", &cfg.Refresh, 5*time.Minute)
	settings.Default(c, "Pause", &cfg.Pause, time.Second)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if len(cfg.Algorithms) == 0 {
		cfg.Algorithms = Algorithms()
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{
			Transport:     http.DefaultTransport.(*http.Transport).Clone(),
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &RemoteKeys{cfg: cfg}, nil
}

// PublicKey returns the key with this kid, or ErrKeyUnknown if the set that is published has none;
// when the set cannot be had, an error of kind Unavailable. It is a [KeySource], and waits for a
// fetch only where it does not know the kid.
func (k *RemoteKeys) PublicKey(ctx context.Context, kid string) (*PublicKey, error) {
	k.mu.Lock()
	key, known := k.keys[kid]
	now := k.cfg.Now()
	stale := now.Sub(k.fetched) >= k.cfg.Refresh
	if known {
		if stale && now.Sub(k.tried) >= k.cfg.Pause {
			k.fetch()
		}
		k.mu.Unlock()
		return key, nil
	}
	if now.Sub(k.tried) < k.cfg.Pause && k.flight == nil {
		err := k.failure
		k.mu.Unlock()
		if err == nil {
			err = ErrKeyUnknown
		}
		return nil, err
	}
	flight := k.fetch()
	k.mu.Unlock()
	if err := k.wait(ctx, flight); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if key, known := k.keys[kid]; known {
		return key, nil
	}
	return nil, ErrKeyUnknown
}

// Ping fetches the set and returns nil if it came; errors are of kind Unavailable.
func (k *RemoteKeys) Ping(ctx context.Context) error {
	k.mu.Lock()
	flight := k.fetch()
	k.mu.Unlock()
	return k.wait(ctx, flight)
}

// Ready returns nil if there are keys, however old, and otherwise what Ping does: tokens can be
// verified while whoever publishes the keys is away.
func (k *RemoteKeys) Ready(ctx context.Context) error {
	k.mu.Lock()
	known := len(k.keys) > 0
	k.mu.Unlock()
	if known {
		return nil
	}
	return k.Ping(ctx)
}

// wait returns how a fetch ended.
func (k *RemoteKeys) wait(ctx context.Context, flight <-chan struct{}) error {
	select {
	case <-flight:
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.failure
	case <-ctx.Done():
		return fault.Wrap(fault.Unavailable, fmt.Errorf("jwtauth: fetching keys: %w", context.Cause(ctx)))
	}
}

// fetch begins a fetch, unless one is under way, and returns what is closed at its end. It does
// not end with the caller who happened to begin it. k.mu is held.
func (k *RemoteKeys) fetch() <-chan struct{} {
	if k.flight != nil {
		return k.flight
	}
	flight := make(chan struct{})
	k.flight = flight
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), k.cfg.Timeout)
		defer cancel()
		keys, err := k.get(ctx)
		k.mu.Lock()
		defer k.mu.Unlock()
		k.tried, k.failure, k.flight = k.cfg.Now(), nil, nil
		if err != nil {
			k.failure = fault.Wrap(fault.Unavailable, fmt.Errorf("jwtauth: fetching keys: %w", err))
		} else {
			k.keys, k.fetched = keys, k.tried
		}
		close(flight)
	}()
	return flight
}

// fetchText reads what is at an address, at most so many bytes.
func (k *RemoteKeys) fetchText(ctx context.Context, address string, most int64) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json")
	answer, err := k.cfg.Client.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", address, answer.Status)
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("the answer of %s has more than %d bytes", address, most)
	}
	return text, err
}

// get reads the set that is published.
func (k *RemoteKeys) get(ctx context.Context) (map[string]*PublicKey, error) {
	address := k.cfg.URL
	if k.locate != nil {
		var err error
		if address, err = k.locate(ctx); err != nil {
			return nil, err
		}
	}
	text, err := k.fetchText(ctx, address, maxKeySet)
	if err != nil {
		return nil, err
	}
	return parseKeySet(text, k.cfg.Algorithms)
}

// parseKeySet reads a JWK Set. Keys of other kinds, and for other purposes, are left out, as RFC
// 7517 section 5 asks for; a set without any that could be used is an error.
func parseKeySet(text []byte, algorithms []string) (map[string]*PublicKey, error) {
	var set struct{ Keys []json.RawMessage }
	if json.Unmarshal(text, &set) != nil || set.Keys == nil {
		return nil, errors.New("the answer is not a JWK Set")
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("the set has %d keys, want at most %d", len(set.Keys), maxKeys)
	}
	ofRSA := PS256
	if slices.Contains(algorithms, RS256) {
		ofRSA = RS256
	}
	keys := map[string]*PublicKey{}
	why := errors.New("there is none")
	for _, raw := range set.Keys {
		var j jwk
		if err := json.Unmarshal(raw, &j); err != nil {
			why = errors.New("a key cannot be read")
			continue
		}
		key, err := j.public(ofRSA)
		switch {
		case err != nil:
			why = err
		case !slices.Contains(algorithms, key.algorithm):
			why = fmt.Errorf("the algorithm %s is not allowed", key.algorithm)
		case j.ID == "" || len(j.ID) > MaxKeyID:
			why = errors.New("a key has no kid, or a very long one")
		default:
			keys[j.ID] = key
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("the set has no key that can be used: %w", why)
	}
	return keys, nil
}
