package main_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/testkit/servers"
)

// TestOnADatabaseOfYourOwn runs the program on real servers: what differs is the configuration.
func TestOnADatabaseOfYourOwn(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(testing.TB) string{"PostgreSQL": servers.Postgres, "MySQL": servers.MySQL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, data := open(t), t.TempDir()
			s := serve(t, data, "--store", store)
			ada := s.member(t, "Ada")
			c := s.connect(t, ada.AccessToken, nil)
			_, err := c.Join(t.Context(), "lobby")
			require.NoError(t, err)
			for i := range 15 {
				m, err := c.Send(t.Context(), "lobby", fmt.Sprint("message ", i+1))
				require.NoError(t, err)
				assert.EqualValues(t, i+1, m.Seq)
			}
			must(t, http.StatusOK, http.MethodGet, s.url+"/readyz", "", nil)
			s.kill()

			again := serve(t, data, "--store", store)
			c = again.connect(t, again.signIn(t, "ada@example.com").AccessToken, nil)
			_, err = c.Join(t.Context(), "lobby")
			require.NoError(t, err)
			messages, err := stored(t.Context(), c, "lobby", 15)
			require.NoError(t, err)
			require.Len(t, messages, 15)
			assert.Equal(t, "message 15", messages[14].Text)
			again.sound(t)
			assert.NoFileExists(t, data+"/parley.db")
		})
	}
}

func TestADatabaseThatCannotBeUsedEndsTheStart(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(testing.TB) string{"PostgreSQL": servers.Postgres, "MySQL": servers.MySQL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := open(t)
			scheme, rest, _ := strings.Cut(store, "://")
			credentials, place, _ := strings.Cut(rest, "@")
			user, _, _ := strings.Cut(credentials, ":")
			host, _, _ := strings.Cut(place, "/")
			for what, url := range map[string]string{
				"wrong password": scheme + "://nobody:hunter2@" + place,
				"no server":      scheme + "://" + user + ":hunter2@" + freeAddress(t) + "/parley",
				"no database":    scheme + "://" + credentials + "@" + host + "/there_is_none",
			} {
				line := execute(t, []string{"PARLEY_STORE=" + url}, "--data", t.TempDir(), "--listen", "127.0.0.1:0").refused(t)
				assert.NotContains(t, line, "hunter2", what)
			}
		})
	}
}
