package wsclient_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/testkit/faultproxy"
)

// storedOnce reads the whole of a room, and wants each text once and no other.
func storedOnce(t *testing.T, c *wsclient.Client, room string, texts ...string) {
	t.Helper()
	page, err := c.History(t.Context(), room, wsclient.Range{Limit: 100})
	require.NoError(t, err)
	var got []string
	for _, m := range page.Messages {
		got = append(got, m.Text)
	}
	require.ElementsMatch(t, texts, got)
}

// TestTheConnectionEndsBetweenSendAndAnswer cuts, freezes and refuses the connection when a message is stored and
// its answer has not come back. The message is stored once, and its sender is told where.
func TestTheConnectionEndsBetweenSendAndAnswer(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(*faultproxy.Proxy){
		"cut":                      func(p *faultproxy.Proxy) { p.Cut(); p.Heal() },
		"refused for a while":      func(p *faultproxy.Proxy) { p.Refuse(); p.Heal() },
		"silent, until given up":   func(p *faultproxy.Proxy) { p.Freeze(faultproxy.Both) },
		"the answer alone is lost": func(*faultproxy.Proxy) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			url := startHub(t)
			proxy := faultproxy.Start(t, strings.TrimSuffix(strings.TrimPrefix(url, "ws://"), "/socket"))
			dial := func(url, name string, handle func(wsclient.Event)) *wsclient.Client {
				c, err := wsclient.Dial(ctx, wsclient.Config{
					URL: url, Handle: handle, MinPause: time.Millisecond, MaxPause: 10 * time.Millisecond,
					AckTimeout: 200 * time.Millisecond, HandshakeTimeout: 200 * time.Millisecond,
					Token: func(context.Context) (string, error) { return name, nil },
				})
				require.NoError(t, err)
				t.Cleanup(c.Close)
				_, err = c.Join(ctx, "go")
				require.NoError(t, err)
				return c
			}
			stored, gone := make(chan wsclient.Message, 10), make(chan struct{}, 100)
			witness := dial(url, "bob", func(e wsclient.Event) {
				if e.Kind == wsclient.EventMessage {
					stored <- e.Message
				}
			})
			c := dial("ws://"+proxy.Addr()+"/socket", "ada", func(e wsclient.Event) {
				if e.Kind == wsclient.EventDisconnected {
					gone <- struct{}{}
				}
			})
			proxy.Freeze(faultproxy.Down) // nothing comes back from here on
			type outcome struct {
				sent wsclient.Sent
				err  error
			}
			done := make(chan outcome, 1)
			go func() {
				sent, err := c.Send(ctx, "go", "once")
				done <- outcome{sent, err}
			}()
			first := <-stored
			fail(proxy)
			if strings.HasPrefix(name, "silent") || strings.HasPrefix(name, "the answer") {
				<-gone // it has given the connection up by itself
				proxy.Heal()
			}
			got := <-done
			require.NoError(t, got.err)
			assert.Equal(t, first.Seq, got.sent.Seq)
			assert.Equal(t, first.ID, got.sent.ID)
			again, err := c.SendAs(ctx, "go", "once", got.sent.ClientID)
			require.NoError(t, err)
			assert.Equal(t, got.sent, again)
			storedOnce(t, witness, "go", "once")
		})
	}
}

// TestManyUnderCuts sends from many goroutines while the connection is cut again and again.
func TestManyUnderCuts(t *testing.T) {
	t.Parallel()
	const senders, each = 5, 18
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	url := startHub(t)
	proxy := faultproxy.Start(t, strings.TrimSuffix(strings.TrimPrefix(url, "ws://"), "/socket"))
	var seqs []uint64
	all := make(chan struct{})
	c, err := wsclient.Dial(ctx, wsclient.Config{
		URL: "ws://" + proxy.Addr() + "/socket", Rate: -1, Window: 3, MinPause: time.Millisecond, MaxPause: 10 * time.Millisecond,
		Token: func(context.Context) (string, error) { return "ada", nil },
		Handle: func(e wsclient.Event) {
			if e.Kind == wsclient.EventMessage {
				if seqs = append(seqs, e.Message.Seq); len(seqs) == senders*each {
					close(all)
				}
			}
		},
	})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	_, err = c.Join(ctx, "go")
	require.NoError(t, err)
	errs := make(chan error, senders)
	var want []string
	for s := range senders {
		for n := range each {
			want = append(want, fmt.Sprintf("%d/%d", s, n))
		}
		go func() {
			for n := range each {
				if (s+n)%6 == 0 {
					proxy.Cut()
				}
				if _, err := c.Send(ctx, "go", fmt.Sprintf("%d/%d", s, n)); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range senders {
		require.NoError(t, <-errs)
	}
	select {
	case <-all:
	case <-ctx.Done():
		t.Fatal("not everything came back")
	}
	for i, seq := range seqs {
		require.EqualValues(t, i+1, seq)
	}
	storedOnce(t, c, "go", want...)
}
