package contract_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/parley-chat/parley"

// pkg is what `go list -json` says about a package. Imports are of non-test files only.
type pkg struct {
	ImportPath string
	Standard   bool
	Imports    []string
}

// graph holds packages by import path.
type graph map[string]pkg

// ours are the paths in this module without its prefix, sorted.
func (g graph) ours() []string {
	var paths []string
	for path, p := range g {
		if rest, ok := strings.CutPrefix(path, module+"/"); ok && !p.Standard {
			paths = append(paths, rest)
		}
	}
	slices.Sort(paths)
	return paths
}

// reach returns, for everything that path depends on, the package that leads there.
func (g graph) reach(path string) map[string]string {
	from := map[string]string{}
	queue := []string{path}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		if g[at].Standard {
			continue // what the standard library imports is its own business
		}
		for _, next := range g[at].Imports {
			if _, seen := from[next]; !seen && next != path {
				from[next] = at
				queue = append(queue, next)
			}
		}
	}
	return from
}

// chain is the way from one package to another, for the failure.
func chain(from map[string]string, to string) string {
	steps := []string{to}
	for at, ok := from[to]; ok; at, ok = from[at] {
		steps = append(steps, at)
	}
	slices.Reverse(steps)
	for i, s := range steps {
		steps[i] = strings.TrimPrefix(s, module+"/")
	}
	return strings.Join(steps, " → ")
}

