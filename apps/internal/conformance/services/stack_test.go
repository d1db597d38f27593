package services_test

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/apps/internal/conformance/compose"
	"github.com/parley-chat/parley/apps/internal/conformance/mailserver"
)

// programs is the folder of the three programs, built once for all tests.
var programs string

func TestMain(m *testing.M) { os.Exit(withPrograms(m.Run)) }

func withPrograms(tests func() int) int {
	if flag.Parse(); testing.Short() {
		return tests() // none of which runs a program then
	}
	folder, err := os.MkdirTemp("", "parley-services-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	programs = folder
	// As in the Dockerfile.
	build := exec.Command("go", "build", "-trimpath", "-o", folder, "./apps/auth", "./apps/mailer", "./apps/socket")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "the programs cannot be built: %v\n%s", err, out)
		return 1
	}
	return tests()
}

// root is the folder of docker-compose.yaml.
const root = "../../../.."

// stack is what docker-compose.yaml starts, as processes on the loopback interface.
type stack struct {
	file     *compose.File
	mails    *mailserver.Server
	services map[string]*service
	// url is where the API is, and sockets where two nodes are, in url.URL's form of a base: those of the
	// proxy where there is one.
	url     string
	sockets [2]string
	proxy   *process // nil where nginx is not installed
}

// service is one of the programs, as the compose file tells it to run.
type service struct {
	name, program, address string
	operators              string // the address where they are served
	environment            []string
	running                *process
}

// order is that of the compose file's depends_on.
var order = []string{"auth", "mailer", "socket-1", "socket-2"}

// start brings up a stack with its servers at these addresses, by the names that the compose file
// has for them.
func start(t *testing.T, f *compose.File, servers map[string]string) *stack {
	t.Helper()
	s := &stack{file: f, mails: mailserver.Start(t), services: map[string]*service{}}
	addresses := map[string]string{"mailcatcher": s.mails.Address}
	for name, address := range servers {
		addresses[name] = address
	}
	for _, name := range order {
		addresses[name] = freeAddress(t)
	}
	for name, of := range f.Services {
		if of.Build == nil {
			continue
		}
		require.Contains(t, order, name)
		operators := freeAddress(t)
		s.services[name] = &service{
			name: name, program: filepath.Join(programs, filepath.Base(of.Entrypoint[0])), address: addresses[name], operators: operators,
			environment: onLoopback(t, of.Environment, addresses[name], operators, addresses),
		}
	}
	require.Len(t, s.services, len(order))
	for _, name := range order {
		s.services[name].start(t)
	}
	s.url = "http://" + addresses["auth"]
	s.sockets = [2]string{"ws://" + addresses["socket-1"] + "/socket", "ws://" + addresses["socket-2"] + "/socket"}
	return s
}

// onLoopback is the environment of a service, with addresses that are here. Nothing else differs
// from what the container gets, unless a server knows no users.
func onLoopback(t *testing.T, told map[string]string, own, operators string, addresses map[string]string) []string {
	t.Helper()
	var environment []string
	for key, value := range told {
		switch key {
		case "PARLEY_LISTEN":
			value = own
		case "PARLEY_ADMIN_LISTEN":
			value = operators
		case "PARLEY_DATA":
			value = t.TempDir()
		case "PARLEY_TRUSTED_PROXIES":
			value = "127.0.0.1"
		default:
			u, err := url.Parse(value)
			if err != nil || u.Host == "" || u.Hostname() == "localhost" {
				break
			}
			address, ok := addresses[u.Hostname()]
			require.True(t, ok, "%s leads to %s, which is not here", key, u.Hostname())
			if u.Host = strings.TrimPrefix(address, anonymous); u.Host != address {
				u.User = nil
			}
			value = u.String()
		}
		environment = append(environment, key+"="+value)
	}
	slices.Sort(environment)
	return environment
}

// start starts the program and waits until it says that it is healthy, as the compose file asks it.
func (s *service) start(t *testing.T) {
	t.Helper()
	cmd := exec.Command(s.program)
	cmd.Env, cmd.Dir = clean(s.environment...), t.TempDir()
	s.running = launch(t, s.name, cmd)
	eventually(t, s.name+" is healthy", func(context.Context) bool {
		select {
		case <-s.running.exited:
			require.FailNow(t, s.name+" ended", "%v: %s", s.running.err, s.running.log.String())
		default:
		}
		return s.healthcheck(t) == 0
	})
}

// healthcheck returns the exit code of the compose file's health check.
func (s *service) healthcheck(t *testing.T) int {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), s.program, "healthcheck")
	cmd.Env = clean(s.environment...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		require.NoError(t, err)
	}
	code := cmd.ProcessState.ExitCode()
	if code != 0 {
		assert.Regexp(t, `^`+filepath.Base(s.program)+`: not ready: [^\n]*\n$`, string(out), "one line says why")
	}
	return code
}

