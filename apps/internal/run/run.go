// Package run does what a program is asked to do.
package run

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/parley-chat/parley/apps/internal/bench"
	"github.com/parley-chat/parley/apps/internal/campaign"
	"github.com/parley-chat/parley/apps/internal/campaign/crash"
	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/apps/internal/wire"
	"github.com/parley-chat/parley/core/protocol"
)

// Main does what args ask the program for and returns the exit code: 0, or 1 after one line on
// stderr. SIGTERM and an interrupt end it in order; a second one ends it at once.
func Main(program config.Program, args, environment []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	err := command(ctx, program, args, environment, stdout, stderr)
	if err == nil || errors.Is(err, config.ErrHelp) {
		return 0
	}
	say(stderr, fmt.Sprintf("%s: %s\n", program, strings.ReplaceAll(err.Error(), "\n", "; ")))
	return 1
}

// say writes text where it may be that nobody reads, and then goes on without it being written.
func say(w io.Writer, text string) {
	late := time.NewTimer(flushTimeout)
	defer late.Stop()
	said := make(chan struct{})
	go func() {
		defer close(said)
		_, _ = io.WriteString(w, text)
	}()
	select {
	case <-said:
	case <-late.C:
	}
}

func command(ctx context.Context, program config.Program, args, environment []string, stdout, stderr io.Writer) (err error) {
	s, cmd, err := config.Load(program, args, environment, stdout)
	if err != nil {
		return err
	}
	// Drivers say of addresses what they like.
	defer func() {
		if err == nil {
			return
		}
		if text := s.Hide(err.Error()); text != err.Error() {
			err = errors.New(text)
		}
	}()
	switch cmd.Name {
	case "serve":
		return serveProcess(ctx, s, stdout, stderr)
	case "config":
		return s.Print(stdout)
	case "migrate":
		return migrate(ctx, s, stdout, stderr)
	case "healthcheck":
		return healthcheck(ctx, s)
	case "openapi":
		return openapi(ctx, s, cmd.Admin, stdout)
	case "asyncapi":
		_, text, err := wire.AsyncAPI(s.Product, "localhost:5002")
		if err != nil {
			return err
		}
		_, err = stdout.Write(text)
		return err
	case "types":
		_, err := stdout.Write(protocol.TypeScript(protocol.Own()))
		return err
	case "campaign crash":
		return crash.Run(ctx, s, cmd.Crash, stdout)
	case "campaign check":
		return campaign.Check(cmd.Check, os.Stdin, stdout)
	case "bench client":
		return bench.Client(ctx, os.Stdin, stdout)
	case "bench floor":
		return bench.Floor(ctx, os.Stdin, stdout)
	case "bench million":
		return bench.Million(ctx, s, cmd.Million, stdout)
	case "campaign overload":
		return bench.Overload(ctx, s, cmd.Overload, stdout)
	case "campaign power":
		return cutPower(ctx, cmd.Power, stdout)
	case "bench node":
		return bench.Node(ctx, s, os.Stdin, stdout, quietly)
	}
	if what, ok := strings.CutPrefix(cmd.Name, "bench "); ok {
		return bench.Run(ctx, what, s, cmd.Bench, stdout, quietly)
	}
	if action, ok := strings.CutPrefix(cmd.Name, "mail "); ok {
		return administerMail(ctx, action, s, cmd.Mail, stdout)
	}
	if action, ok := strings.CutPrefix(cmd.Name, "webhook "); ok {
		return administerWebhooks(ctx, action, s, cmd.Webhook, stdout)
	}
	if action, ok := strings.CutPrefix(cmd.Name, "events "); ok {
		return administerEvents(ctx, action, s, cmd.Events, stdout)
	}
	if action, ok := strings.CutPrefix(cmd.Name, "keys "); ok {
		return administerKeys(ctx, action, s, cmd.Keys, stdout, stderr)
	}
	if cmd.Name == "audit" {
		return printAudit(ctx, s, cmd.Audit, stdout)
	}
	if action, ok := strings.CutPrefix(cmd.Name, "user "); ok {
		return administerUser(ctx, action, s, cmd.User, os.Stdin, stdout, stderr)
	}
	return fmt.Errorf("unknown command %q", cmd.Name)
}

// quietly serves without logs.
func quietly(ctx context.Context, s config.Settings, ready func(net.Addr)) error {
	return Serve(ctx, s, io.Discard, io.Discard, func(public, _ net.Addr) { ready(public) })
}

func migrate(ctx context.Context, s config.Settings, stdout, stderr io.Writer) error {
	log, logged := openLog(s, stderr)
	defer logged.Close()
	store, err := wire.OpenStore(ctx, s, log)
	if err != nil {
		return err
	}
	if store == nil {
		return errors.New("migrate: the store memory: has no schema")
	}
	defer store.Close()
	switch err := store.Check(ctx); {
	case err == nil:
		_, err = fmt.Fprintln(stdout, "The schema is current.")
		return err
	case !wire.SchemaOld(err):
		return err
	}
	if err := store.Migrate(ctx); err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, "The schema was brought up to date.")
	return err
}

