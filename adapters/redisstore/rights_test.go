package redisstore_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/adapters/redisstore"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
	"github.com/parley-chat/parley/testkit/servers"
)

// told is a connection that keeps what it is told of roles.
type told struct{ roles chan string }

func (c told) Send(f *socket.Frame) error {
	for m := range f.Messages() {
		var v struct {
			Event string
			Data  struct{ Role *string }
		}
		if err := json.Unmarshal(m.Payload(), &v); err != nil {
			return err
		}
		if v.Event != "membership" {
			continue
		}
		role := ""
		if v.Data.Role != nil {
			role = *v.Data.Role
		}
		c.roles <- role
	}
	return nil
}
func (told) Queued() int       { return 0 }
func (told) Close(int, string) {}

// TestRolesAreHeardOnEveryNode: what a user is in a room is told to a connection of theirs that is in no room, on another node, also after the servers were away. The nodes
// do not look into the store by themselves.
func TestRolesAreHeardOnEveryNode(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(t *testing.T) []*servers.RedisServer{
		"single":           single,
		"cluster of three": clusterOfThree,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			redis := begin(t)
			store, db := fresh(t, dial(t, redis[0].URL)), memory.NewStore()
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			defer wg.Wait()
			defer cancel()
			var rooms [2]*chat.Service
			var hubs [2]*realtime.Hub
			for n := range hubs {
				var err error
				rooms[n], err = chat.New(chat.Config{
					Store: db.Messages, Rooms: db.Rooms, Members: db.Members, Marks: db.Members, Restrictions: db.Restrictions, Roles: db.Roles,
					Cache: memory.NewRecentCache(memory.RecentCacheConfig{}),
				})
				require.NoError(t, err)
				hubs[n], err = realtime.NewHub(realtime.HubConfig{
					Chat: rooms[n], Fanout: store.Fanout(redisstore.FanoutConfig{}), Presence: store.Presence(), Node: fmt.Sprint("node", n), RestrictionsEvery: time.Hour,
				})
				require.NoError(t, err)
				wg.Go(func() { assert.NoError(t, rooms[n].Run(ctx)) })
				wg.Go(func() { assert.NoError(t, hubs[n].Run(ctx)) })
			}
			eve := told{make(chan string, 1<<10)}
			_, err := hubs[1].Accept(eve, socket.Hello{Identity: user.Identity{UserID: "eve", Name: "Eve"}})
			require.NoError(t, err)
			ada := chat.Actor{Author: chat.Author{ID: "ada", Name: "Ada"}}
			private := chat.Private
			_, err = rooms[0].CreateRoom(ctx, ada, "den", chat.Details{Kind: &private})
			require.NoError(t, err)
			heard := func() {
				t.Helper()
				require.Eventually(t, func() bool { // what is told before a node listens, or while the servers are away, is lost
					for _, role := range []chat.Role{chat.Reader, chat.Regular} {
						_, err := rooms[0].SetRole(ctx, ada, "den", "eve", role)
						require.NoError(t, err)
					}
					select {
					case <-eve.roles:
						return true
					case <-time.After(100 * time.Millisecond):
						return false
					}
				}, time.Minute, time.Millisecond)
			}
			heard()
			for _, s := range redis {
				s.Kill(t)
			}
			for _, s := range redis {
				s.Restart(t)
			}
			for len(eve.roles) > 0 {
				<-eve.roles
			}
			heard()
		})
	}
}
