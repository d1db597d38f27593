package auth

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
)

// FactorKeyBytes is the length of each of Config.FactorKeys: AES-256.
const FactorKeyBytes = 32

// NewFactorKey makes a key for Config.FactorKeys.
func NewFactorKey() []byte {
	key := make([]byte, FactorKeyBytes)
	_, _ = rand.Read(key) // it never fails
	return key
}

// errSealed says that no key opens what is sealed.
var errSealed = errors.New("auth: no key opens it: it was sealed with a key that is not among the keys of the second factor, or was changed")

// sealer seals small texts by AES-256-GCM (NIST SP 800-38D) with random nonces of 96 bits: the first key seals, and each of them opens.
type sealer struct {
	keys   []cipher.AEAD
	random io.Reader
}

func newSealer(keys [][]byte, random io.Reader) (*sealer, error) {
	s := &sealer{random: random}
	for i, key := range keys {
		if len(key) != FactorKeyBytes {
			return nil, fmt.Errorf("the key %d has %d bytes, not %d", i+1, len(key), FactorKeyBytes)
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		gcm, err := cipher.NewGCM(block)
		if err != nil {
			return nil, err
		}
		s.keys = append(s.keys, gcm)
	}
	return s, nil
}

// seal returns plain so that only a key opens it, and only where the same purpose is given.
func (s *sealer) seal(plain []byte, purpose string) ([]byte, error) {
	gcm := s.keys[0]
	sealed := make([]byte, gcm.NonceSize(), gcm.NonceSize()+len(plain)+gcm.Overhead())
	if _, err := io.ReadFull(s.random, sealed); err != nil {
		return nil, failed("reading random bytes", err)
	}
	return gcm.Seal(sealed, sealed, plain, []byte(purpose)), nil
}

// open returns what was sealed for the purpose. old says that another key than the first one has sealed it.
func (s *sealer) open(sealed []byte, purpose string) (plain []byte, old bool, err error) {
	for i, gcm := range s.keys {
		if len(sealed) < gcm.NonceSize() {
			break
		}
		nonce, text := sealed[:gcm.NonceSize()], sealed[gcm.NonceSize():]
		if plain, err = gcm.Open(nil, nonce, text, []byte(purpose)); err == nil {
			return plain, i > 0, nil
		}
	}
	return nil, false, errSealed
}
