package run

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/apps/internal/wire"
)

// serveProcess is Serve as the only thing that a process does: SIGHUP makes it read again what can
// change, and it goes on when nobody reads what it writes.
func serveProcess(ctx context.Context, s config.Settings, stdout, stderr io.Writer) error {
	// Somebody who listens for SIGPIPE gets EPIPE instead of the end; nobody needs to look at it.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	log, logged := openLog(s, stderr)
	defer logged.Close()
	slog.SetDefault(log)     // also of the package log
	if stderr == os.Stderr { // else it is not the process's own, and others may use that
		defer capture(logged)()
	}
	return serve(ctx, s, stdout, log, logged, nil, hangup)
}

// capture makes lines of what vendors write to the standard outputs by themselves, or they would wait for
// whoever reads those. release ends that.
func capture(to *lines) (release func()) {
	r, w, err := os.Pipe()
	if err != nil {
		return func() {} // what nobody needs
	}
	stdout, stderr := os.Stdout, os.Stderr
	os.Stdout, os.Stderr = w, w
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for in := bufio.NewReader(r); ; {
			text, err := in.ReadBytes('\n')
			if err != nil {
				return
			}
			_, _ = to.Write(text)
		}
	}()
	return func() {
		os.Stdout, os.Stderr = stdout, stderr
		_ = w.Close() // which ends the reading
		<-ended
		_ = r.Close()
	}
}

// reread takes up what changed in the files of certificate and secrets, and returns the settings as they
// are then. Of what cannot be used the old stays in force.
func reread(ctx context.Context, s config.Settings, app *wire.App, pair *keyPair, log *slog.Logger) config.Settings {
	var taken []string
	if pair != nil {
		certificate, err := pair.read()
		if err != nil {
			log.ErrorContext(ctx, "SIGHUP: the certificate cannot be used, the old one stays", "error", err)
		} else {
			taken = append(taken, certificate)
		}
	}
	next, changed, err := s.Reread()
	if err != nil {
		log.ErrorContext(ctx, "SIGHUP: secrets cannot be used, the old ones stay", "error", err)
	}
	secrets, restart, err := app.Reload(ctx, next, changed)
	if err != nil {
		log.ErrorContext(ctx, "SIGHUP: the new mail server cannot be used, the old one stays", "error", err)
		next.MailSender = s.MailSender // the next time it is tried again
	}
	log.InfoContext(ctx, "SIGHUP: read again", "taken", append(taken, secrets...), "restart", slices.Clip(restart))
	return next
}
