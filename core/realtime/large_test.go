package realtime_test

import (
	"bytes"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
)

func TestALargeRoomIsServedByEveryWorker(t *testing.T) {
	const members, workers = 1000, 4
	arrived, pass := make(chan struct{}, members), make(chan struct{})
	c := newCrowd(t, members, 1, func(cfg *realtime.HubConfig) { cfg.Workers = workers })
	c.hold = func(int) { arrived <- struct{}{}; <-pass }
	release := sync.OnceFunc(func() { close(pass) })
	t.Cleanup(release)
	c.tally.expect(1)
	c.say(1)
	for range workers { // each of them is in Send at the same time
		within(t, arrived)
	}
	release()
	c.wait(t)
}

// Messages that wait are joined, as many as fit into a write. Help would only make fewer of them wait.
func TestALargeRoomThatIsBehindIsServedByAllOnlyWhenWritesAreFull(t *testing.T) {
	const members, waiting = 1000, 8
	for _, c := range []struct {
		name    string
		most    int // HubConfig.MaxWrite
		workers int64
	}{{"more would fit", 0, 1}, {"no more fits", waiting * len(text), 2}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				crowd := newCrowdInBubble(t, members, 1, func(cfg *realtime.HubConfig) { cfg.Workers, cfg.MaxWrite = 2, c.most })
				sends := make([]atomic.Int64, members)
				var one, more atomic.Int64 // workers that have begun with the one message, and with those that wait
				passOne, passMore := make(chan struct{}), make(chan struct{})
				crowd.hold = func(i int) {
					if sends[i].Add(1) == 1 {
						one.Add(1)
						<-passOne
						return
					}
					more.Add(1)
					<-passMore
				}
				crowd.tally.expect(1 + waiting)
				crowd.say(1)
				synctest.Wait()
				assert.EqualValues(t, 2, one.Load())
				crowd.say(waiting)
				close(passOne)
				synctest.Wait()
				assert.Equal(t, c.workers, more.Load())
				close(passMore)
				crowd.wait(t)
			})
		})
	}
}

func TestTheNextMessageOfALargeRoomWaitsForEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const members = 1000
		c := newCrowdInBubble(t, members, 1, func(cfg *realtime.HubConfig) { cfg.Workers = 2 })
		late, pass := make(chan struct{}), make(chan struct{})
		sends := make([]atomic.Int64, members)
		var again atomic.Int64
		c.hold = func(i int) {
			switch second := sends[i].Add(1) == 2; {
			case second:
				again.Add(1)
			case i == 0: // the worker that began is held up until the other one is in the last chunk
				<-late
			case i == members-1:
				close(late)
				<-pass
			}
		}
		c.tally.expect(2)
		c.say(1)
		synctest.Wait() // everybody but the last has the message
		c.say(1)
		synctest.Wait()
		assert.Zero(t, again.Load(), "a second message overtakes the first")
		close(pass)
		c.wait(t)
		assert.EqualValues(t, members, again.Load())
	})
}

func TestALargeRoomLeavesWorkersToOthers(t *testing.T) {
	const members = 1000
	c := newCrowd(t, members, 1, func(cfg *realtime.HubConfig) { cfg.Workers = 2 })
	served := make(chan struct{})
	small := newCrowdOn(t, c.hub, c.deliver, 1, "small")
	small.hold = func(int) { close(served) }
	small.tally.expect(1)
	c.hold = func(i int) {
		switch {
		case i == 0: // the worker that began is held up in its first chunk
			<-served
		case i == 64: // so this is the other one
			small.say(1)
		case i >= 128:
			select {
			case <-served:
			default:
				assert.Fail(t, "a small room waits for a large one", "member %d", i)
			}
		}
	}
	c.tally.expect(1)
	c.say(1)
	small.wait(t)
	c.wait(t)
}

func TestADeliveryAllocatesNothing(t *testing.T) {
	perMessage := func(members int) float64 {
		c := newCrowd(t, members, 1, func(cfg *realtime.HubConfig) { cfg.Workers = 2 })
		return testing.AllocsPerRun(200, func() {
			c.tally.expect(1)
			c.say(1)
			c.wait(t)
		})
	}
	few := perMessage(10)
	assert.LessOrEqual(t, few, 8.0, "a message, with its frame")
	for _, members := range []int{500, 2000} {
		assert.Equal(t, few, perMessage(members), "a message to %d members allocates as much as one to 10", members)
	}
}

// within waits for what must come.
func within(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		require.Fail(t, "nothing came")
	}
}

// ordered is a connection that looks at the order of the messages of one room.
type ordered struct {
	joined sync.WaitGroup
	mu     sync.Mutex
	last   uint64
	wrong  []uint64
}

// silent joins a room, and only reads.
func (n *node) silent(room string) *ordered {
	o := &ordered{}
	o.joined.Add(1)
	in, err := n.Accept(o, socket.Hello{Identity: user.Identity{UserID: "u-silent", Name: "silent"}})
	require.NoError(n.t, err)
	in.Receive([]byte(`{"id":1,"event":"join_room","data":{"room":"`+room+`"}}`), false)
	o.joined.Wait()
	return o
}

func (o *ordered) Send(f *socket.Frame) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for m := range f.Messages() {
		if bytes.HasPrefix(m.Payload(), []byte(`{"id":1,"event":"ack"`)) {
			o.joined.Done()
			continue
		}
		if !bytes.HasPrefix(m.Payload(), []byte(`{"event":"message"`)) {
			continue
		}
		_, after, _ := bytes.Cut(m.Payload(), []byte(`"seq":`))
		digits, _, _ := bytes.Cut(after, []byte(","))
		seq, err := strconv.ParseUint(string(digits), 10, 64)
		if err != nil || o.last != 0 && seq != o.last+1 {
			o.wrong = append(o.wrong, seq)
		}
		o.last = seq
	}
	return nil
}

func (*ordered) Queued() int       { return 0 }
func (*ordered) Close(int, string) {}