// ready returns the status of /readyz, 0 if there is no answer.
func (s *service) ready(ctx context.Context) int {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.address+"/readyz", nil)
	if err != nil {
		return 0
	}
	answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		return 0
	}
	_ = answer.Body.Close() // its status is enough
	return answer.StatusCode
}

// stop asks the program to end, and wants it to end well, in time, and without saying that it is ready.
func (s *service) stop(t *testing.T) {
	t.Helper()
	require.Equal(t, http.StatusOK, s.ready(t.Context()), s.name)
	require.NoError(t, s.running.cmd.Process.Signal(syscall.SIGTERM))
	late := time.NewTimer(10 * time.Second) // it is promised
	defer late.Stop()
	said := false
	for {
		select {
		case <-s.running.exited:
			require.NoError(t, s.running.err, "%s: %s", s.name, s.running.log.String())
			assert.NotZero(t, s.healthcheck(t), "%s is healthy after its end", s.name)
			return
		case <-late.C:
			require.FailNow(t, s.name+" has not ended after 10s", s.running.log.String())
		default:
			draining := strings.Contains(s.running.log.String(), "shutting down")
			if draining && s.ready(t.Context()) == http.StatusOK && said {
				require.FailNow(t, s.name+" says that it is ready, and ends")
			}
			said = draining
		}
	}
}

var (
	upstream = regexp.MustCompile(`server ([\w-]+):\d+ resolve\b`)
	resolver = regexp.MustCompile(`(?m)^\s*resolver .*\n`)
)

// throughProxy puts nginx before the services, with the configuration of the compose file and other addresses.
func (s *stack) throughProxy(t *testing.T) {
	t.Helper()
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		if nginx, err = exec.LookPath("/usr/sbin/nginx"); err != nil {
			t.Run("the proxy", func(t *testing.T) { t.Skip("nginx is not installed: requests go straight to the services") })
			return
		}
	}
	text, err := os.ReadFile(filepath.Join(s.file.Folder, "apps", "deploy", "nginx.conf"))
	require.NoError(t, err)
	address, folder := freeAddress(t), t.TempDir()
	conf := resolver.ReplaceAllString(string(text), "") // Docker's; and names are looked up at run time since nginx 1.27.3 only
	require.NotEqual(t, string(text), conf)
	conf = upstream.ReplaceAllStringFunc(conf, func(line string) string {
		return "server " + s.services[upstream.FindStringSubmatch(line)[1]].address
	})
	temporary := "http {\n"
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temporary += kind + "_temp_path " + filepath.Join(folder, kind) + ";\n"
	}
	conf = strings.NewReplacer("listen 8080;", "listen "+address+";", "/tmp/nginx.pid", filepath.Join(folder, "pid"), "http {\n", temporary,
		"/dev/stdout", filepath.Join(folder, "access.log"), "/dev/stderr", "stderr", "worker_processes auto", "worker_processes 1").Replace(conf)
	require.NoError(t, os.Chmod(filepath.Dir(folder), 0o755)) //nolint:gosec // its workers may be another user
	require.NoError(t, os.Chmod(folder, 0o777))               //nolint:gosec // the same
	file := filepath.Join(folder, "nginx.conf")
	require.NoError(t, os.WriteFile(file, []byte(conf), 0o600))
	s.proxy = launch(t, "nginx", exec.Command(nginx, "-e", "stderr", "-p", folder, "-c", file, "-g", "daemon off;"))
	listening(t, s.proxy, address)
	t.Cleanup(func() { // a killed master would leave its workers behind
		_ = s.proxy.cmd.Process.Signal(syscall.SIGTERM)
		<-s.proxy.exited
		log, err := os.ReadFile(filepath.Join(folder, "access.log"))
		if assert.NoError(t, err) && !t.Failed() {
			assert.NotContains(t, string(log), "hidden-by-", "the name of a room is what people have written")
			for _, name := range order {
				if name == "mailer" { // what it serves is for operators, on an address of its own
					assert.NotContains(t, string(log), s.services[name].address, "somebody was led to %s", name)
					continue
				}
				assert.Contains(t, string(log), s.services[name].address, "nobody was led to %s", name)
			}
			assert.NotContains(t, string(log), "ticket=", "what is in queries is secret")
			assert.NotContains(t, string(log), "whispered", "names of rooms are what people have written")
		}
	})
	s.url = "http://" + address
	s.sockets = [2]string{"ws://" + address + "/socket", "ws://" + address + "/socket"}
}
