package parley_test

import (
	"context"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/user"
)

// TestWithTakesEveryPort takes one port at a time of another system, so that one that With forgets is noticed.
func TestWithTakesEveryPort(t *testing.T) {
	t.Parallel()
	mine, others := memory.NewPorts(), memory.NewPorts()
	others.Standings = standings{}
	for i := range reflect.TypeFor[parley.Ports]().NumField() {
		var one parley.Ports
		reflect.ValueOf(&one).Elem().Field(i).Set(reflect.ValueOf(others).Field(i))
		got := reflect.ValueOf(mine.With(one))
		for j := range got.NumField() {
			from := mine
			if got.Type().Field(i).Name == "Users" {
				from.Directory = nil // it lists others
			}
			if i == j {
				from = others
			}
			assert.True(t, got.Field(j).Interface() == reflect.ValueOf(from).Field(j).Interface(),
				"with %s, %s is another one", got.Type().Field(i).Name, got.Type().Field(j).Name)
		}
	}
	assert.Equal(t, mine, mine.With(parley.Ports{}))
	assert.Equal(t, mine, parley.Ports{}.With(mine))
}

// standings is a way to read Users and Sessions at once.
type standings struct{ auth.Standings }

// Standings of other users or sessions would say of a session what another store has.
func TestStandingsGoWithWhatTheyRead(t *testing.T) {
	t.Parallel()
	mine := memory.NewPorts()
	mine.Standings = standings{}
	others := memory.NewPorts()
	assert.Nil(t, mine.With(parley.Ports{Users: others.Users}).Standings)
	assert.Nil(t, mine.With(parley.Ports{Sessions: others.Sessions}).Standings)
	assert.NotNil(t, mine.With(parley.Ports{Messages: others.Messages}).Standings)
	assert.NotNil(t, mine.With(parley.Ports{Users: others.Users, Standings: standings{}}).Standings)
}

// Standing is auth.Standings's: it knows nobody.
func (standings) Standing(context.Context, string) (auth.Standing, error) {
	return auth.Standing{}, auth.ErrSessionNotFound
}

func TestAccountsAskStandings(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		standings auth.Standings
		want      error
	}{
		"none":                    {nil, nil},
		"one that has no session": {standings{}, auth.ErrSessionEnded},
	} {
		cfg := whole()
		cfg.Standings = test.standings
		now := time.Now().UTC().Truncate(time.Second)
		require.NoError(t, cfg.Users.Create(t.Context(), user.User{ID: "u", FullName: "Ada", Email: "ada@example.com", CreatedAt: now, VerifiedAt: now}))
		require.NoError(t, cfg.Sessions.Create(t.Context(), auth.Session{ID: "s", UserID: "u", CreatedAt: now, RotatedAt: now, ExpiresAt: now.Add(time.Hour)}))
		token, err := cfg.Issuer.Issue(t.Context(), auth.Claims{
			ID: "t", Audience: auth.AudienceAPI, UserID: "u", Name: "Ada", SessionID: "s", SessionAt: now, IssuedAt: now, ExpiresAt: now.Add(time.Hour),
		})
		require.NoError(t, err)
		accounts, err := parley.NewAccounts(cfg)
		require.NoError(t, err)
		_, err = accounts.Auth.Authenticate(t.Context(), token)
		assert.ErrorIs(t, err, test.want, name)
	}
}
