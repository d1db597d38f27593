package run

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/parley-chat/parley/apps/internal/config"
)

// openLog makes the log that s asks for. Nobody who logs waits for whoever reads it: see lines, which
// the caller closes.
func openLog(s config.Settings, w io.Writer) (*slog.Logger, *lines) {
	var level slog.Level
	_ = level.UnmarshalText([]byte(s.LogLevel)) // config has checked it
	format := s.LogFormat
	if format == "auto" {
		format = "json"
		if f, ok := w.(*os.File); ok {
			if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
				format = "text"
			}
		}
	}
	handler := func(w io.Writer, level slog.Level) slog.Handler {
		options := &slog.HandlerOptions{Level: level}
		if format == "text" {
			return slog.NewTextHandler(w, options)
		}
		return slog.NewJSONHandler(w, options)
	}
	out := newLines(w, func(lost int) []byte {
		var b bytes.Buffer
		slog.New(handler(&b, slog.LevelDebug)).Warn("lines of the log were lost: nobody took them", "lost", lost)
		return b.Bytes()
	})
	return slog.New(&seldom{Handler: handler(out, level), said: new(occasions)}), out
}

// seldom lets lines pass that tell of a lack of file descriptors once a second at most: everything that
// opens one fails then, as often as it is tried.
type seldom struct {
	slog.Handler
	said *occasions
}

// occasions counts what was not said.
type occasions struct {
	mu      sync.Mutex
	last    time.Time
	skipped int
}

// Handle is slog.Handler's.
func (h *seldom) Handle(ctx context.Context, r slog.Record) error {
	lacking := false
	r.Attrs(func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok {
			lacking = lacking || lacksDescriptors(err)
		}
		return !lacking
	})
	if lacking {
		h.said.mu.Lock()
		skip := r.Time.Sub(h.said.last) < time.Second
		skipped := h.said.skipped
		if skip {
			h.said.skipped++
		} else {
			h.said.last, h.said.skipped = r.Time, 0
		}
		h.said.mu.Unlock()
		if skip {
			return nil
		}
		if skipped > 0 {
			r = r.Clone()
			r.Add("unsaid", skipped)
		}
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs is slog.Handler's.
func (h *seldom) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &seldom{Handler: h.Handler.WithAttrs(attrs), said: h.said}
}

// WithGroup is slog.Handler's.
func (h *seldom) WithGroup(name string) slog.Handler {
	return &seldom{Handler: h.Handler.WithGroup(name), said: h.said}
}

// lacksDescriptors reports whether something could not be opened since the process, or the system, has too
// many files open. Some drivers keep only the text of an error.
func lacksDescriptors(err error) bool {
	return errors.Is(err, errProcessFiles) || errors.Is(err, errSystemFiles) ||
		strings.Contains(err.Error(), errProcessFiles.Error()) || strings.Contains(err.Error(), errSystemFiles.Error())
}
