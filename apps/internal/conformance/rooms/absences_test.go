package rooms_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/adapters/nbiows"
	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
)

var (
	absences = flag.Int("absences", 40, "how many times TestAbsences keeps a client away, on each store")
	changes  = flag.Int("absences.changes", 60, "the fewest edits, deletions and reactions of its room during each absence")
	seed     = flag.Uint64("absences.seed", 1, "what TestAbsences draws by")
)

// patience is how long a test waits for what should take moments.
const patience = 100 * time.Second

// anybody is an Authenticator: the token is the user's id.
type anybody struct{}

func (anybody) Token(_ context.Context, token string) (user.Identity, error) {
	return user.Identity{UserID: user.ID(token), Name: "User " + token}, nil
}

func (a anybody) Ticket(ctx context.Context, ticket string) (user.Identity, error) {
	return a.Token(ctx, ticket)
}

// nodes are two nodes on one store, with one cache, behind one address that leads to either in turn.
type nodes struct {
	url   string
	chats [2]*chat.Service
	ports parley.Ports
}

func startNodes(t *testing.T, p parley.Ports) *nodes {
	t.Helper()
	n := &nodes{ports: p}
	cache, presence, fanout := memory.NewRecentCache(memory.RecentCacheConfig{}), memory.NewPresence(), memory.NewFanout()
	var sockets [2]http.Handler
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(func() { stop(); running.Wait() })
	for i := range n.chats {
		service, err := chat.New(chat.Config{
			Store: p.Messages, Rooms: p.Rooms, Members: p.Members, Marks: p.Marks, Roles: p.Roles, Restrictions: p.Restrictions, Cache: cache, CommitTimeout: patience,
		})
		require.NoError(t, err)
		hub, err := realtime.NewHub(realtime.HubConfig{Chat: service, Fanout: fanout.Node(), Presence: presence, Rate: -1, Node: fmt.Sprint("node-", i+1)})
		require.NoError(t, err)
		handshake, err := socket.NewHandshake(socket.HandshakeConfig{Authenticator: anybody{}, Draining: hub.Draining})
		require.NoError(t, err)
		server, err := nbiows.New(nbiows.Config{Handshake: handshake, Acceptor: hub})
		require.NoError(t, err)
		for _, run := range []func(context.Context) error{service.Run, hub.Run, server.Run} {
			running.Go(func() { assert.NoError(t, run(ctx)) })
		}
		n.chats[i], sockets[i] = service, server
	}
	var turn atomic.Uint64
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { sockets[turn.Add(1)%2].ServeHTTP(w, r) }))
	t.Cleanup(web.Close)
	n.url = "ws" + strings.TrimPrefix(web.URL, "http") + "/socket"
	return n
}

// onlooker is a client that is kept away, and what it has been told of a room.
type onlooker struct {
	client *wsclient.Client

	mu   sync.Mutex
	view map[uint64]string // by Seq
	lost bool
	told chan struct{} // has an item if there was something since it was read
	gate chan struct{} // closed while it may connect

	// Of the one who changes messages: how many changes there were when the client was cut off, -1 before, and how many there are to be when it
	// comes back.
	cut, back int
}

// shown is a message as it is compared.
func shown(seq, rev uint64, text string, edited, deleted time.Time, reactions []string) string {
	return fmt.Sprintf("%d rev %d %q edited %v deleted %v %s", seq, rev, text, edited.UTC().UnixMicro(), deleted.UTC().UnixMicro(), strings.Join(reactions, ", "))
}

// shownStored is shown for a message of the store.
func shownStored(m chat.Message) string {
	var reactions []string
	for _, r := range m.Reactions {
		reactions = append(reactions, fmt.Sprint(r.Key, r.Count, r.Users))
	}
	return shown(m.Seq, m.Rev, m.Text, m.EditedAt, m.DeletedAt, reactions)
}

