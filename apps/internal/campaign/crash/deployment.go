package crash

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/testkit/local"
)

// victim is a server that suffers faults. What is nil cannot be done to it.
type victim struct {
	name                        string
	kill, restart, freeze, thaw func(context.Context) error
}

// faults returns those of the wanted faults that can be done to it.
func (v victim) faults(wanted []string) []string {
	var all []string
	if v.kill != nil && v.restart != nil && slices.Contains(wanted, killing) {
		all = append(all, killing)
	}
	if v.freeze != nil && v.thaw != nil && slices.Contains(wanted, freezing) {
		all = append(all, freezing)
	}
	return all
}

// deployment is what the clients use.
type deployment struct {
	urls    []string
	victims []victim
	// mails returns new mails, by node. It may return some again.
	mails func(ctx context.Context) map[string][]letter
	// alive returns an error if something is wrong with the servers that does not heal by itself. It starts nodes again that have ended.
	alive func() error
	// again counts how often alive has started a node again. Nil if nobody knows.
	again func() int
	close func() error
	about string
}

// given returns the deployment at --url, which runs already.
func given(c config.Crash) (*deployment, error) {
	d := &deployment{about: strings.Join(c.URL, " "), alive: func() error { return nil }, close: func() error { return nil }}
	for _, u := range c.URL {
		d.urls = append(d.urls, strings.TrimRight(u, "/"))
	}
	d.mails = func(ctx context.Context) map[string][]letter {
		all := map[string][]letter{}
		for _, u := range d.urls {
			status, text, err := ask(ctx, http.MethodGet, u+"/dev/mail.json", nil)
			var letters []letter
			if err == nil && status == http.StatusOK && json.Unmarshal(text, &letters) == nil {
				all[""] = append(all[""], letters...) // several nodes may have one mailbox
			}
		}
		return all
	}
	by := func(name string, commands map[string]string) func(context.Context) error {
		command := commands[name]
		if command == "" {
			return nil
		}
		return func(ctx context.Context) error {
			// What the command starts may keep its output open. A pipe would wait for that; a file does not.
			out, err := os.CreateTemp("", "parley-crash-")
			if err != nil {
				return err
			}
			defer os.Remove(out.Name())
			defer out.Close()
			cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command) //nolint:gosec // the user wrote it
			cmd.Stdout, cmd.Stderr = out, out
			if err := cmd.Run(); err != nil {
				text, _ := os.ReadFile(out.Name())
				return fmt.Errorf("%s: %s: %w: %s", name, command, err, bytes.TrimSpace(text))
			}
			return nil
		}
	}
	names := map[string]bool{}
	for _, m := range []map[string]string{c.Kill, c.Restart, c.Freeze, c.Thaw} {
		for name := range m {
			names[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		v := victim{name, by(name, c.Kill), by(name, c.Restart), by(name, c.Freeze), by(name, c.Thaw)}
		if (v.kill == nil) != (v.restart == nil) || (v.freeze == nil) != (v.thaw == nil) {
			return nil, fmt.Errorf("crash: %s has --kill without --restart, or --freeze without --thaw, or the other way round", name)
		}
		d.victims = append(d.victims, v)
	}
	if len(d.victims) == 0 {
		return nil, errors.New("crash: --url needs to know whom to kill: --kill NAME=COMMAND and --restart NAME=COMMAND, or --freeze and --thaw")
	}
	return d, nil
}

// The servers that [own] starts.
const (
	startPostgres = "postgres"
	startMySQL    = "mysql"
	startMongo    = "mongo"
	startRedis    = "redis"
	startKafka    = "kafka"
)

// own starts a deployment of its own: nodes of this program, and the servers that are asked for.
func own(ctx context.Context, s config.Settings, c config.Crash) (d *deployment, err error) {
	d = &deployment{}
	var processes []*local.Process
	d.close = func() error {
		var failed []error
		for _, p := range slices.Backward(processes) {
			failed = append(failed, p.Thaw(), p.Close())
		}
		return errors.Join(failed...)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	start := func(kind string, p *local.Process) error {
		processes = append(processes, p)
		if err := p.Start(ctx); err != nil {
			return fmt.Errorf("crash: start %s: %w", p.Name, err)
		}
		d.victims = append(d.victims, victim{
			kind, just(p.Kill), p.Start, just(p.Freeze), just(p.Thaw),
		})
		return nil
	}
	shared := !strings.HasPrefix(s.Store, "sqlite:") && !strings.HasPrefix(s.Store, "memory:")
	parts := []string{}
	for _, what := range c.Start {
		var p *local.Process
		kind := "store"
		switch what {
		case startPostgres:
			server, err := local.Postgres(ctx, local.SQLOptions{})
			if err != nil {
				return d, fmt.Errorf("crash: PostgreSQL: %w", err)
			}
			p, s.Store = server.Process, server.URL
		case startMySQL:
			server, err := local.MySQL(ctx, local.SQLOptions{})
			if err != nil {
				return d, fmt.Errorf("crash: MariaDB: %w", err)
			}
			p, s.Store = server.Process, server.URL
		case startMongo:
			server, err := local.Mongo(c.MongoJars)
			if err != nil {
				return d, fmt.Errorf("crash: mongo-java-server: %w", err)
			}
			p, s.Store = server.Process, server.URL
		case startRedis:
			server, err := local.Redis(local.RedisOptions{AppendOnly: true})
			if err != nil {
				return d, fmt.Errorf("crash: Redis: %w", err)
			}
			p, s.Redis, kind = server.Process, server.URL, "cache"
		case startKafka:
			server, err := local.Kafka(ctx, c.KafkaJars, local.KafkaOptions{})
			if err != nil {
				return d, fmt.Errorf("crash: Kafka: %w", err)
			}
			p, s.Bus, kind = server.Process, server.URL(), "broker"
		}
		shared = shared || kind == "store"
		if err := start(kind, p); err != nil {
			return d, err
		}
		parts = append(parts, p.Name)
	}
	if !shared {
		parts = slices.Insert(parts, 0, strings.SplitN(s.Store, ":", 2)[0])
	}
	nodes := c.Nodes
	if nodes == 0 {
		nodes = 1
		if shared && s.Redis != "" {
			nodes = 2
		}
	}
	if nodes > 1 && (!shared || s.Redis == "") {
		return d, errors.New("crash: several nodes need a store and a Redis that they share: --start postgres,redis, or --store and --redis")
	}
	d.about = fmt.Sprintf("%s; nodes: %d", strings.Join(parts, ", "), nodes)
	var folders []string
	var running []*node
	for i := range nodes {
		n, err := newNode(s, i, folders)
		if err != nil {
			return d, err
		}
		n.alone = !shared && s.Redis == "" && strings.HasPrefix(s.Bus, "memory:")
		processes = append(processes, n.Process)
		if err := n.Start(ctx); err != nil {
			return d, fmt.Errorf("crash: start this program: %w", err)
		}
		running, folders, d.urls = append(running, n), append(folders, n.data), append(d.urls, n.url)
		kind := "server"
		if nodes > 1 {
			kind = "node"
		}
		// Launch does not wait until it serves, so that a node may be killed while it starts.
		d.victims = append(d.victims, victim{kind, just(n.Kill), just(n.Launch), just(n.Freeze), just(n.Thaw)})
	}
	d.mails = func(context.Context) map[string][]letter { return mailsIn(running) }
	d.again = func() (times int) {
		for _, n := range running {
			times += n.again
		}
		return times
	}
	d.alive = func() error {
		for _, n := range running {
			if err := n.alive(); err != nil {
				return err
			}
		}
		return nil
	}
	return d, nil
}

// just makes a function without a context one that ignores it.
func just(do func() error) func(context.Context) error {
	return func(context.Context) error { return do() }
}

// node is this program, serving.
type node struct {
	*local.Process
	url   string
	data  string
	mails map[string]bool // files that were read
	log   int             // how many bytes of its log were searched
	alone bool            // it needs no other server, so that it must not end by itself
	again int             // how often it was started again after it had ended by itself
}

// keysFile is where the program keeps its keys in the data folder: nodes share them.
const keysFile = "keys.json"

func newNode(s config.Settings, number int, others []string) (*node, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, err := local.New(fmt.Sprintf("node-%d", number+1), false)
	if err != nil {
		return nil, err
	}
	address, err := local.FreeAddress()
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	n := &node{Process: p, url: "http://" + address, data: p.File("data"), mails: map[string]bool{}}
	if err := os.Mkdir(n.data, 0o700); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	if len(others) > 0 {
		keys, err := os.ReadFile(filepath.Join(others[0], keysFile))
		if err == nil {
			err = os.WriteFile(filepath.Join(n.data, keysFile), keys, 0o600)
		}
		if err != nil {
			return nil, errors.Join(err, p.Close())
		}
	}
	store := s.Store
	if strings.HasPrefix(store, "sqlite:") {
		store = "sqlite:" + filepath.Join(n.data, "parley.db")
	}
	args := []string{
		"serve", "--listen", address, "--admin-listen", config.Off, "--data", n.data, "--transport", s.Transport,
		"--log-level", "warn", "--log-format", "text", "--mail-sender", "dev:", "--access-ttl", "24h", "--socket-rate=-1",
		"--mail-burst", "1000000", "--signin-burst", "1000000", "--code-burst", "1000000", "--handshake-burst", "10000000",
	}
	p.Command = func() (*exec.Cmd, error) {
		cmd := exec.CommandContext(context.Background(), self, args...) //nolint:gosec // it is this program
		for _, pair := range os.Environ() {
			if !strings.HasPrefix(pair, "PARLEY_") {
				cmd.Env = append(cmd.Env, pair)
			}
		}
		// These may hold passwords. In arguments others on this machine could read them.
		cmd.Env = append(cmd.Env, "PARLEY_STORE="+store, "PARLEY_REDIS="+s.Redis, "PARLEY_BUS="+s.Bus)
		cmd.Dir = n.data
		return cmd, nil
	}
	p.Ready = ready(n.url)
	p.Patience = time.Minute
	return n, nil
}

// ready asks a node whether it is.
func ready(url string) func(context.Context) error { return local.Answering(url + "/readyz") }

// alive starts the node again if it has ended by itself, as a supervisor does: it ends if a server is away when it starts. It returns
// an error if the log tells of a bug of the program.
func (n *node) alive() error {
	text, err := n.Log()
	if err != nil {
		return err
	}
	fresh := text[n.log:]
	for _, word := range []string{"DATA RACE", "panic", "goroutine ", "fatal error"} {
		if at := bytes.Index(fresh, []byte(word)); at >= 0 {
			return fmt.Errorf("%s complains: %.2000s", n.Name, fresh[at:])
		}
	}
	n.log = len(text)
	select {
	case <-n.Exited():
	default:
		return nil
	}
	if n.alone {
		return fmt.Errorf("%s has ended by itself: %.2000s", n.Name, text)
	}
	n.again++
	return n.Launch()
}

// mailsIn reads new mails from the folders of nodes. A folder keeps the newest mails only.
func mailsIn(nodes []*node) map[string][]letter {
	all := map[string][]letter{}
	for _, n := range nodes {
		files, _ := filepath.Glob(filepath.Join(n.data, "mail", "*.json")) // the pattern is right
		for _, file := range files {
			if n.mails[file] {
				continue
			}
			text, err := os.ReadFile(file)
			if errors.Is(err, fs.ErrNotExist) {
				continue // removed just now, as the oldest
			}
			var l letter
			if err == nil {
				err = json.Unmarshal(text, &l)
			}
			if err != nil {
				l = letter{ID: filepath.Base(file), To: notWhole}
			}
			n.mails[file] = true
			all[n.Name] = append(all[n.Name], l)
		}
	}
	return all
}
