package mongo_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/FerretDB/FerretDB/ferretdb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/mongostore"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/testkit/local"
)

// FerretDB refuses validators: the migration says so, once, and goes on.
func TestValidatorsAreRefused(t *testing.T) {
	url := database(t)
	var log strings.Builder
	s := at(t, url, &log)
	for range 3 {
		require.NoError(t, s.Migrate(t.Context()))
	}
	assert.Equal(t, 1, strings.Count(log.String(), "keeps no validators"), log.String())
	assert.Contains(t, log.String(), "not implemented", "the log has the server's reason")
	kept, err := s.Validators(t.Context())
	require.NoError(t, err)
	assert.False(t, kept)
	_, err = s.Rooms().Ensure(t.Context(), chat.Room{Name: "r", CreatedBy: "u"})
	require.NoError(t, err)
}

func TestManyMigrateAtOnce(t *testing.T) {
	const processes = 3
	url := database(t)
	var stores []*mongostore.Store
	for range processes {
		stores = append(stores, at(t, url, new(strings.Builder)))
	}
	start := make(chan struct{})
	var wg sync.WaitGroup
	for _, s := range stores {
		wg.Go(func() {
			<-start
			assert.NoError(t, s.Migrate(t.Context()))
		})
	}
	close(start)
	wg.Wait()
	for _, s := range stores {
		require.NoError(t, s.Check(t.Context()))
	}
}

// Several nodes write to one room. Nothing but unique indexes keeps its numbers without gaps and its messages single.
func TestStoresAppendTogether(t *testing.T) {
	url := database(t)
	var stores []*mongostore.Store
	for range 3 {
		s := at(t, url, new(strings.Builder))
		require.NoError(t, s.Migrate(t.Context()))
		stores = append(stores, s)
	}
	const calls = 10
	say := func(client string, room string) chat.Message {
		return chat.Message{Room: room, ID: room + client, ClientID: client, Author: chat.Author{ID: "u"}, Text: "x", At: time.Now()}
	}
	var wg sync.WaitGroup
	for i, s := range stores {
		wg.Go(func() {
			for c := range calls {
				own := fmt.Sprintf("%d-%d", i, c)
				shared := fmt.Sprint(c)
				_, err := s.Messages().Append(t.Context(), []chat.Message{say(own, "a"), say(shared, "b"), say(shared, "a"), say(own, "b")})
				if !assert.NoError(t, err) {
					return
				}
			}
		})
	}
	wg.Wait()
	for _, room := range []string{"a", "b"} {
		all, err := stores[0].Messages().List(t.Context(), room, chat.Range{Limit: 1000})
		require.NoError(t, err)
		require.Len(t, all, len(stores)*calls+calls)
		seen := map[string]bool{}
		for i, m := range all {
			require.EqualValues(t, i+1, m.Seq, "a gap in %s", room)
			require.False(t, seen[m.ClientID], "%s is there twice", m.ClientID)
			seen[m.ClientID] = true
		}
	}
}

// FerretDB as it is embedded here has no users: it refuses everybody who wants to prove who they are.
func TestServerRefusesTheUser(t *testing.T) {
	url := strings.Replace(database(t), "mongodb://", "mongodb://ada:hidden@", 1)
	_, err := mongostore.Open(t.Context(), url, mongostore.Config{})
	require.ErrorIs(t, err, mongostore.ErrCredentials)
	assert.NotContains(t, err.Error(), "hidden")
	assert.NotContains(t, err.Error(), "\n")
}

// certificate writes a certificate for 127.0.0.1 that is its own authority, and its key.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	chain, private, err := local.Certificate(1)
	require.NoError(t, err)
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(t, os.WriteFile(cert, chain, 0o600))
	require.NoError(t, os.WriteFile(key, private, 0o600))
	return cert, key
}

func TestServerWithTLS(t *testing.T) {
	cert, key := certificate(t)
	url, stop, err := start(ferretdb.ListenerConfig{TLS: "127.0.0.1:0", TLSCertFile: cert, TLSKeyFile: key})
	require.NoError(t, err)
	t.Cleanup(stop)
	host := strings.TrimSuffix(strings.TrimPrefix(url, "mongodb://"), "/?tls=true")
	short := mongostore.Config{ConnectTimeout: time.Second}

	_, err = mongostore.Open(t.Context(), "mongodb://"+host+"/parley?tls=true", short)
	require.ErrorIs(t, err, mongostore.ErrTLS, "nobody vouches for the certificate")
	assert.NotContains(t, err.Error(), "\n")
	_, err = mongostore.Open(t.Context(), "mongodb://"+host+"/parley", short)
	require.ErrorIs(t, err, mongostore.ErrUnreachable, "it does not answer who comes without TLS")
	s, err := mongostore.Open(t.Context(), "mongodb://"+host+"/parley?tls=true&tlsCAFile="+cert, short)
	require.NoError(t, err)
	require.NoError(t, s.Migrate(t.Context()))
	require.NoError(t, s.Close())
}