// openapi builds the application without keeping anything, and prints its document, or that of its admin address.
func openapi(ctx context.Context, s config.Settings, admin bool, stdout io.Writer) error {
	folder, err := os.MkdirTemp("", "parley-openapi-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	s.Store, s.Bus, s.Redis, s.MailQueue, s.MailSender = "memory:", "memory:", "", "store", "dev:"
	s.Data, s.DocsPassword = folder, "unused"
	s.OIDCIssuer = ""
	s.JWKSURL, s.RenewURL = "http://127.0.0.1:1/", "http://127.0.0.1:1/" // nobody is asked
	app, err := wire.New(ctx, s, "http://localhost:5002", "localhost:5002", slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer app.Close()
	api := app.API
	if admin {
		api = app.AdminAPI
	}
	text, err := api.Document("yaml")
	if err != nil {
		return err
	}
	_, err = stdout.Write(text)
	return err
}

// localURL is where the program with these settings serves on this machine.
func localURL(s config.Settings) string {
	_, port, _ := net.SplitHostPort(s.Listen) // config has checked it
	return s.AddressURL(port)
}

// healthcheck asks the program that runs with these settings whether it is ready, for those who
// watch it and have no other client at hand.
func healthcheck(ctx context.Context, s config.Settings) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true}
	if s.TLSCert != "" {
		// It is our own certificate, and its name need not be that of the address.
		transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12} //nolint:gosec // see above
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, localURL(s)+"/readyz", nil)
	if err != nil {
		return err
	}
	answer, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		return fmt.Errorf("not ready: %w", err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("not ready: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s: %s", answer.Status, text)
	}
	return nil
}

// Serve runs the program that s is for until ctx ends and everything that was begun is settled.
// ready, unless nil, is called once with the addresses when it serves; that of operators is nil where it is off.
func Serve(ctx context.Context, s config.Settings, stdout, stderr io.Writer, ready func(public, admin net.Addr)) error {
	log, logged := openLog(s, stderr)
	defer logged.Close()
	return serve(ctx, s, stdout, log, logged, ready, nil)
}

// serve is Serve with a log, and reads what can change again whenever reload says so.
func serve(ctx context.Context, s config.Settings, stdout io.Writer, log *slog.Logger, logged *lines, ready func(public, admin net.Addr), reload <-chan os.Signal) error {
	var secure *tls.Config
	var pair *keyPair
	if s.TLSCert != "" {
		pair = &keyPair{cert: s.TLSCert, key: s.TLSKey}
		if _, err := pair.read(); err != nil {
			return fmt.Errorf("--tls-cert and --tls-key cannot be used: %w", err)
		}
		secure = &tls.Config{GetCertificate: pair.get, MinVersion: tls.VersionTLS12}
	}
	if name := lockName(s); name != "" {
		held, err := lock(s.Data, name)
		if err != nil {
			return err
		}
		defer held.Close()
	}
	plain, err := listen(ctx, "listen", s.Listen)
	if err != nil {
		return err
	}
	var server *http.Server // set before anybody is accepted
	listener := newPatient(plain, log, func() {
		// Connections that wait for their next request are closed.
		server.SetKeepAlivesEnabled(false)
		server.SetKeepAlivesEnabled(true)
	})
	defer listener.Close()
	operators, err := openOperators(ctx, s, secure)
	if err != nil {
		return err
	}
	defer operators.Close()
	loopback := isLoopback(listener.Addr())
	printed := s.DocsPassword == "" && !loopback
	if s.DocsPassword == "" {
		s.DocsPassword = "linkdocspass"
		if !loopback {
			s.DocsPassword = rand.Text()
		}
	}
	publicURL, dial := wire.Addresses(s, listener.Addr())
	var app *wire.App
	// What was opened before the start failed, or was given up, has to be closed too.
	begun, err := leave(after(ctx, endTimeout), func() (err error) {
		app, err = wire.New(ctx, s, publicURL, dial, log)
		return err
	})
	switch {
	case !begun:
		return errors.New("the start was given up, while something still waited for a server that does not answer")
	case err != nil:
		return err
	}
	server = newServer(app.Handler, secure, secure != nil || strings.HasPrefix(publicURL, "https://"), log)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Nobody is let in before the parts run: connections that wait already could take the descriptors
	// that the parts need to begin, and the program would end.
	running, began := make(chan error, 1), make(chan struct{})
	go func() {
		err := app.Run(ctx, func() { close(began) })
		cancel()
		running <- err
	}()
	select {
	case <-began:
	case <-ctx.Done(): // before anybody was let in
		return end(ctx, app, log, func() error { return <-running })
	}
	served := make(chan error, 1)
	go func() {
		var err error
		if secure != nil {
			err = server.ServeTLS(listener, "", "")
		} else {
			err = server.Serve(listener)
		}
		if errors.Is(err, http.ErrServerClosed) {
			err = nil
		}
		served <- err
		cancel()
	}()
	operators.serve(app.Admin, log)
	for _, note := range s.Notes {
		log.Info(note)
	}
	if len(s.Unused) > 0 {
		log.Debug("variables are set that mean something to other programs of Parley only", "variables", s.Unused)
	}
	logged.Flush()
	say(stdout, greeting(s, publicURL, operators.url(s), dial, printed))
	if !loopback && s.MailSender == "dev:" {
		readers := "which opens on this machine alone"
		if s.DevMailbox == "public" {
			readers = "which everybody who reaches this address can read"
		}
		log.Warn("mails are not sent: they are kept for /dev/mail, "+readers, "sender", s.MailSender)
	}
	if ready != nil {
		ready(listener.Addr(), operators.addr())
	}
	go func(s config.Settings) {
		var look <-chan time.Time // nil, which never comes, without a certificate
		if pair != nil {
			ticker := time.NewTicker(certificateInterval)
			defer ticker.Stop()
			look = ticker.C
		}
		for {
			select {
			case <-reload:
				s = reread(ctx, s, app, pair, log)
			case <-look:
				pair.follow(ctx, log)
			case <-ctx.Done():
				return
			}
		}
	}(s)
	stopped := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(stopped)
		log.Info("shutting down")
		grace, enough := context.WithTimeout(context.Background(), requestsTimeout)
		defer enough()
		if server.Shutdown(grace) != nil {
			_ = server.Close()
		}
	})
	return end(ctx, app, log, func() error {
		err := <-running
		<-stopped
		operators.shutdown() // last, so that the end can be watched
		return errors.Join(err, <-served)
	})
}