// under reports whether path is dir or below it.
func under(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// importRule says what a package may depend on, through to the end of the chain.
type importRule struct {
	// name says what is forbidden, reason why.
	name, reason string
	// of chooses packages, by their path in the module.
	of func(path string) bool
	// forbids decides about one dependency: dep is a path in the module if ours is true,
	// and a full import path otherwise.
	forbids func(path, dep string, ours, standard bool) bool
	// direct looks at the package's own imports only.
	direct bool
}

// order is what each core package may import besides the standard library.
var order = map[string][]string{
	"core/fault":   {},
	"core/problem": {"core/fault"},

	"core/internal/visible":  {},
	"core/internal/jsontext": {},
	"core/settings":          {},

	"core/event":    {"core/settings", "core/fault"},
	"core/audit":    {"core/settings", "core/fault", "core/event"},
	"core/user":     {"core/settings", "core/internal/visible", "core/fault", "core/event"},
	"core/health":   {"core/fault"},
	"core/mail":     {"core/settings", "core/internal/visible", "core/fault", "core/event", "core/user", "core/health"},
	"core/webhook":  {"core/settings", "core/internal/visible", "core/fault", "core/event", "core/user", "core/health", "core/mail"},
	"core/chat":     {"core/settings", "core/internal/jsontext", "core/internal/visible", "core/fault", "core/event", "core/user", "core/health"},
	"core/auth":     {"core/settings", "core/internal/visible", "core/fault", "core/event", "core/user", "core/health", "core/mail", "core/webhook"},
	"core/socket":   {"core/settings", "core/internal/visible", "core/fault", "core/problem", "core/event", "core/user"},
	"core/protocol": {"core/settings", "core/internal/jsontext", "core/internal/visible", "core/fault", "core/problem", "core/event", "core/user", "core/health", "core/chat", "core/socket"},
	"core/realtime": {"core/settings", "core/internal/jsontext", "core/internal/visible", "core/fault", "core/problem", "core/event", "core/user", "core/health", "core/chat", "core/socket", "core/protocol"},
	"core/parley":   {"core/settings", "core/internal/jsontext", "core/internal/visible", "core/fault", "core/problem", "core/event", "core/user", "core/health", "core/mail", "core/webhook", "core/chat", "core/auth", "core/audit", "core/socket", "core/protocol", "core/realtime"},
}

// between are the adapters that may import another one.
var between = map[string][]string{
	"adapters/kafkabus": {"adapters/watermillbus"},
	"adapters/socketio": {"adapters/nbiows", "adapters/netws"},
}

func adapter(path string) (name string, ok bool) {
	parts := strings.Split(path, "/")
	if len(parts) < 2 || parts[0] != "adapters" {
		return "", false
	}
	return "adapters/" + parts[1], true
}

// coreOnly forbids everything but the standard library and core.
func coreOnly(_, dep string, ours, standard bool) bool {
	return !standard && (!ours || !under(dep, "core"))
}

func is(paths ...string) func(string) bool {
	return func(path string) bool { return slices.Contains(paths, path) }
}

var importRules = []importRule{
	{
		name: "core imports the standard library and core, in order", reason: "the rules must not depend on a vendor, and the order keeps the subjects apart",
		of: func(path string) bool { return under(path, "core") },
		forbids: func(path, dep string, ours, standard bool) bool {
			if standard {
				return false
			}
			allowed, known := order[path]
			return !known || !ours || !slices.Contains(allowed, dep)
		},
	},
	{
		name: "below core/socket nothing reaches net/http", reason: "rules do not know how somebody asks, and who uses accounts or chat alone links no HTTP server",
		of: func(path string) bool {
			return under(path, "core") && !is("core/problem", "core/socket", "core/protocol", "core/realtime", "core/parley")(path)
		},
		forbids: func(_, dep string, ours, standard bool) bool {
			return standard && under(dep, "net/http") || ours && dep == "core/problem"
		},
	},
	{
		name: "of core only problem and socket import net/http", reason: "a handshake is HTTP, and a problem document is; what stands on them is neither",
		of: is("core/protocol", "core/realtime", "core/parley"),
		forbids: func(_, dep string, ours, standard bool) bool {
			return standard && under(dep, "net/http") || ours && dep == "core/problem"
		},
		direct: true,
	},
	{
		name: "contract and testkit import the standard library and core", reason: "whoever tests an adapter of their own must not download ours",
		of: is("contract", "testkit", "testkit/faultproxy", "testkit/local", "testkit/packed", "testkit/wsraw"), forbids: coreOnly,
	},
	{
		name: "testkit/sim imports the standard library, core, testkit and memory", reason: "whoever simulates must not download what real stores need",
		of: is("testkit/sim"),
		forbids: func(_, dep string, ours, standard bool) bool {
			return !standard && (!ours || !under(dep, "core") && dep != "testkit" && dep != "adapters/memory")
		},
	},
	{
		name: "testkit/servers imports the standard library and testkit/local", reason: "whoever imports an adapter downloads what the adapter's tests import, which must not be every other server's driver",
		of: is("testkit/servers"),
		forbids: func(path, dep string, ours, standard bool) bool {
			return coreOnly(path, dep, ours, standard) && dep != "testkit/local"
		},
	},
	{
		name: "memory imports the standard library and core", reason: "core with memory is what a newcomer imports: it costs one module",
		of: is("adapters/memory"), forbids: coreOnly,
	},
	{
		name: "an adapter imports no other adapter", reason: "any of them must be able to become a module of its own",
		of: func(path string) bool { return under(path, "adapters") },
		forbids: func(path, dep string, ours, _ bool) bool {
			mine, _ := adapter(path)
			other, ok := adapter(dep)
			return ours && ok && other != mine && !slices.Contains(between[mine], other)
		},
	},
	{
		name: "an adapter imports neither testkit nor contract", reason: "what helps tests must not be in a program",
		of: func(path string) bool { return under(path, "adapters") },
		forbids: func(_, dep string, ours, _ bool) bool {
			return ours && (under(dep, "testkit") || under(dep, "contract"))
		},
	},
	{
		name: "nobody imports apps", reason: "apps choose and connect; what others need belongs below them",
		// testkit/system runs the whole system, which is what apps connect.
		of:      func(path string) bool { return !under(path, "apps") && !under(path, "testkit/system") },
		forbids: func(_, dep string, ours, _ bool) bool { return ours && under(dep, "apps") },
	},
	{
		name: "nothing but contract and testkit imports testing", reason: "testing puts its flags and its weight into every binary",
		of: func(path string) bool {
			return !under(path, "contract") && (!under(path, "testkit") || path == "testkit/local") && !under(path, "apps/internal/conformance")
		},
		forbids: func(_, dep string, _, standard bool) bool { return standard && under(dep, "testing") },
		// A vendor's own import of testing is not ours to forbid, but one of our packages is.
		direct: true,
	},
	{
		name: "no program holds testkit or contract", reason: "what helps tests must not be in a program",
		// apps/internal/conformance proves the programs, and is in none of them.
		of: func(path string) bool { return under(path, "apps") && !under(path, "apps/internal/conformance") },
		// testkit/local starts real servers for campaigns, which are tests that users run; it knows nothing of package testing.
		forbids: func(_, dep string, ours, _ bool) bool {
			return ours && (under(dep, "testkit") && dep != "testkit/local" || under(dep, "contract") || under(dep, "apps/internal/conformance"))
		},
	},
	{
		name: "of the programs only campaigns start servers", reason: "what serves finds its servers, and starts none",
		of: func(path string) bool {
			return under(path, "apps") && !under(path, "apps/internal/campaign") && !under(path, "apps/internal/conformance")
		},
		forbids: func(_, dep string, ours, _ bool) bool { return ours && dep == "testkit/local" },
		direct:  true,
	},
}

// violations returns one line for each dependency that a rule forbids, with the reason.
func violations(g graph, rules []importRule) []string {
	var found []string
	for _, path := range g.ours() {
		from := g.reach(module + "/" + path)
		for _, r := range rules {
			if !r.of(path) {
				continue
			}
			for _, dep := range slices.Sorted(maps.Keys(from)) {
				if r.direct && from[dep] != module+"/"+path {
					continue
				}
				// What a vendor imports is not news where the vendor itself is.
				if at := from[dep]; at != module+"/"+path && !strings.HasPrefix(at, module+"/") {
					continue
				}
				inside, ours := strings.CutPrefix(dep, module+"/")
				p, known := g[dep]
				standard := p.Standard || (!known && !strings.Contains(strings.SplitN(dep, "/", 2)[0], "."))
				if r.forbids(path, inside, ours, standard) {
					found = append(found, fmt.Sprintf("%s\n\trule:   %s\n\treason: %s", chain(from, dep), r.name, r.reason))
				}
			}
		}
	}
	return found
}

// list reads the import graph of this module, without the network.
func list(t *testing.T) graph {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-deps", "-json=ImportPath,Standard,Imports", "./...")
	cmd.Dir = root
	cmd.Env = append(cmd.Environ(), "GOFLAGS=-mod=readonly", "GOPROXY=off", "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			t.Fatalf("go list: %v\n%s", err, failed.Stderr)
		}
		t.Fatal(err)
	}
	g := graph{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		switch err := d.Decode(&p); {
		case errors.Is(err, io.EOF):
			return g
		case err != nil:
			t.Fatal(err)
		}
		g[p.ImportPath] = p
	}
}

