package faults_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/apps/internal/conformance/mailserver"
	"github.com/parley-chat/parley/apps/internal/conformance/stack"
	"github.com/parley-chat/parley/testkit/servers"
	"github.com/parley-chat/parley/testkit/wsraw"
)

// pair is two nodes of the all-in-one on one database and one Redis, with the same keys.
func pair(t *testing.T, redis string, more ...string) [2]*world {
	t.Helper()
	mails := mailserver.Start(t)
	env := []string{"PARLEY_STORE=" + servers.Postgres(t), "PARLEY_REDIS=" + redis, "PARLEY_REDIS_PREFIX=" + name() + ":"}
	env = append(env, more...)
	var nodes [2]*world
	data := [2]string{t.TempDir(), t.TempDir()}
	for i := range nodes {
		nodes[i] = alone(t, mails, append(env, fmt.Sprintf("PARLEY_NODE=%d", i), "PARLEY_DATA="+data[i])...)
		if i == 0 {
			keys, err := os.ReadFile(filepath.Join(data[0], "keys.json"))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(data[1], "keys.json"), keys, 0o600))
		}
	}
	return nodes
}

// present is a client in the room, and what it was told of who comes and goes.
type present struct {
	*wsclient.Client
	mu   sync.Mutex
	told []wsclient.Event
}

func enter(t *testing.T, socket, token string) *present {
	t.Helper()
	p := &present{}
	var err error
	p.Client, err = wsclient.Dial(t.Context(), wsclient.Config{
		Inline: true, Rate: -1,
		URL: socket, MaxPause: time.Second, Token: func(context.Context) (string, error) { return token, nil },
		Handle: func(e wsclient.Event) {
			if e.Kind == wsclient.EventJoined || e.Kind == wsclient.EventLeft {
				p.mu.Lock()
				p.told = append(p.told, e)
				p.mu.Unlock()
			}
		},
	})
	require.NoError(t, err)
	t.Cleanup(p.Close)
	_, err = p.Join(t.Context(), room)
	require.NoError(t, err)
	return p
}

// gone counts what it was told of who has left.
func (p *present) gone() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.told {
		if e.Kind == wsclient.EventLeft {
			n++
		}
	}
	return n
}

// count is how many users the server says are in the room.
func (p *present) count(ctx context.Context) int {
	who, err := p.Presence(ctx, room)
	if err != nil {
		return -1
	}
	return who.Count
}

// Redis forgets everything. Whoever is connected is present again within a lease, and messages go on from node to node.
func TestRedisThatForgot(t *testing.T) {
	t.Parallel()
	redis := servers.StartRedis(t, servers.RedisOptions{})
	nodes := pair(t, redis.URL)
	ada := enter(t, nodes[0].Auth.SocketURL(), nodes[0].person(talker(0)))
	bob := enter(t, nodes[1].Auth.SocketURL(), nodes[1].person(talker(1)))
	comes(t, "both are present", func(ctx context.Context) bool { return ada.count(ctx) == 2 && bob.count(ctx) == 2 })
	redis.Flush(t)
	require.Zero(t, ada.count(t.Context()), "nothing was forgotten")
	after := comes(t, "both are present again", func(ctx context.Context) bool { return ada.count(ctx) == 2 && bob.count(ctx) == 2 })
	sent, err := ada.Send(t.Context(), room, "still here")
	require.NoError(t, err)
	comes(t, "the other node has the message", func(ctx context.Context) bool {
		page, err := bob.History(ctx, room, wsclient.Range{Limit: 10})
		return err == nil && slices.ContainsFunc(page.Messages, func(m wsclient.Message) bool { return m.ID == sent.ID })
	})
	t.Logf("both were present again after %v", after.Round(time.Millisecond))
}