func (o *onlooker) handle(e wsclient.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch e.Kind {
	case wsclient.EventMessage, wsclient.EventChanged:
		m := e.Message
		var reactions []string
		for _, r := range m.Reactions {
			reactions = append(reactions, fmt.Sprint(r.Key, r.Count, r.Users))
		}
		o.view[m.Seq] = shown(m.Seq, m.Rev, m.Text, m.EditedAt, m.DeletedAt, reactions)
	case wsclient.EventResync:
		o.lost = o.lost || e.Lost
	default:
		return
	}
	select {
	case o.told <- struct{}{}:
	default:
	}
}

// token waits while the client is to stay away.
func (o *onlooker) token(ctx context.Context, id string) (string, error) {
	o.mu.Lock()
	gate := o.gate
	o.mu.Unlock()
	select {
	case <-gate:
		return id, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (o *onlooker) leaves() {
	o.mu.Lock()
	o.gate = make(chan struct{})
	o.mu.Unlock()
	o.client.Drop()
}

// differs returns where the view is not what is stored.
func (o *onlooker) differs(want []string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.lost {
		return "the client was told that messages are gone"
	}
	if len(o.view) != len(want) {
		return fmt.Sprintf("it shows %d messages, and %d are stored", len(o.view), len(want))
	}
	for i, m := range want {
		if got := o.view[uint64(i+1)]; got != m {
			return fmt.Sprintf("it shows %s, and stored is %s", got, m)
		}
	}
	return ""
}

// TestAbsences keeps clients away while the messages of their room are edited, deleted and reacted to: what each shows is what is stored when it is
// back, on whichever node, while others go on; and what is stored is what the last change of each message was answered with.
func TestAbsences(t *testing.T) {
	onStores(t, func(t *testing.T, s store) {
		n := startNodes(t, s.open(t))
		dice := rand.New(rand.NewPCG(*seed, 11))
		var done, applied, sent int
		for round := 0; done < *absences/s.slow || round == 0; round++ {
			crowd := min(50, max(1, *absences/s.slow-done))
			did, said := n.absences(t, dice, fmt.Sprint("room ", round), crowd, s.slow)
			done, applied, sent = done+crowd, applied+did, sent+said
			if t.Failed() {
				t.FailNow()
			}
		}
		t.Logf("%d absences of at least %d changes, %d messages and %d changes in all: 0 differences", done, max(1, *changes/s.slow), sent, applied)
	})
}

// absences lets a crowd be away from a room, and returns how many changes there were and how many messages. On a slow store there are fewer.
func (n *nodes) absences(t *testing.T, dice *rand.Rand, room string, crowd, slow int) (applied, sent int) {
	least, together := max(1, *changes/slow), max(5, 40/slow)
	ctx, cancel := context.WithTimeout(t.Context(), 10*patience)
	defer cancel()
	var last atomic.Uint64
	var mu sync.Mutex
	acknowledged := map[uint64]chat.Message{} // what the last change of each message was answered with, by Seq
	say := func(number int) error {
		got, err := n.chats[number%2].Send(ctx, chat.Draft{Room: room, Author: chat.Author{ID: "author", Name: "Author"}, Text: fmt.Sprint("message ", number)})
		if err == nil {
			for was := last.Load(); was < got.Seq && !last.CompareAndSwap(was, got.Seq); was = last.Load() {
			}
		}
		return err
	}
	all := make([]*onlooker, crowd)
	t.Cleanup(func() {
		for _, o := range all {
			if o != nil {
				o.client.Close()
			}
		}
	})
	var ready sync.WaitGroup
	for i := range all {
		o := &onlooker{view: map[uint64]string{}, told: make(chan struct{}, 1), gate: make(chan struct{}), cut: -1}
		close(o.gate)
		id := fmt.Sprint("user-", i)
		var err error
		o.client, err = wsclient.Dial(ctx, wsclient.Config{
			URL: n.url, Rate: -1, Handle: o.handle, MinPause: time.Millisecond, MaxPause: 50 * time.Millisecond, AckTimeout: patience,
			Token: func(ctx context.Context) (string, error) { return o.token(ctx, id) },
		})
		require.NoError(t, err)
		all[i] = o
		ready.Go(func() {
			_, err := o.client.JoinSince(ctx, room, 0)
			assert.NoError(t, err)
		})
	}
	ready.Wait()
	for range 10 + dice.IntN(300)/slow { // also more than a page, and than the cache keeps
		require.NoError(t, say(sent))
		sent++
	}

	// Who is cut off when, and for how long, is counted in changes, since what happens at once has no other order.
	for _, o := range all {
		o.back = dice.IntN(3 * together) // when it goes
	}
	for away := crowd; away > 0 || dice.IntN(4) > 0; {
		require.NoError(t, ctx.Err())
		var step sync.WaitGroup
		var going []*onlooker
		for _, o := range all {
			switch {
			case o.cut < 0 && applied >= o.back:
				o.cut = 0
				going = append(going, o)
				step.Go(o.leaves)
			case o.cut > 0 && o.back > 0 && applied >= o.back:
				o.back = 0
				away--
				step.Go(func() { close(o.gate) })
			}
		}
		var changed, messages atomic.Int64
		for i := range together {
			c := chat.Change{Kind: chat.Edit, Room: room, Seq: 1 + dice.Uint64N(last.Load()), By: chat.Author{ID: user.ID(fmt.Sprint("user-", dice.IntN(30)))}, Any: true}
			number := dice.Int()
			switch n := dice.IntN(100); {
			case n < 8:
				step.Go(func() { assert.NoError(t, say(number)); messages.Add(1) })
				continue
			case n < 45:
				c.Text = fmt.Sprint("edited ", number)
			case n < 49:
				c.Kind = chat.Delete
			case n < 85:
				c.Kind, c.Key = chat.React, []string{"👍", "👋", "❤", "no"}[number%4]
			default:
				c.Kind, c.Key = chat.Unreact, []string{"👍", "👋", "❤", "no"}[number%4]
			}
			step.Go(func() {
				got, err := n.chats[i%2].Change(ctx, c)
				switch kind := fault.KindOf(err); {
				case err == nil && !got.Repeated:
					changed.Add(1)
					mu.Lock()
					if got.Rev > acknowledged[got.Seq].Rev {
						acknowledged[got.Seq] = got.Message
					}
					mu.Unlock()
				case err != nil && (kind == fault.Internal || kind == fault.Unavailable): // others refuse what cannot be done to the message
					assert.NoError(t, err)
				}
			})
		}
		step.Wait()
		applied, sent = applied+int(changed.Load()), sent+int(messages.Load())
		for _, o := range going { // it was away at the latest from here on
			o.cut, o.back = max(applied, 1), applied+least+dice.IntN(2*together)
		}
	}

	var want []string
	for after := uint64(0); ; {
		page, err := n.ports.Messages.List(ctx, room, chat.Range{After: after, Limit: 500})
		require.NoError(t, err)
		if len(page) == 0 {
			break
		}
		for _, m := range page {
			want = append(want, shownStored(m))
			if told, changed := acknowledged[m.Seq]; changed {
				require.Equal(t, shownStored(told), shownStored(m), "what was acknowledged is stored")
			}
			after = m.Seq
		}
	}
	require.Len(t, want, sent)
	for i, o := range slices.Backward(all) {
		for o.differs(want) != "" {
			select {
			case <-o.told:
				continue
			case <-ctx.Done():
			case <-time.After(patience):
			}
			t.Errorf("%s, client %d, away from change %d on: %s", room, i, o.cut, o.differs(want))
			return applied, sent
		}
	}
	for _, o := range all {
		o.client.Close()
	}
	return applied, sent
}
