package jwtauth_test

import (
	"testing"

	"github.com/parley-chat/parley/contract"
)

func TestContract(t *testing.T) {
	t.Parallel()
	contract.Run(t, contract.TokenVerifier(), func(t *testing.T) contract.Tokens {
		r, stranger := newRig(t), newRig(t)
		return contract.Tokens{Issuer: r.issuer, Verifier: r.verifier, Stranger: stranger.issuer, Now: clock}
	})
}