// Redis forgets everything, or is restarted without what it had. A ticket that was spent before opens no second socket, at
// whichever node; one that is made afterwards opens one. Who guessed has no new allowance at the node that counted it.
func TestRedisThatForgotForgivesNothing(t *testing.T) {
	t.Parallel()
	redis := servers.StartRedis(t, servers.RedisOptions{})
	const guesses = 5
	nodes := pair(t, redis.URL, fmt.Sprint("PARLEY_SIGNIN_BURST=", guesses), "PARLEY_TICKET_BURST=100000")
	token := nodes[0].person(talker(0))
	ticket := func() string {
		a, err := nodes[0].do(t.Context(), nodes[0].Auth.URL, "/auth/socket-ticket", map[string]any{}, token)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, a.status, "%s", a.body)
		var given struct{ Ticket string }
		require.NoError(t, json.Unmarshal(a.body, &given))
		return given.Ticket
	}
	// opens reports whether a ticket opens a socket, and waits while that cannot be known.
	opens := func(node *world, ticket string) (opened bool) {
		comes(t, "a ticket is answered", func(ctx context.Context) bool {
			c, err := wsraw.Dial(ctx, node.Auth.SocketURL()+"?ticket="+ticket, nil, nil)
			var refused *wsraw.HandshakeError
			if errors.As(err, &refused) {
				return refused.Status == http.StatusUnauthorized
			}
			require.NoError(t, err)
			opened = true
			return c.Close() == nil
		})
		return opened
	}
	// guess signs in with a wrong password until that is no longer allowed, and returns how often it was.
	guess := func() (n int) {
		for ; ; n++ {
			a, err := nodes[0].do(t.Context(), nodes[0].Auth.URL, "/auth/signin", map[string]any{"email": talker(9), "password": "guessed by somebody"})
			require.NoError(t, err)
			if a.status == http.StatusTooManyRequests {
				return n
			}
			require.Equal(t, http.StatusUnauthorized, a.status, "%s", a.body)
		}
	}
	require.GreaterOrEqual(t, guess(), guesses)
	require.True(t, opens(nodes[1], ticket()))
	for what, lose := range map[string]func(){
		"flushed": func() { redis.Flush(t) }, "restarted": func() { redis.Kill(t); redis.Restart(t) },
	} {
		spent := ticket()
		require.True(t, opens(nodes[0], spent))
		require.False(t, opens(nodes[1], spent))
		lose()
		for _, node := range nodes {
			require.False(t, opens(node, spent), "%s: a ticket opens a second socket", what)
		}
		comes(t, "tickets that are made afterwards open sockets", func(context.Context) bool { return opens(nodes[1], ticket()) })
		require.Less(t, guess(), guesses, "%s: all guesses are allowed anew", what)
	}
}

// Redis becomes a replica of another, which takes no writes. /readyz names it, and is well again when it is demoted no more.
func TestRedisThatTakesNoWrites(t *testing.T) {
	t.Parallel()
	redis, other := servers.StartRedis(t, servers.RedisOptions{}), servers.StartRedis(t, servers.RedisOptions{})
	nodes := pair(t, redis.URL)
	redis.Do(t, "REPLICAOF "+strings.Replace(other.Addr, ":", " ", 1))
	named := nodes[0].says("redis")
	_, accepted := nodes[0].signUp()
	require.True(t, accepted, "accounts need no Redis")
	redis.Do(t, "REPLICAOF NO ONE")
	again := nodes[0].says()
	ada := enter(t, nodes[0].Auth.SocketURL(), nodes[0].person(talker(0)))
	comes(t, "somebody is present", func(ctx context.Context) bool { return ada.count(ctx) == 1 })
	t.Logf("/readyz named it after %v, and was well after %v", named.Round(time.Millisecond), again.Round(time.Millisecond))
}

