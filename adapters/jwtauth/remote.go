package jwtauth

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
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

	mu      sync.Mutex
	keys    map[string]ed25519.PublicKey
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
func (k *RemoteKeys) PublicKey(ctx context.Context, kid string) (ed25519.PublicKey, error) {
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

// get reads the set that is published.
func (k *RemoteKeys) get(ctx context.Context) (map[string]ed25519.PublicKey, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, k.cfg.URL, nil)
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
		return nil, fmt.Errorf("%s answers %s", k.cfg.URL, answer.Status)
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxKeySet+1))
	if err != nil {
		return nil, err
	}
	return parseKeySet(text)
}

// parseKeySet reads a JWK Set. Keys of other kinds, and for other purposes, are left out, as RFC
// 7517 section 5 asks for; a set without any that could be used is an error.
func parseKeySet(text []byte) (map[string]ed25519.PublicKey, error) {
	var set struct {
		Keys []struct{ Kty, Crv, Kid, Use, Alg, X string }
	}
	if len(text) > maxKeySet || json.Unmarshal(text, &set) != nil || set.Keys == nil {
		return nil, errors.New("the answer is not a JWK Set")
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("the set has %d keys, want at most %d", len(set.Keys), maxKeys)
	}
	keys := map[string]ed25519.PublicKey{}
	for _, j := range set.Keys {
		x, err := base64.RawURLEncoding.DecodeString(j.X)
		usable := j.Kty == "OKP" && j.Crv == "Ed25519" && (j.Use == "" || j.Use == "sig") && (j.Alg == "" || j.Alg == algorithm)
		if usable && err == nil && len(x) == ed25519.PublicKeySize && j.Kid != "" && len(j.Kid) <= MaxKeyID {
			keys[j.Kid] = x
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("the set has no Ed25519 key for signatures")
	}
	return keys, nil
}