// end waits until what runs has settled, and closes what is open, both within endTimeout after ctx has ended.
func end(ctx context.Context, app *wire.App, log *slog.Logger, settle func() error) error {
	patience := after(ctx, endTimeout)
	settled, err := leave(patience, settle)
	if !settled {
		return fmt.Errorf("the end was not in order: after %v something still waits for a server that does not answer", endTimeout)
	}
	// All is settled by now: a connection that cannot say goodbye is no failure.
	switch closed, failed := leave(patience, app.Close); {
	case !closed:
		log.Warn("connections were left open at the end: their servers do not answer")
	case failed != nil:
		log.Warn("connections did not end in order", "error", failed)
	}
	return err
}

const (
	// endTimeout bounds the end, whatever does not answer: whoever ends a program kills it soon after.
	endTimeout = 9200 * time.Millisecond
	// requestsTimeout is how much of it requests under way may take: a body that stalls takes longer, and
	// is cut off while there is time to settle the rest.
	requestsTimeout = 6 * time.Second
)

// after returns what is closed so long after ctx has ended.
func after(ctx context.Context, d time.Duration) <-chan struct{} {
	over := make(chan struct{})
	context.AfterFunc(ctx, func() { time.AfterFunc(d, func() { close(over) }) })
	return over
}

// leave calls do, and leaves it to itself when patience ends; done is false then.
func leave(patience <-chan struct{}, do func() error) (done bool, err error) {
	ended := make(chan error, 1)
	go func() { ended <- do() }()
	select {
	case err := <-ended:
		return true, err
	case <-patience:
		return false, nil
	}
}

// lockName is the file that keeps other processes off what this one keeps in the data folder;
// empty if there is nothing. The keys of auth may be shared.
func lockName(s config.Settings) string {
	switch {
	case s.Program == config.Parley:
		return "lock"
	case s.MailSender == "dev:", strings.HasPrefix(s.Store, "sqlite:"):
		return string(s.Program) + ".lock"
	}
	return ""
}

// greeting says where to go.
func greeting(s config.Settings, publicURL, admin, dial string, printed bool) string {
	w := &strings.Builder{}
	names := map[config.Program]string{config.Parley: "Parley", config.Auth: "Parley's auth service", config.Mailer: "Parley's mailer", config.Socket: "This socket node"}
	at := publicURL
	if s.Program == config.Mailer || s.Program == config.Socket {
		at = "http://" + dial // the public URL is another's
		if s.TLSCert != "" {
			at = "https://" + dial
		}
	}
	fmt.Fprintf(w, "%s is at %s\n", names[s.Program], at)
	if s.MailSender == "dev:" {
		fmt.Fprintf(w, "  mailbox   %s/dev/mail\n", at)
	}
	if printed {
		fmt.Fprintf(w, "  API docs  %s/api-docs (%s / %s)\n", at, s.DocsUser, s.DocsPassword)
	} else {
		fmt.Fprintf(w, "  API docs  %s/api-docs\n", at)
	}
	if admin != "" {
		fmt.Fprintf(w, "  admin     %s\n", admin)
	}
	if lockName(s) != "" || s.Program == config.Auth {
		fmt.Fprintf(w, "  data      %s\n", s.Data)
	}
	return w.String()
}

func isLoopback(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	return ok && t.IP.IsLoopback()
}