// The URL names one server of a cluster of three. Rooms reach the other node all the same.
func TestRedisClusterByOneOfItsServers(t *testing.T) {
	t.Parallel()
	cluster := servers.StartRedisCluster(t, 3)
	nodes := pair(t, "redis://"+cluster[1].Addr)
	ada := enter(t, nodes[0].Auth.SocketURL(), nodes[0].person(talker(0)))
	var mu sync.Mutex
	heard := map[string]int{}
	token := nodes[1].person(talker(1))
	bob, err := wsclient.Dial(t.Context(), wsclient.Config{
		Inline: true, Rate: -1,
		URL: nodes[1].Auth.SocketURL(), Token: func(context.Context) (string, error) { return token, nil },
		Handle: func(e wsclient.Event) {
			if e.Kind == wsclient.EventMessage {
				mu.Lock()
				heard[e.Room]++
				mu.Unlock()
			}
		},
	})
	require.NoError(t, err)
	t.Cleanup(bob.Close)
	const rooms = 12 // so that every server of the cluster has some
	for i := range rooms {
		r := fmt.Sprint("room-", i)
		_, err := bob.Join(t.Context(), r)
		require.NoError(t, err)
		_, err = ada.Join(t.Context(), r)
		require.NoError(t, err)
		_, err = ada.Send(t.Context(), r, "over there?")
		require.NoError(t, err)
	}
	comes(t, "every room was heard on the other node", func(context.Context) bool {
		mu.Lock()
		defer mu.Unlock()
		return len(heard) == rooms
	})
}

var address = regexp.MustCompile(`http://[0-9.]+:[0-9]+`)

// A node is killed. Whoever was connected to it alone is absent when its lease is over, and the others are told once that they left.
func TestNodeThatIsKilled(t *testing.T) {
	t.Parallel()
	redis, mails := servers.StartRedis(t, servers.RedisOptions{}), mailserver.Start(t)
	env := []string{"PARLEY_STORE=" + servers.Postgres(t), "PARLEY_REDIS=" + redis.URL, "PARLEY_REDIS_PREFIX=" + name() + ":"}
	survivor := alone(t, mails, append(env, "PARLEY_NODE=survivor")...)
	ada := enter(t, survivor.Auth.SocketURL(), survivor.person(talker(0)))

	victim := exec.Command(os.Args[0])
	victim.Env = append(os.Environ(), runVariable+"=1", "PARLEY_LISTEN=127.0.0.1:0", "PARLEY_ADMIN_LISTEN=off", "PARLEY_DATA="+t.TempDir(), "PARLEY_NODE=victim",
		"PARLEY_MAIL_SENDER="+mails.URL(), "PARLEY_LOG_FORMAT=json")
	victim.Env = append(victim.Env, env...)
	victim.Stderr = os.Stderr
	said, err := victim.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, victim.Start())
	ended := make(chan struct{})
	t.Cleanup(func() { _ = victim.Process.Kill(); <-ended })
	found := make(chan string, 1)
	go func() {
		defer close(ended)
		buf, text := make([]byte, 4096), ""
		for {
			n, err := said.Read(buf)
			text += string(buf[:n])
			if at := address.FindString(text); at != "" {
				select {
				case found <- at:
				default:
				}
			}
			if err != nil {
				break
			}
		}
		_ = victim.Wait()
	}()
	var url string
	select {
	case url = <-found:
	case <-time.After(patience):
		t.Fatal("the second node did not start")
	}
	node := &world{t: t, Services: &stack.Services{Auth: &stack.Program{URL: url}}, mails: mails, ctx: t.Context(), signed: map[string]bool{}}
	node.Auth.AwaitReady(t)
	ghost := enter(t, node.Auth.SocketURL(), node.person(talker(1)))
	comes(t, "both are present", func(ctx context.Context) bool { return ada.count(ctx) == 2 && ghost.count(ctx) == 2 })

	require.NoError(t, victim.Process.Kill())
	ghost.Close()
	absent := comes(t, "one is present", func(ctx context.Context) bool { return ada.count(ctx) == 1 })
	t.Logf("who went with the node was absent after %v", absent.Round(time.Second))
	const most = 3 * patience // a lease, and what the survivor must have renewed before it may speak for others
	ctx, cancel := context.WithTimeout(t.Context(), most)
	defer cancel()
	began := time.Now()
	for ada.gone() == 0 {
		select {
		case <-time.After(aWhile):
		case <-ctx.Done():
			t.Fatal("nobody says that who went with the node has left")
		}
	}
	t.Logf("its end was told %v later", time.Since(began).Round(time.Second))
	require.Equal(t, 1, ada.gone(), "it is told once")
}
