package system

import (
	"context"
	"net/http"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/testkit"
)

func TestMain(m *testing.M) {
	testkit.Parallel(8)
	goleak.VerifyTestMain(m)
}

// everywhere runs a test on each store with each transport, side by side.
func everywhere(t *testing.T, test func(t *testing.T, cfg Config)) {
	for _, store := range []Store{Memory, SQLite} {
		for _, transport := range []Transport{NBIO, Net} {
			t.Run(store.String()+"/"+transport.String(), func(t *testing.T) {
				t.Parallel()
				test(t, Config{Store: store, Transport: transport})
			})
		}
	}
}

// within returns a context for what should take a moment.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until something that gives no sign is so.
func eventually(t *testing.T, otherwise string, check func() bool) {
	t.Helper()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	late := within(t).Done()
	for !check() {
		select {
		case <-ticker.C:
		case <-late:
			t.Fatal(otherwise)
		}
	}
}

func TestSystem_restartKeepsWhatIsStored(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, cfg Config) {
		s := Start(t, cfg)
		ada := s.User(t, "Ada")
		events := make(chan wsclient.Event, 64)
		c := s.Dial(t, ada, func(e wsclient.Event) { events <- e })
		_, err := c.Join(within(t), "tea")
		require.NoError(t, err)
		first, err := c.Send(within(t), "tea", "before")
		require.NoError(t, err)

		s.Restart(t)

		second, err := c.Send(within(t), "tea", "after")
		require.NoError(t, err)
		require.Equal(t, first.Seq+1, second.Seq)
		var codes []int
		var texts []string
		for len(texts) < 2 {
			switch e := <-events; e.Kind {
			case wsclient.EventMessage:
				texts = append(texts, e.Message.Text)
			case wsclient.EventDisconnected:
				codes = append(codes, e.Code)
			}
		}
		require.Equal(t, []string{"before", "after"}, texts)
		require.Equal(t, []int{1012}, codes, "a restart says that clients may come back at once")
		s.SignIn(t, &ada)
		s.Call(t, http.MethodGet, "/auth/me", ada.AccessToken, nil, http.StatusOK, nil)
	})
}

func TestSystem_servesHealthAndMails(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, cfg Config) {
		s := Start(t, cfg)
		s.User(t, "Ada")
		s.Call(t, http.MethodGet, "/readyz", "", nil, http.StatusOK, nil)
		s.Call(t, http.MethodGet, "/mail/stats", "", nil, http.StatusUnauthorized, nil)
		s.Call(t, http.MethodGet, "/mail/stats", s.AdminToken, nil, http.StatusOK, nil)
	})
}

func TestSystem_advanceEndsTokens(t *testing.T) {
	t.Parallel()
	s := Start(t, Config{})
	ada := s.User(t, "Ada")
	s.Call(t, http.MethodGet, "/auth/me", ada.AccessToken, nil, http.StatusOK, nil)
	s.Advance(16 * time.Minute)
	s.Call(t, http.MethodGet, "/auth/me", ada.AccessToken, nil, http.StatusUnauthorized, nil)
}

func TestAwait_findsWhatIsLeft(t *testing.T) {
	t.Parallel()
	const label = "left behind"
	release, ended := make(chan struct{}), make(chan struct{})
	pprof.Do(t.Context(), pprof.Labels(labelKey, label), func(context.Context) {
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() { <-release })
		}
		go func() { defer close(ended); both.Wait() }()
	})
	left := await(label, 0)
	require.Len(t, left, 3)
	require.Contains(t, strings.Join(left, ""), "TestAwait_findsWhatIsLeft")
	require.Empty(t, await("another", 0))
	close(release)
	<-ended
	require.Empty(t, await(label, waitTimeout))
}
