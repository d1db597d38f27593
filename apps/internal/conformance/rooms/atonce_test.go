package rooms_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/core/chat"
)

// TestAHundredEditAtOnce lets the clients of 100 people change one message at once, at two nodes: its author's clients edit it, and
// the others react to it or try to edit it too. Each is answered, the changes are counted without a gap, everybody shows what is
// stored, and a message that somebody else sends meanwhile is stored.
func TestAHundredEditAtOnce(t *testing.T) {
	onStores(t, func(t *testing.T, s store) {
		n := startNodes(t, s.open(t))
		ctx, cancel := context.WithTimeout(t.Context(), 10*patience)
		defer cancel()
		const room = "hall"
		people := max(6, 100/s.slow)
		all := make([]*onlooker, people)
		var ready sync.WaitGroup
		for i := range all {
			o := &onlooker{view: map[uint64]string{}, told: make(chan struct{}, 1), gate: make(chan struct{})}
			close(o.gate)
			id := "author" // each third client is one of the author's
			if i%3 != 0 {
				id = fmt.Sprint("user-", i)
			}
			var err error
			o.client, err = wsclient.Dial(ctx, wsclient.Config{
				URL: n.url, Rate: -1, Handle: o.handle, MinPause: time.Millisecond, MaxPause: 50 * time.Millisecond, AckTimeout: patience,
				Token: func(ctx context.Context) (string, error) { return o.token(ctx, id) },
			})
			require.NoError(t, err)
			t.Cleanup(o.client.Close)
			all[i] = o
			ready.Go(func() {
				_, err := o.client.JoinSince(ctx, room, 0)
				assert.NoError(t, err)
			})
		}
		ready.Wait()
		sent, err := all[0].client.Send(ctx, room, "as it was")
		require.NoError(t, err)

		const rounds = 3
		var mu sync.Mutex
		revs := map[uint64]string{} // what each change has made of the text; reactions leave it
		changed := func(rev uint64, text string) {
			mu.Lock()
			defer mu.Unlock()
			_, twice := revs[rev]
			assert.False(t, twice, "rev %d is given twice", rev)
			revs[rev] = text
		}
		for round := range rounds {
			start := make(chan struct{})
			var running sync.WaitGroup
			for i, o := range all {
				running.Go(func() {
					<-start
					switch i % 3 {
					case 0:
						text := fmt.Sprintf("round %d, client %d", round, i)
						rev, err := o.client.Edit(ctx, room, sent.Seq, text)
						if assert.NoError(t, err) {
							changed(rev, text)
						}
					case 1:
						react := o.client.React
						if round%2 == 1 {
							react = o.client.Unreact
						}
						rev, err := react(ctx, room, sent.Seq, "👍")
						if assert.NoError(t, err) {
							changed(rev, "")
						}
					default:
						_, err := o.client.Edit(ctx, room, sent.Seq, "not theirs")
						var refused *wsclient.Error
						if assert.ErrorAs(t, err, &refused) {
							assert.Equal(t, "not_allowed", refused.Code)
						}
					}
				})
			}
			running.Go(func() {
				<-start
				_, err := n.chats[round%2].Send(ctx, chat.Draft{Room: room, Author: chat.Author{ID: "bystander", Name: "Bystander"}, Text: fmt.Sprint("round ", round)})
				assert.NoError(t, err)
			})
			close(start)
			running.Wait()
		}

		stored, err := n.ports.Messages.List(ctx, room, chat.Range{Limit: 10})
		require.NoError(t, err)
		require.Len(t, stored, 1+rounds)
		last := ""
		for rev := uint64(1); rev <= uint64(len(revs)); rev++ {
			text, there := revs[rev]
			require.True(t, there, "no change is rev %d of %d", rev, len(revs))
			if text != "" {
				last = text
			}
		}
		assert.EqualValues(t, len(revs), stored[0].Rev)
		assert.Equal(t, last, stored[0].Text, "the last edit is what stays")
		var want []string
		for _, m := range stored {
			want = append(want, shownStored(m))
		}
		for i, o := range all {
			for o.differs(want) != "" {
				select {
				case <-o.told:
				case <-ctx.Done():
					require.FailNow(t, "a client is left behind", "client %d: %s", i, o.differs(want))
				}
			}
		}
	})
}
