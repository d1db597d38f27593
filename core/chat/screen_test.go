package chat_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
)

// words is a screen: it refuses "spam", hides "darn", fails on "fail", panics on "panic", and hangs on "hang" until its
// context ends and on "stuck" for a minute longer.
func words(ctx context.Context, d chat.Draft) (chat.Draft, error) {
	switch {
	case strings.Contains(d.Text, "spam"):
		return d, chat.ErrRefused.Detail("no advertising")
	case strings.Contains(d.Text, "forbidden"):
		return chat.Draft{}, fault.Forbidden
	case strings.Contains(d.Text, "fail"):
		return d, errors.New("the list of words is lost")
	case strings.Contains(d.Text, "panic"):
		panic("at the disco")
	case strings.Contains(d.Text, "hang"):
		<-ctx.Done()
		return d, ctx.Err()
	case strings.Contains(d.Text, "stuck"):
		<-ctx.Done()
		time.Sleep(time.Minute)
		return d, nil
	case strings.Contains(d.Text, "empty"):
		d.Text = ""
	case strings.Contains(d.Text, "broken data"):
		d.Data = "[1]"
	case strings.Contains(d.Text, "other data"):
		d.Data = `{ "b": 2 }`
	case strings.Contains(d.Text, "no data"):
		d.Data = ""
	case strings.Contains(d.Text, "elsewhere"): // only the text and the data count
		return chat.Draft{Room: "other", ClientID: "other", Author: chat.Author{ID: "eve"}, Text: d.Text, Data: d.Data, ReplyTo: 9}, nil
	}
	d.Text = strings.ReplaceAll(d.Text, "darn", "d***")
	return d, nil
}

func screened(change func(*chat.Config)) func(*chat.Config, *store) {
	return func(c *chat.Config, _ *store) {
		c.Screen = chat.ScreenFunc(words)
		if change != nil {
			change(c)
		}
	}
}

// both sends a draft in both ways.
func both(t *testing.T, f *fixture, d chat.Draft) (stored chat.Stored, err error) {
	t.Helper()
	stored, err = f.Send(t.Context(), d)
	answered := make(chan error, 1)
	submitting := f.Submit(t.Context(), d, func(s chat.Stored, err error) {
		if err == nil && s.Text != stored.Text {
			err = fmt.Errorf("Submit stores %q, and Send %q", s.Text, stored.Text)
		}
		answered <- err
	})
	if submitting == nil {
		submitting = <-answered
	}
	if err == nil {
		assert.NoError(t, submitting)
	} else {
		assert.Equal(t, fault.Public(err), fault.Public(submitting))
	}
	return stored, err
}

func TestScreenDecides(t *testing.T) {
	for _, failsOpen := range []bool{false, true} {
		for text, want := range map[string]struct {
			text string
			err  error
			data string // if it is not what was given
		}{
			"hello":         {text: "hello"},
			"darn it":       {text: "d*** it"},
			"other data":    {text: "other data", data: `{"b":2}`},
			"no data":       {text: "no data", data: "-"},
			"broken data":   {err: chat.ErrDataInvalid},
			"elsewhere":     {text: "elsewhere"},
			"buy spam":      {err: chat.ErrRefused},
			"forbidden":     {err: fault.Forbidden},
			"make it empty": {err: chat.ErrTextInvalid},
			"fail":          {text: "fail", err: chat.ErrUnscreened},
			"panic":         {text: "panic", err: chat.ErrUnscreened},
			"hang":          {text: "hang", err: chat.ErrUnscreened},
			"stuck":         {text: "stuck", err: chat.ErrUnscreened},
		} {
			t.Run(fmt.Sprintf("open %v %s", failsOpen, text), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := open(t, screened(func(c *chat.Config) { c.ScreenFailsOpen = failsOpen }))
					assert.True(t, f.SubmitWaits())
					assert.False(t, f.AsksAccess())
					began := time.Now()
					stored, err := both(t, f, chat.Draft{Room: "hall", Text: text, Author: ada, Data: `{"a":1}`})
					if strings.Contains("hang stuck", text) {
						assert.Equal(t, 600*time.Millisecond, time.Since(began), "twice the default of ScreenTimeout")
					} else {
						assert.Zero(t, time.Since(began))
					}
					if want.err != nil && (want.text == "" || !failsOpen) {
						require.ErrorIs(t, err, want.err)
						page, err := f.History(t.Context(), ada, "hall", chat.Range{})
						require.NoError(t, err)
						assert.Empty(t, page.Messages)
					} else {
						require.NoError(t, err)
						data := strings.TrimPrefix(cmp.Or(want.data, `{"a":1}`), "-")
						assert.Equal(t, chat.Message{Room: "hall", Seq: 1, ID: stored.ID, Author: ada, Text: want.text, At: stored.At, Data: data}, stored.Message)
					}
					time.Sleep(2 * time.Minute) // in the bubble's time: what is stuck ends
				})
			})
		}
	}
}

