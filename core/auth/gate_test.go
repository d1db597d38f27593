package auth_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/testkit"
)

func TestGateBelievesTokensUntilTheyExpire(t *testing.T) {
	w := newWorld(t)
	g, err := auth.NewGate(auth.GateConfig{Verifier: w.cfg.Verifier, Nonces: w.store.Nonces})
	require.NoError(t, err)
	w.account(ada)
	granted, known := w.signIn(ada, password)
	who, err := g.Authenticate(t.Context(), granted.AccessToken)
	require.NoError(t, err)
	assert.Equal(t, known, who)

	ticket, _, err := w.SocketTicket(t.Context(), who)
	require.NoError(t, err)
	_, err = g.Authenticate(t.Context(), ticket)
	require.ErrorIs(t, err, auth.ErrTokenInvalid, "a ticket is no access token")
	_, err = g.RedeemTicket(t.Context(), granted.AccessToken)
	require.ErrorIs(t, err, auth.ErrTokenInvalid, "an access token is no ticket")
	redeemed, err := g.RedeemTicket(t.Context(), ticket)
	require.NoError(t, err)
	assert.Equal(t, known.SessionID, redeemed.SessionID)
	_, err = w.RedeemTicket(t.Context(), ticket)
	require.ErrorIs(t, err, auth.ErrTokenInvalid, "spent is spent wherever the names are shared")

	require.NoError(t, w.SignOut(t.Context(), who))
	_, err = g.Authenticate(t.Context(), granted.AccessToken)
	require.NoError(t, err, "it has no store of sessions to ask")
	w.clock.Advance(16 * time.Minute)
	_, err = g.Authenticate(t.Context(), granted.AccessToken)
	require.ErrorIs(t, err, auth.ErrTokenInvalid)
}

func TestGateFailsAsItsDependenciesDo(t *testing.T) {
	w := newWorld(t)
	ticket := func() string {
		_, who := w.signIn(ada, password)
		ticket, _, err := w.SocketTicket(t.Context(), who)
		require.NoError(t, err)
		return ticket
	}
	w.account(ada)
	for _, method := range []string{"Verifier.Verify", "Nonces.Spend"} {
		faults := testkit.NewFaults(1, testkit.Rule{Method: method, Fault: testkit.Fail(errors.New("the server is gone"))})
		g, err := auth.NewGate(auth.GateConfig{Verifier: testkit.FaultyVerifier(w.cfg.Verifier, faults), Nonces: testkit.FaultyNonces(w.store.Nonces, faults)})
		require.NoError(t, err)
		_, err = g.RedeemTicket(t.Context(), ticket())
		require.ErrorIs(t, err, fault.Unavailable, method)
	}
	g, err := auth.NewGate(auth.GateConfig{Verifier: w.cfg.Verifier, Nonces: memory.NewNonces(memory.NoncesConfig{})})
	require.NoError(t, err)
	_, err = g.Authenticate(t.Context(), "nonsense")
	require.ErrorIs(t, err, fault.Unauthenticated)

	_, err = auth.NewGate(auth.GateConfig{})
	assert.ErrorContains(t, err, "Verifier")
	assert.ErrorContains(t, err, "Nonces")
}
