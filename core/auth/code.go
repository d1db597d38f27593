package auth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/parley-chat/parley/core/user"
)

// Purposes of codes: a code made for one is unknown to the other.
const (
	purposeVerify = "verify"
	purposeReset  = "reset"
)

// secretBytes is how much randomness a code, and each secret of a refresh token, holds.
const secretBytes = 32

// secret returns fresh randomness as text.
func (s *Service) secret() (string, error) {
	raw := make([]byte, secretBytes)
	if _, err := io.ReadFull(s.cfg.Random, raw); err != nil {
		return "", failed("reading random bytes", err)
	}
	return base64.RawURLEncoding.EncodeToString(raw), nil
}

// isSecret reports whether text has the shape of a secret.
func isSecret(text string) bool {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	// The decoder skips line breaks, so the length of the text counts too.
	return err == nil && len(raw) == secretBytes && len(text) == base64.RawURLEncoding.EncodedLen(secretBytes)
}

// codeHash is what a store knows a code by.
func codeHash(purpose, code string) string {
	sum := sha256.Sum256([]byte(purpose + ":" + code))
	return hex.EncodeToString(sum[:])
}

// newCode makes a code for u, no older than the password that u has, and stores it. Without the event that mails it, which comes after,
// the code is nobody's: a crash in between does no harm.
func (s *Service) newCode(ctx context.Context, purpose string, u user.User, ttl time.Duration) (text string, expires time.Time, err error) {
	text, err = s.secret()
	if err != nil {
		return "", time.Time{}, err
	}
	now := s.now()
	c := Code{Hash: codeHash(purpose, text), UserID: u.ID, CreatedAt: notBefore(now, u.PasswordChangedAt), ExpiresAt: now.Add(ttl)}
	if err := s.cfg.Codes.Put(ctx, c); err != nil {
		return "", time.Time{}, failed("storing a code", err)
	}
	return text, c.ExpiresAt, nil
}

// decoy does what newCode does and tells nobody the code, so that an address without an
// account costs the same write as one with.
func (s *Service) decoy(ctx context.Context, ttl time.Duration) error {
	_, _, err := s.newCode(ctx, "decoy", user.User{ID: user.ID(s.cfg.NewID())}, ttl)
	return err
}

// useCode marks a code as used and returns it as it was before, unless it is unknown or expired.
func (s *Service) useCode(ctx context.Context, purpose, code string, now time.Time) (Code, error) {
	code = strings.TrimSpace(code)
	if !isSecret(code) {
		return Code{}, ErrCodeUnknown
	}
	c, err := s.cfg.Codes.Use(ctx, codeHash(purpose, code), now)
	switch {
	case errors.Is(err, ErrCodeUnknown):
		return Code{}, ErrCodeUnknown
	case err != nil:
		return Code{}, failed("using a code", err)
	case !now.Before(c.ExpiresAt):
		return Code{}, ErrCodeGone
	}
	return c, nil
}