func TestReasonOfAScreenIsShown(t *testing.T) {
	f := open(t, screened(nil))
	_, err := f.Send(t.Context(), chat.Draft{Room: "hall", Text: "spam", Author: ada})
	assert.Equal(t, fault.Problem{Kind: fault.Forbidden, Code: "message_refused", Title: "the message was refused", Detail: "no advertising"}, fault.Public(err))
	_, err = f.Send(t.Context(), chat.Draft{Room: "hall", Text: "fail", Author: ada})
	p := fault.Public(err)
	assert.Equal(t, "unavailable", p.Code, "which clients send again")
	assert.Empty(t, p.Detail, "why it fails is not the sender's business")
}

// The screen is given the whole draft, in the form in which it would be stored, and only what is right otherwise.
func TestScreenSeesTheDraft(t *testing.T) {
	var seen []chat.Draft
	f := open(t, func(c *chat.Config, _ *store) {
		c.Normalize = strings.ToLower
		c.Access = guardRoom("closed")
		c.Screen = chat.ScreenFunc(func(_ context.Context, d chat.Draft) (chat.Draft, error) {
			seen = append(seen, d)
			return d, nil
		})
	})
	for _, d := range []chat.Draft{{Room: "", Text: "x"}, {Room: "hall", Text: ""}, {Room: "hall", Text: "x", ClientID: "é"}, {Room: "closed", Text: "x", Author: ada}} {
		_, err := f.Send(t.Context(), d)
		require.Error(t, err)
	}
	require.Empty(t, seen)
	_, err := f.Send(t.Context(), chat.Draft{Room: "HALL", Text: "x", ClientID: "c", Author: ada})
	require.NoError(t, err)
	require.Equal(t, []chat.Draft{{Room: "hall", Text: "x", ClientID: "c", Author: ada}}, seen)
}

type guardRoom string

func (g guardRoom) May(_ context.Context, _ chat.Author, _ chat.Action, room string) error {
	if room == string(g) {
		return chat.ErrNotAllowed
	}
	return nil
}

// What was stored is answered as before, whatever the screen says by then.
func TestScreenAndRepetitions(t *testing.T) {
	for name, later := range map[string]func(context.Context, chat.Draft) (chat.Draft, error){
		"refuses": func(_ context.Context, d chat.Draft) (chat.Draft, error) { return d, chat.ErrRefused },
		"fails":   func(_ context.Context, d chat.Draft) (chat.Draft, error) { return d, fault.Unavailable },
		"changes": func(_ context.Context, d chat.Draft) (chat.Draft, error) { d.Text = "changed"; return d, nil },
		"spoils":  func(_ context.Context, d chat.Draft) (chat.Draft, error) { d.Text = ""; return d, nil },
	} {
		t.Run(name, func(t *testing.T) {
			var judge atomic.Pointer[chat.ScreenFunc]
			f := open(t, func(c *chat.Config, _ *store) {
				c.Screen = chat.ScreenFunc(func(ctx context.Context, d chat.Draft) (chat.Draft, error) { return (*judge.Load())(ctx, d) })
			})
			first := chat.ScreenFunc(words)
			judge.Store(&first)
			d := chat.Draft{Room: "hall", Text: "darn", ClientID: "c", Author: ada}
			before, err := f.Send(t.Context(), d)
			require.NoError(t, err)
			require.Equal(t, "d***", before.Text)
			second := chat.ScreenFunc(later)
			judge.Store(&second)
			for _, text := range []string{"darn", "something else"} {
				d.Text = text
				again, err := both(t, f, d)
				require.NoError(t, err)
				assert.True(t, again.Repeated)
				assert.Equal(t, before.Message, again.Message)
			}
			if name == "changes" {
				return
			}
			// Somebody else's is judged, and so is another of the same sender's.
			for _, d := range []chat.Draft{
				{Room: "hall", Text: "darn", ClientID: "c", Author: chat.Author{ID: "u-eve"}}, {Room: "hall", Text: "darn", ClientID: "C", Author: ada},
				{Room: "other", Text: "darn", ClientID: "c", Author: ada}, {Room: "hall", Text: "darn", Author: ada},
			} {
				_, err := f.Send(t.Context(), d)
				require.Error(t, err)
			}
		})
	}
}