func TestImports(t *testing.T) {
	g := list(t)
	ours := g.ours()
	for _, path := range []string{"core/auth", "core/realtime", "contract", "adapters/memory"} {
		if !slices.Contains(ours, path) {
			t.Fatalf("the graph has no %s: it is %q", path, ours)
		}
	}
	for _, v := range violations(g, importRules) {
		t.Error(v)
	}
}

// TestImportRulesCanFail shows the rules made-up graphs: each line is an importer and what it
// imports, and the rule, if any, that must say no.
func TestImportRulesCanFail(t *testing.T) {
	for _, c := range []struct {
		name    string
		imports map[string][]string
		rule    string
	}{
		{"a clean house", map[string][]string{
			"core/fault": {"errors"}, "core/event": {"core/fault"}, "core/user": {"core/internal/visible", "core/event"}, "core/mail": {"core/internal/visible", "core/user"},
			"core/auth": {"core/internal/visible", "core/mail", "core/user"}, "core/chat": {"core/internal/visible", "core/user"}, "core/realtime": {"core/internal/visible", "core/chat", "core/socket"},
			"core/problem": {"core/fault", "net/http"}, "core/socket": {"core/problem", "net/http"},
			"contract": {"core/auth", "testing"}, "testkit": {"core/mail", "testing"}, "adapters/memory": {"core/realtime", "sync"},
			"adapters/kafkabus": {"adapters/watermillbus", "example.com/kafka"}, "adapters/watermillbus": {"core/event", "example.com/watermill"},
			"apps/parley": {"adapters/memory", "apps/internal/wire"}, "apps/internal/wire": {"core/auth"},
			"testkit/servers": {"testkit/local", "testing"}, "apps/internal/campaign/crash": {"testkit/local"}, "apps/internal/run": {"apps/internal/campaign/crash"},
			"testkit/system": {"apps/internal/wire", "testing"}, "adapters/bunstore": {"adapters/bunstore/internal/rows", "example.com/bun"},
		}, ""},
		{"a vendor in core", map[string][]string{"core/user": {"core/internal/visible", "example.com/vendor"}}, "core imports the standard library and core, in order"},
		{"core against its order", map[string][]string{"core/event": {"core/user"}}, "core imports the standard library and core, in order"},
		{"core against its order, by a detour", map[string][]string{"core/chat": {"core/internal/visible", "core/user"}, "core/user": {"core/internal/visible", "core/event"}, "core/event": {"core/auth"}}, "core imports the standard library and core, in order"},
		{"siblings", map[string][]string{"core/realtime": {"core/internal/visible", "core/auth"}}, "core imports the standard library and core, in order"},
		{"an unknown package in core", map[string][]string{"core/misc": {"core/fault"}}, "core imports the standard library and core, in order"},
		{"core on an adapter", map[string][]string{"core/chat": {"core/internal/visible", "adapters/memory"}}, "core imports the standard library and core, in order"},
		{"HTTP in a rule", map[string][]string{"core/fault": {"net/http"}}, "below core/socket nothing reaches net/http"},
		{"HTTP in a rule, by a detour", map[string][]string{"core/chat": {"core/problem"}, "core/problem": {"net/http"}}, "below core/socket nothing reaches net/http"},
		{"HTTP in the hub", map[string][]string{"core/realtime": {"net/http/httputil"}}, "of core only problem and socket import net/http"},
		{"problem documents in the hub", map[string][]string{"core/realtime": {"core/problem"}}, "of core only problem and socket import net/http"},
		{"a vendor in contract", map[string][]string{"contract": {"example.com/assert"}}, "contract and testkit import the standard library and core"},
		{"a vendor in testkit, by a detour", map[string][]string{"testkit": {"testkit/sioclient"}, "testkit/sioclient": {"example.com/websocket"}}, "contract and testkit import the standard library and core"},
		{"a store in the simulation", map[string][]string{"testkit/sim": {"adapters/bunstore"}}, "testkit/sim imports the standard library, core, testkit and memory"},
		{"a vendor in memory", map[string][]string{"adapters/memory": {"example.com/lru"}}, "memory imports the standard library and core"},
		{"two adapters", map[string][]string{"adapters/humaapi": {"adapters/passhash"}}, "an adapter imports no other adapter"},
		{"two adapters, by a detour", map[string][]string{"adapters/humaapi": {"core/auth"}, "core/auth": {"core/internal/visible", "adapters/passhash"}}, "an adapter imports no other adapter"},
		{"the wrong way round", map[string][]string{"adapters/watermillbus": {"adapters/kafkabus"}}, "an adapter imports no other adapter"},
		{"an adapter on testkit", map[string][]string{"adapters/smtpmail": {"testkit"}}, "an adapter imports neither testkit nor contract"},
		{"an adapter on contract", map[string][]string{"adapters/smtpmail": {"contract"}}, "an adapter imports neither testkit nor contract"},
		{"an adapter on apps", map[string][]string{"adapters/humaapi": {"apps/web"}}, "nobody imports apps"},
		{"testing in an adapter", map[string][]string{"adapters/memory": {"testing"}}, "nothing but contract and testkit imports testing"},
		{"testing in what campaigns start", map[string][]string{"testkit/local": {"testing"}}, "nothing but contract and testkit imports testing"},
		{"testing/fstest in an app", map[string][]string{"apps/parley": {"testing/fstest"}}, "nothing but contract and testkit imports testing"},
		{"testkit in a program, by a detour", map[string][]string{"apps/parley": {"apps/internal/wire"}, "apps/internal/wire": {"testkit"}}, "no program holds testkit or contract"},
		{"testkit in a campaign", map[string][]string{"apps/internal/campaign/crash": {"testkit/servers"}}, "no program holds testkit or contract"},
		{"a program that starts servers", map[string][]string{"apps/internal/wire": {"testkit/local"}}, "of the programs only campaigns start servers"},
		{"a vendor in what campaigns start", map[string][]string{"testkit/local": {"example.com/driver"}}, "contract and testkit import the standard library and core"},
	} {
		t.Run(c.name, func(t *testing.T) {
			found := violations(made(c.imports), importRules)
			if c.rule == "" {
				if len(found) > 0 {
					t.Errorf("a clean house has violations:\n%s", strings.Join(found, "\n"))
				}
				return
			}
			i := slices.IndexFunc(found, func(v string) bool { return strings.Contains(v, "rule:   "+c.rule+"\n") })
			if i < 0 {
				t.Fatalf("nobody says %q; found:\n%s", c.rule, strings.Join(found, "\n"))
			}
			reason := importRules[slices.IndexFunc(importRules, func(r importRule) bool { return r.name == c.rule })].reason
			if !strings.Contains(found[i], reason) {
				t.Errorf("the failure does not say the reason %q:\n%s", reason, found[i])
			}
		})
	}
}

// made makes a graph. Paths without a dot in the first part are ours or the standard library's.
func made(imports map[string][]string) graph {
	full := func(path string) string {
		switch strings.SplitN(path, "/", 2)[0] {
		case "core", "adapters", "apps", "contract", "testkit":
			return module + "/" + path
		}
		return path
	}
	g := graph{}
	put := func(path string, deps ...string) {
		p := g[full(path)]
		p.ImportPath = full(path)
		p.Standard = full(path) == path && !strings.Contains(path, ".")
		for _, d := range deps {
			p.Imports = append(p.Imports, full(d))
		}
		g[full(path)] = p
	}
	for path, deps := range imports {
		put(path, deps...)
		for _, d := range deps {
			put(d)
		}
	}
	return g
}
