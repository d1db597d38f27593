package faults_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/testkit/servers"
	"github.com/parley-chat/parley/testkit/wsraw"
)

// admin is a client of Kafka's operator.
func (w *world) admin() (sarama.Client, sarama.ClusterAdmin) {
	s := sarama.NewConfig()
	s.Net.SASL.Enable, s.Net.SASL.User, s.Net.SASL.Password = true, w.kafka.User, w.kafka.Password
	client, err := sarama.NewClient([]string{w.kafka.Address}, s)
	require.NoError(w.t, err)
	admin, err := sarama.NewClusterAdminFromClient(client)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { require.NoError(w.t, admin.Close()) })
	return client, admin
}

// guest is somebody new with a socket at a node.
func (w *world) guest(n int) (token string, socket *wsraw.Conn) {
	token = w.person(fmt.Sprintf("guest%d@parley.test", n))
	socket, err := wsraw.Dial(w.ctx, w.Sockets[n%2].SocketURL(), http.Header{"Authorization": {"Bearer " + token}}, nil)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = socket.Close() })
	return token, socket
}

func (w *world) signOut(token string) {
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.Auth.URL+"/auth/signout", nil)
	require.NoError(w.t, err)
	r.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(r)
	require.NoError(w.t, err)
	require.NoError(w.t, res.Body.Close())
	require.Equal(w.t, http.StatusNoContent, res.StatusCode)
}

// closed waits until the server closes the socket because its session has ended.
func (w *world) closed(socket *wsraw.Conn) {
	for {
		f, err := socket.Read()
		require.NoError(w.t, err)
		if f.Opcode == wsraw.OpClose {
			require.EqualValues(w.t, 4401, int(f.Payload[0])<<8|int(f.Payload[1]))
			return
		}
	}
}

// TestKafkasTopicsChangeUnderThePrograms: partitions are added, and a topic is deleted and comes back. Sign-outs reach
// the nodes, and mails go out, through whatever is there.
func TestKafkasTopicsChangeUnderThePrograms(t *testing.T) {
	t.Parallel()
	db := servers.StartPostgres(t)
	for _, service := range everybody {
		create(t, "pgx", db.URL, "CREATE DATABASE parley_"+string(service))
	}
	w, _ := newWorld(t, func(service config.Program) string { return inDatabase(t, db.URL, "parley_"+string(service)) })
	w.ctx, w.stop = context.WithTimeout(context.Background(), 10*patience)
	defer w.stop()
	client, admin := w.admin()
	const before, after = 2, 12
	for _, topic := range []string{"session", "mail"} {
		require.NoError(t, admin.CreatePartitions(topic, after, nil, false))
	}
	added := time.Now()

	// People sign up and out until something of theirs was on a partition that was added, of each topic.
	n := 0
	written := func(topic string) bool {
		if client.RefreshMetadata(topic) != nil {
			return false
		}
		for p := int32(before); p < after; p++ {
			// A leader is named before it knows.
			if next, err := client.GetOffset(topic, p, sarama.OffsetNewest); err == nil && next > 0 {
				return true
			}
		}
		return false
	}
	for ; !written("session") || !written("mail"); n++ {
		require.NoError(t, w.ctx.Err())
		token, socket := w.guest(n) // whose mail has come
		w.signOut(token)
		w.closed(socket)
	}
	t.Logf("%d people had their mails, and were signed out everywhere, within %v of the new partitions", n, time.Since(added).Round(time.Millisecond))

	token, socket := w.guest(n)
	require.NoError(t, admin.DeleteTopic("session"))
	w.signOut(token)
	for i := range 3 {
		began := time.Now()
		w.person(fmt.Sprintf("meanwhile%d@parley.test", i))
		t.Logf("without the topic session, a mail was there after %v", time.Since(began).Round(time.Millisecond))
	}
	for {
		err := admin.CreateTopic("session", &sarama.TopicDetail{NumPartitions: 3, ReplicationFactor: 1}, false)
		if err == nil {
			break
		}
		require.NoError(t, w.ctx.Err(), "%v", err) // it is still being deleted
	}
	back := time.Now()
	w.closed(socket)
	t.Logf("the sign-out was heard %v after the topic was back", time.Since(back).Round(time.Millisecond))
}