// Who waits for a turn in vain is refused, whether the screen fails open or not; a call that does not end keeps its place.
func TestScreenIsAskedAboutAFewAtOnce(t *testing.T) {
	for _, failsOpen := range []bool{false, true} {
		t.Run(fmt.Sprint(failsOpen), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := open(t, screened(func(c *chat.Config) { c.MaxScreened, c.ScreenTimeout, c.ScreenFailsOpen = 2, time.Second, failsOpen }))
				var wg sync.WaitGroup
				for range 2 {
					wg.Go(func() {
						_, err := f.Send(t.Context(), chat.Draft{Room: "hall", Text: "stuck", Author: ada})
						assert.Equal(t, failsOpen, err == nil)
					})
				}
				wg.Wait()
				began := time.Now()
				_, err := f.Send(t.Context(), chat.Draft{Room: "hall", Text: "hello", Author: ada})
				require.ErrorIs(t, err, chat.ErrBusy)
				assert.Equal(t, time.Second, time.Since(began))
				time.Sleep(time.Minute)
				synctest.Wait()
				_, err = f.Send(t.Context(), chat.Draft{Room: "hall", Text: "hello", Author: ada})
				require.NoError(t, err, "the places are free again")
			})
		})
	}
}

// A message whose sender has gone is not stored, also where the screen fails open.
func TestSenderWhoDoesNotWaitForTheScreen(t *testing.T) {
	for _, text := range []string{"hang", "hello"} {
		t.Run(text, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := open(t, screened(func(c *chat.Config) { c.MaxScreened, c.ScreenTimeout, c.ScreenFailsOpen = 1, time.Minute, true }))
				if text == "hello" { // no turn
					go func() { _, _ = f.Send(t.Context(), chat.Draft{Room: "other", Text: "hang", Author: ada}) }()
					synctest.Wait()
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, err := f.Send(ctx, chat.Draft{Room: "hall", Text: text, Author: ada})
				require.ErrorIs(t, err, fault.Unavailable)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				gone, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				err = f.Submit(gone, chat.Draft{Room: "hall", Text: text, Author: ada}, func(chat.Stored, error) { t.Error("it was stored") })
				require.ErrorIs(t, err, context.DeadlineExceeded)
				time.Sleep(2 * time.Minute)
				page, err := f.History(t.Context(), ada, "hall", chat.Range{})
				require.NoError(t, err)
				assert.Empty(t, page.Messages)
			})
		})
	}
}

// A screen that is away for long is a line in the log now and then, with how many messages it was.
func TestFailuresOfAScreenAreLoggedNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		f := open(t, screened(func(c *chat.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) }))
		fail := func() {
			_, err := f.Send(t.Context(), chat.Draft{Room: "hall", Text: "fail", Author: ada})
			require.ErrorIs(t, err, chat.ErrUnscreened)
		}
		for range 100 {
			fail()
		}
		time.Sleep(10 * time.Second)
		fail()
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		require.Len(t, lines, 2)
		assert.Contains(t, lines[0], "messages=1 stored=false")
		assert.Contains(t, lines[1], "messages=100")
		assert.NotContains(t, log.String(), "u-ada")

		log.Reset()
		time.Sleep(10 * time.Second)
		_, err := f.Send(t.Context(), chat.Draft{Room: "hall", Text: "panic", Author: ada})
		require.ErrorIs(t, err, chat.ErrUnscreened)
		assert.Contains(t, log.String(), "at the disco")
		assert.Contains(t, log.String(), "screen_test.go", "where it was")
	})
}

// One sender's messages keep their order, though their verdicts take different times.
func TestScreenedMessagesOfASenderKeepTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := open(t, func(c *chat.Config, _ *store) {
			c.Screen = chat.ScreenFunc(func(_ context.Context, d chat.Draft) (chat.Draft, error) {
				time.Sleep(time.Duration(10-len(d.Text)) * time.Millisecond)
				return d, nil
			})
		})
		var got []string
		for i := range 9 {
			require.NoError(t, f.Submit(t.Context(), chat.Draft{Room: "hall", Text: strings.Repeat("x", i+1), Author: ada}, func(s chat.Stored, err error) {
				assert.NoError(t, err)
				got = append(got, s.Text)
			}))
		}
		synctest.Wait()
		require.Len(t, got, 9)
		for i, text := range got {
			assert.Len(t, text, i+1)
		}
	})
}

// Without a screen a message costs what it did.
func TestNoScreenCostsNothing(t *testing.T) {
	with := func(change func(*chat.Config, *store)) float64 {
		f := open(t, change)
		d := chat.Draft{Room: "hall", Text: "x", Author: ada}
		return testing.AllocsPerRun(100, func() {
			if _, err := f.Send(t.Context(), d); err != nil {
				t.Error(err)
			}
		})
	}
	without, asked := with(nil), with(screened(nil))
	assert.Greater(t, asked, without, "the count does not see what a screen costs")
	t.Logf("%.0f allocations without a screen, %.0f with one", without, asked)
}
