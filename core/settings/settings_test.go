package settings_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/settings"
)

func TestEverythingThatIsWrongIsSaidOnce(t *testing.T) {
	t.Parallel()
	cause := errors.New("no such thing")
	few, many, long := -1, 7, time.Duration(0)
	c := settings.Of("chat: Config")
	c.Require("Store", true)
	c.Require("Store", true)
	c.Require("Rooms", false)
	settings.Default(c, "Few", &few, 3)
	settings.Default(c, "Many", &many, 3)
	settings.Default(c, "Long", &long, time.Second)
	c.Refuse("Long", "is longer than %v", time.Minute)
	c.Fault("Origins", cause)
	c.Fault("Protocols", nil)
	c.Argument("the API", true)
	c.Argument("the mux", false)
	require.EqualError(t, c.Err(), "chat: Config.Store is missing\nchat: Config.Few is negative\nchat: Config.Long is longer than 1m0s\nchat: Config.Origins: no such thing\nchat: the API is missing")
	require.ErrorIs(t, c.Err(), cause)
	require.Equal(t, 7, many, "what is set stays")
	require.Equal(t, time.Second, long)
}

func TestNothingIsWrong(t *testing.T) {
	t.Parallel()
	require.NoError(t, settings.Of("chat: Config").Err())
}
