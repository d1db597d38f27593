package contract_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
)

// openScreen is a screen that asks somebody, who may be slow.
func openScreen() contract.Screened {
	var mu sync.Mutex
	free := make(chan struct{})
	close(free)
	return contract.Screened{
		Screen: chat.ScreenFunc(func(ctx context.Context, d chat.Draft) (chat.Draft, error) {
			mu.Lock()
			waits := free
			mu.Unlock()
			select {
			case <-waits:
			case <-ctx.Done():
				return d, fault.Wrap(fault.Unavailable, ctx.Err())
			}
			if strings.Contains(d.Text, "spam") {
				return d, chat.ErrRefused.Detail("no advertising")
			}
			if strings.Contains(d.Text, "darn") {
				d.Text, d.Data = strings.ReplaceAll(d.Text, "darn", "****"), `{"mood":"calm"}`
			}
			return d, nil
		}),
		Passes: chat.Draft{Room: "hall", Text: "Hello.", Data: `{"mood":"glad"}`}, Changes: chat.Draft{Room: "hall", Text: "Oh, darn.", Data: `{"mood":"angry"}`}, Refuses: chat.Draft{Room: "hall", Text: "Buy spam!"},
		Stall: func(context.Context) (func(), error) {
			mu.Lock()
			defer mu.Unlock()
			stalled := make(chan struct{})
			free = stalled
			return func() { close(stalled) }, nil
		},
	}
}

func screenFaults() []broken[contract.Screened] {
	breaks := func(f func(ctx context.Context, d chat.Draft, under chat.Screen) (chat.Draft, error)) func(contract.Screened) contract.Screened {
		return func(p contract.Screened) contract.Screened {
			under := p.Screen
			p.Screen = chat.ScreenFunc(func(ctx context.Context, d chat.Draft) (chat.Draft, error) { return f(ctx, d, under) })
			return p
		}
	}
	return []broken[contract.Screened]{
		{"spaces are added", "what may pass stays as it is", breaks(func(ctx context.Context, d chat.Draft, under chat.Screen) (chat.Draft, error) {
			d, err := under.Screen(ctx, d)
			d.Text += " "
			return d, err
		})},
		{"only a verdict is returned", "what may pass stays as it is", breaks(func(ctx context.Context, d chat.Draft, under chat.Screen) (chat.Draft, error) {
			_, err := under.Screen(ctx, d)
			return chat.Draft{}, err
		})},
		{"data are lost", "what may pass stays as it is", breaks(func(ctx context.Context, d chat.Draft, under chat.Screen) (chat.Draft, error) {
			d, err := under.Screen(ctx, d)
			d.Data = ""
			return d, err
		})},
		{"other data are no object", "changed data can be stored", breaks(func(ctx context.Context, d chat.Draft, under chat.Screen) (chat.Draft, error) {
			got, err := under.Screen(ctx, d)
			if got.Data != d.Data {
				got.Data = "[" + got.Data + "]"
			}
			return got, err
		})},
		{"what is left of a text may be nothing", "a changed text can be stored", breaks(func(ctx context.Context, d chat.Draft, under chat.Screen) (chat.Draft, error) {
			if strings.Contains(d.Text, "darn") {
				d.Text = ""
				return d, nil
			}
			return under.Screen(ctx, d)
		})},
		{"texts grow beyond measure", "a changed text can be stored", breaks(func(ctx context.Context, d chat.Draft, under chat.Screen) (chat.Draft, error) {
			got, err := under.Screen(ctx, d)
			if err == nil && got.Text != d.Text {
				got.Text = strings.Repeat("x", chat.MaxText+1)
			}
			return got, err
		})},
		{"nothing is changed", "a changed text can be stored", breaks(func(ctx context.Context, d chat.Draft, under chat.Screen) (chat.Draft, error) {
			_, err := under.Screen(ctx, d)
			return d, err
		})},
		{"a refusal has no kind", "a refusal is forbidden", breaks(func(ctx context.Context, d chat.Draft, under chat.Screen) (chat.Draft, error) {
			d, err := under.Screen(ctx, d)
			if errors.Is(err, fault.Forbidden) {
				err = errors.New("no advertising")
			}
			return d, err
		})},
		{"everything passes", "a refusal is forbidden", breaks(func(_ context.Context, d chat.Draft, _ chat.Screen) (chat.Draft, error) { return d, nil })},
		{"no verdict is a refusal", "an ended context is no refusal", breaks(func(ctx context.Context, d chat.Draft, under chat.Screen) (chat.Draft, error) {
			if ctx.Err() != nil {
				return d, chat.ErrRefused
			}
			return under.Screen(ctx, d)
		})},
		{"one failure is remembered", "an ended context is no refusal", func() func(contract.Screened) contract.Screened {
			var failed atomic.Bool
			return breaks(func(ctx context.Context, d chat.Draft, under chat.Screen) (chat.Draft, error) {
				if failed.Load() {
					return d, fault.Unavailable
				}
				got, err := under.Screen(ctx, d)
				failed.Store(ctx.Err() != nil)
				return got, err
			})
		}()},
		{"the context is ignored", "Screen returns with its context", breaks(func(ctx context.Context, d chat.Draft, under chat.Screen) (chat.Draft, error) {
			own, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Hour)
			defer cancel()
			return under.Screen(own, d)
		})},
		{"a stalled server refuses", "Screen returns with its context", breaks(func(ctx context.Context, d chat.Draft, under chat.Screen) (chat.Draft, error) {
			got, err := under.Screen(ctx, d)
			if errors.Is(err, context.Canceled) {
				err = chat.ErrRefused
			}
			return got, err
		})},
		{"a draft that was seen passes", "a draft may come again", func() func(contract.Screened) contract.Screened {
			var seen sync.Map
			return breaks(func(ctx context.Context, d chat.Draft, under chat.Screen) (chat.Draft, error) {
				if _, again := seen.LoadOrStore(d.Text, true); again {
					return d, nil
				}
				return under.Screen(ctx, d)
			})
		}()},
		{"a draft that was seen is a conflict", "a draft may come again", func() func(contract.Screened) contract.Screened {
			var seen sync.Map
			return breaks(func(ctx context.Context, d chat.Draft, under chat.Screen) (chat.Draft, error) {
				if _, again := seen.LoadOrStore(d.Text, true); again {
					return d, fault.Conflict
				}
				return under.Screen(ctx, d)
			})
		}()},
		{"one at a time, and others fail", "many may ask at once", func() func(contract.Screened) contract.Screened {
			var busy sync.Mutex
			return breaks(func(ctx context.Context, d chat.Draft, under chat.Screen) (chat.Draft, error) {
				if !busy.TryLock() {
					return d, fault.Unavailable
				}
				defer busy.Unlock()
				time.Sleep(time.Millisecond)
				return under.Screen(ctx, d)
			})
		}()},
		{"verdicts are mixed up", "many may ask at once", func() func(contract.Screened) contract.Screened {
			var mu sync.Mutex
			var last chat.Draft
			return breaks(func(ctx context.Context, d chat.Draft, under chat.Screen) (chat.Draft, error) {
				mu.Lock()
				last = d
				mu.Unlock()
				time.Sleep(time.Millisecond)
				mu.Lock()
				d = last
				mu.Unlock()
				return under.Screen(ctx, d)
			})
		}()},
	}
}
