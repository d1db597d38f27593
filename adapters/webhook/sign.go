package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Names of the headers, as the Standard Webhooks specification has them.
const (
	HeaderID        = "webhook-id"
	HeaderTimestamp = "webhook-timestamp"
	HeaderSignature = "webhook-signature"
)

// Tolerance is how far the time of a request may be from the receiver's clock for [Verify].
const Tolerance = 5 * time.Minute

const (
	secretPrefix         = "whsec_"
	minSecret, maxSecret = 24, 64 // bytes
	maxSecrets           = 8
	version              = "v1,"
)

// ErrNotSigned is what [Verify] refuses. Its text says why.
var ErrNotSigned = errors.New("webhook: the request is not signed as it has to be")

// secret is the key of an HMAC.
type secret []byte

func parseSecrets(texts []string) ([]secret, error) {
	if len(texts) == 0 || len(texts) > maxSecrets {
		return nil, fmt.Errorf("there are %d, not 1 to %d", len(texts), maxSecrets)
	}
	all := make([]secret, len(texts))
	for i, text := range texts {
		encoded, ok := strings.CutPrefix(text, secretPrefix)
		key, err := base64.StdEncoding.Strict().DecodeString(encoded)
		if !ok || err != nil || len(key) < minSecret || len(key) > maxSecret || strings.ContainsAny(encoded, "\r\n") {
			return nil, fmt.Errorf("number %d is not %s and the base64 of %d to %d bytes", i+1, secretPrefix, minSecret, maxSecret)
		}
		all[i] = key
	}
	return all, nil
}

// keyring has the secrets that requests are signed with, which can change meanwhile.
type keyring struct{ atomic.Pointer[[]secret] }

// set signs with these from now on, unless one of them cannot be a secret.
func (k *keyring) set(texts []string) error {
	parsed, err := parseSecrets(texts)
	if err != nil {
		return fmt.Errorf("webhook: the secrets: %w", err)
	}
	k.Store(&parsed)
	return nil
}

// of is the signature of a request by the secret.
func (s secret) of(id, timestamp string, body []byte) []byte {
	mac := hmac.New(sha256.New, s)
	for _, part := range []string{id, ".", timestamp, "."} {
		mac.Write([]byte(part))
	}
	mac.Write(body)
	return mac.Sum(nil)
}

// sign sets the headers of a request.
func sign(h http.Header, secrets []secret, id string, at time.Time, body []byte) {
	timestamp := strconv.FormatInt(at.Unix(), 10)
	signatures := make([]string, len(secrets))
	for i, s := range secrets {
		signatures[i] = version + base64.StdEncoding.EncodeToString(s.of(id, timestamp, body))
	}
	h.Set(HeaderID, id)
	h.Set(HeaderTimestamp, timestamp)
	h.Set(HeaderSignature, strings.Join(signatures, " "))
}

// Verify returns nil if a request with these headers and this body was signed by one of the secrets, and within [Tolerance] of
// now; an error that matches ErrNotSigned if not; and another error if a secret cannot be one. It is for the server that is
// asked. That a request did not come before is for the receiver to find out, by its webhook-id.
func Verify(secrets []string, h http.Header, body []byte, now time.Time) error {
	keys, err := parseSecrets(secrets)
	if err != nil {
		return fmt.Errorf("webhook: the secrets: %w", err)
	}
	id, timestamp := h.Get(HeaderID), h.Get(HeaderTimestamp)
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if id == "" || err != nil {
		return fmt.Errorf("%w: %s or %s is missing, or no such thing", ErrNotSigned, HeaderID, HeaderTimestamp)
	}
	if at := time.Unix(seconds, 0); at.Before(now.Add(-Tolerance)) || at.After(now.Add(Tolerance)) {
		return fmt.Errorf("%w: it is of another time", ErrNotSigned)
	}
	for _, given := range strings.Fields(h.Get(HeaderSignature)) {
		encoded, known := strings.CutPrefix(given, version)
		signature, err := base64.StdEncoding.DecodeString(encoded)
		if !known || err != nil {
			continue
		}
		for _, key := range keys {
			if hmac.Equal(signature, key.of(id, timestamp, body)) {
				return nil
			}
		}
	}
	return fmt.Errorf("%w: no signature is of a secret that is known", ErrNotSigned)
}
