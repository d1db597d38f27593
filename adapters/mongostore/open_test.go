package mongostore_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/parley-chat/parley/adapters/mongostore"
	"github.com/parley-chat/parley/core/fault"
)

func TestOpeningAServerThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and says nothing
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, silent.Close()) })
	for name, host := range map[string]string{"no answer": silent.Addr().String(), "nobody there": "127.0.0.1:1"} {
		_, err := mongostore.Open(t.Context(), "mongodb://ada:hidden@"+host+"/parley", mongostore.Config{ConnectTimeout: 200 * time.Millisecond})
		require.ErrorIs(t, err, mongostore.ErrUnreachable, name)
		require.ErrorIs(t, err, fault.Unavailable, name)
		assert.Contains(t, err.Error(), host+"/parley", name)
		assert.NotContains(t, err.Error(), "hidden", name)
		assert.NotContains(t, err.Error(), "\n", name)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = mongostore.Open(gone, "mongodb://127.0.0.1:1/parley", mongostore.Config{})
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorIs(t, err, context.Canceled)
}

func TestURLsAreChecked(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ url, want string }{
		{"", "start with"},
		{"://hidden", "start with"},
		{"http://user:hidden@host/db", "start with"},
		{"mongodb://user:hidden@/db", "no host"},
		{"mongodb://user:hidden@host", "name a database"},
		{"mongodb://user:hidden@host/?tls=true", "name a database"},
		{"mongodb://user:hid%zzden@host/db", "percent-encoded"},
		{"mongodb://user:hid@den@host/db", "percent-encoded"},
		{"mongodb://user:hid:den@host/db", "percent-encoded"},
		{"mongodb://user:hid/den@host/db", "percent-encoded"},
		{"mongodb://user:hid?den@host/db", "not"}, // whatever is wrong with it
		{"mongodb://user:hidden@host:port/db", "not valid"},
		{"mongodb://user:hidden@host/db?tls=maybe", "not valid"},
		{"mongodb://user:hidden@host/db?authMechanism=hidden", "not valid"},
		{"mongodb://host/db?w=0", ""}, // Config's write concern goes before it
	} {
		_, err := mongostore.Open(t.Context(), test.url, mongostore.Config{ConnectTimeout: time.Millisecond})
		require.Error(t, err, test.url)
		assert.ErrorContains(t, err, test.want, test.url)
		for _, secret := range []string{"hidden", "hid%zzden", "den@host", "hid@", "hid:", "hid/", "hid?"} {
			assert.NotContains(t, err.Error(), secret, test.url)
		}
		assert.NotContains(t, err.Error(), "\n", test.url)
	}
}

func TestConfigIsCheckedAtOnce(t *testing.T) {
	t.Parallel()
	bad := mongostore.Config{Connections: -1, ConnectTimeout: -1, WriteConcern: writeconcern.Unacknowledged()}
	_, err := mongostore.Open(t.Context(), "mongodb://host/db", bad)
	for _, field := range []string{"Connections", "ConnectTimeout", "WriteConcern"} {
		assert.ErrorContains(t, err, field)
	}
	_, err = mongostore.New(nil, mongostore.Config{})
	require.ErrorContains(t, err, "the database is missing")
	s := open(t)
	_, err = mongostore.New(mongostore.Database(s), bad)
	assert.ErrorContains(t, err, "Connections")
	require.NoError(t, s.Ping(t.Context()))
}
