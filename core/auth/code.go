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

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

// Purposes of codes: a code made for one is unknown to the other.
const (
	purposeVerify = "verify"
	purposeReset  = "reset"
	purposeLink   = "link"
	purposeNone   = "decoy"
	// purposeEmail is followed by the user's ID: the code of another is unknown.
	purposeEmail = "email:"
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

// newCode makes a code that nobody knows yet; s.cfg.Codes must still keep it. It is made for the
// owner, which is a user or a sign-up, and is no older than the given time.
func (s *Service) newCode(purpose, owner string, since time.Time, expires time.Time) (text string, c Code, err error) {
	text, err = s.secret()
	if err != nil {
		return "", Code{}, err
	}
	return text, Code{
		Hash: codeHash(purpose, text), UserID: user.ID(owner), CreatedAt: notBefore(s.now(), since), ExpiresAt: expires,
	}, nil
}

// post commits a code and the event that mails it.
func (s *Service) post(ctx context.Context, c Code, e event.Event) error {
	if err := s.cfg.Codes.Put(ctx, c, e); err != nil {
		return failed("storing a code and its mail", err)
	}
	s.cfg.Committed()
	return nil
}

// decoy does what post does, with a code that nobody gets to know and an event that asks for no
// mail: an address without an account costs the same work as one with.
func (s *Service) decoy(ctx context.Context, ttl time.Duration) error {
	nobody := s.cfg.NewID()
	filler, c, err := s.newCode(purposeNone, nobody, time.Time{}, s.now().Add(ttl))
	if err != nil {
		return err
	}
	e, err := s.mailEvent(mail.TypeNothing, user.ID(nobody), mail.Nothing{Filler: filler})
	if err != nil {
		return err
	}
	return s.post(ctx, c, e)
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
