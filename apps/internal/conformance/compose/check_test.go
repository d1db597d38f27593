package compose

import (
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/parley-chat/parley/apps/internal/config"
)

// programs are where the programs listen unless they are told otherwise.
var programs = map[config.Program]string{config.Auth: "5002", config.Socket: "5003", config.Mailer: "5004"}

// operators are where they serve operators, inside.
var operators = map[config.Program]string{config.Auth: "6002", config.Socket: "6003", config.Mailer: "6004"}

// proxied are the programs that people use.
var proxied = []config.Program{config.Auth, config.Socket}

// needed is what each program must be told in a container, where its default would be wrong or weak.
var needed = map[config.Program][]string{
	config.Auth:   {"LISTEN", "ADMIN_LISTEN", "PUBLIC_URL", "DATA", "STORE", "BUS", "REDIS", "DOCS_USER", "DOCS_PASSWORD", "ADMIN_TOKEN", "TRUSTED_PROXIES"},
	config.Mailer: {"LISTEN", "ADMIN_LISTEN", "PUBLIC_URL", "DATA", "STORE", "BUS", "NODE", "JWKS_URL", "MAIL_SENDER", "MAIL_FROM", "DOCS_USER", "DOCS_PASSWORD", "ADMIN_TOKEN"},
	config.Socket: {"LISTEN", "ADMIN_LISTEN", "ADMIN_TOKEN", "STORE", "BUS", "REDIS", "NODE", "JWKS_URL", "TRUSTED_PROXIES"},
}

// checker collects what is wrong with a file.
type checker struct {
	*File
	profile string
	found   []string
	// of are the services that run each program.
	of map[config.Program][]string
	// told is what the programs make of their environment, by service.
	told map[string]config.Settings
}

// check returns what is wrong with f, one line each.
func check(f *File, profile string) []string {
	c := &checker{File: f, profile: profile, of: map[config.Program][]string{}, told: map[string]config.Settings{}}
	for _, name := range slices.Sorted(maps.Keys(f.Services)) {
		s := f.Services[name]
		if s.Build != nil {
			c.program(name, s)
		}
		c.service(name, s)
		c.dependencies(name, s)
	}
	c.together()
	c.stores()
	c.volumes()
	c.secrets()
	c.proxy()
	return c.found
}

func (c *checker) say(format string, args ...any) {
	c.found = append(c.found, fmt.Sprintf(format, args...))
}

// program loads the configuration as the program itself does.
func (c *checker) program(name string, s Service) {
	if len(s.Entrypoint) != 1 || !strings.HasPrefix(s.Entrypoint[0], "/usr/local/bin/") {
		c.say("%s: the entrypoint %q is none of the image's programs", name, s.Entrypoint)
		return
	}
	program := config.Program(filepath.Base(s.Entrypoint[0]))
	port, ok := programs[program]
	if !ok {
		c.say("%s: there is no program %s", name, program)
		return
	}
	c.of[program] = append(c.of[program], name)
	var environment []string
	for key, value := range s.Environment {
		if !strings.HasPrefix(key, "PARLEY_") {
			c.say("%s: %s is no setting", name, key)
		}
		if value == "" {
			c.say("%s: %s is empty", name, key)
		}
		environment = append(environment, key+"="+value)
	}
	for _, key := range needed[program] {
		if s.Environment["PARLEY_"+key] == "" {
			c.say("%s: PARLEY_%s is missing", name, key)
		}
	}
	slices.Sort(environment)
	settings, command, err := config.Load(program, s.Command, environment, io.Discard)
	if err != nil {
		c.say("%s: %v", name, err)
		return
	}
	if command.Name != "serve" {
		c.say("%s: it is told to %s", name, command.Name)
	}
	c.told[name] = settings
	for _, key := range settings.Unused {
		c.say("%s: %s is of no use to %s", name, key, program)
	}
	if settings.Listen != ":"+port {
		c.say("%s: it listens on %s, not on :%s", name, settings.Listen, port)
	}
	if want := ":" + operators[program]; settings.AdminListen != want {
		c.say("%s: operators are served on %s, not on %s", name, settings.AdminListen, want)
	}
	for _, p := range s.Ports {
		if want := "127.0.0.1:" + port + ":" + port; p != want {
			c.say("%s: the port is published as %s, not as %s", name, p, want)
		}
	}
	if want := []string{"CMD", s.Entrypoint[0], "healthcheck"}; !slices.Equal(s.Health.Test, want) {
		c.say("%s: its health is checked by %q, not by %q", name, s.Health.Test, want)
	}
	if !s.ReadOnly {
		c.say("%s: its files are not read-only", name)
	}
	if grace, err := time.ParseDuration(s.Grace); err != nil || grace < 10*time.Second {
		c.say("%s: a program may take 10s to end, and has %q", name, s.Grace)
	}
	mounted := slices.ContainsFunc(s.Volumes, func(v string) bool { return strings.HasSuffix(v, ":"+settings.Data) })
	if keeps := s.Environment["PARLEY_DATA"] != ""; keeps != mounted {
		c.say("%s: the data folder and its volume go together", name)
	}
}

// service checks what every service must have.
func (c *checker) service(name string, s Service) {
	if s.Build == nil {
		if image, tag, found := strings.Cut(s.Image, ":"); image == "" || !found || tag == "latest" {
			c.say("%s: the image %q has no fixed version", name, s.Image)
		}
	}
	switch s.Restart {
	case "unless-stopped":
		if len(s.Health.Test) == 0 {
			c.say("%s: it has no health check", name)
		}
		for _, d := range []string{s.Health.Interval, s.Health.Timeout} {
			if _, err := time.ParseDuration(d); err != nil && len(s.Health.Test) > 0 {
				c.say("%s: the health check has the time %q", name, d)
			}
		}
	case "on-failure": // it ends
	default:
		c.say("%s: restart is %q", name, s.Restart)
	}
	for _, p := range s.Ports {
		parts := strings.Split(p, ":")
		if len(parts) != 3 || parts[0] != "127.0.0.1" || parts[1] != parts[2] {
			c.say("%s: the port %s is published beyond this machine, or as another", name, p)
		}
	}
}

// dependencies checks that what a service waits for can come.
func (c *checker) dependencies(name string, s Service) {
	optional, there := 0, 0
	for _, on := range slices.Sorted(maps.Keys(s.DependsOn)) {
		d := s.DependsOn[on]
		needs, found := c.Services[on]
		if d.Required != nil && !*d.Required {
			optional++
			if !strings.Contains(c.Text, "\n  "+on+":\n") {
				c.say("%s: it waits for %s, which there is not", name, on)
			}
			if !found {
				continue
			}
			there++
		}
		switch {
		case !found:
			c.say("%s: it waits for %s, which there is not", name, on)
		case d.Condition == "service_healthy" && len(needs.Health.Test) == 0:
			c.say("%s: it waits for the health of %s, which is not checked", name, on)
		case d.Condition == "service_completed_successfully" && needs.Restart == "unless-stopped":
			c.say("%s: it waits for the end of %s, which does not end", name, on)
		case d.Condition != "service_healthy" && d.Condition != "service_completed_successfully":
			c.say("%s: it waits for %s to be %q", name, on, d.Condition)
		}
	}
	if optional > 0 && there != 1 {
		c.say("%s: %d of %d services are there that it waits for if there are", name, there, optional)
	}
}

// together checks what the programs must be told alike, or differently.
func (c *checker) together() {
	for program := range programs {
		if len(c.of[program]) == 0 {
			c.say("no service runs %s", program)
		}
	}
	if len(c.of[config.Socket]) < 2 {
		c.say("there are fewer than two socket nodes")
	}
	names := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(c.told)) {
		s := c.told[name]
		if s.Node != "" {
			if other, taken := names[s.Node]; taken {
				c.say("%s and %s have the same PARLEY_NODE", other, name)
			}
			names[s.Node] = name
		}
		if s.DocsUser != "" && (s.DocsUser != "linkdocs" || s.DocsPassword != "linkdocspass") {
			c.say("%s: the API documents are not for linkdocs / linkdocspass", name)
		}
		for _, other := range c.told {
			switch {
			case s.Bus != other.Bus:
				c.say("%s: the services do not share PARLEY_BUS", name)
			case s.Redis != "" && other.Redis != "" && s.Redis != other.Redis:
				c.say("%s: the services do not share PARLEY_REDIS", name)
			case s.PublicURL != "" && other.PublicURL != "" && s.PublicURL != other.PublicURL:
				c.say("%s: the services do not share PARLEY_PUBLIC_URL", name)
			case s.AdminToken != "" && other.AdminToken != "" && s.AdminToken != other.AdminToken:
				c.say("%s: the services do not share PARLEY_ADMIN_TOKEN", name)
			case (s.Store == other.Store) != (s.Program == other.Program):
				c.say("%s: services of one program share PARLEY_STORE, and no others", name)
			}
		}
		for key, address := range map[string]string{
			"STORE": s.Store, "BUS": s.Bus, "REDIS": s.Redis, "JWKS_URL": s.JWKSURL, "MAIL_SENDER": s.MailSender,
		} {
			if address != "" {
				c.reachable(name, key, address)
			}
		}
	}
	slices.Sort(c.found)
	c.found = slices.Compact(c.found)
}

// reachable checks that an address is that of a service, which is waited for.
func (c *checker) reachable(name, key, address string) {
	u, err := url.Parse(address)
	if err != nil {
		c.say("%s: PARLEY_%s is no URL", name, key)
		return
	}
	of, found := c.Find(u.Hostname())
	if !found {
		c.say("%s: PARLEY_%s leads to %s, which there is not", name, key, u.Hostname())
		return
	}
	if key == "JWKS_URL" && (u.Port() != "5002" || u.Path != "/.well-known/jwks.json" || filepath.Base(of.Entrypoint[0]) != "auth") {
		c.say("%s: PARLEY_JWKS_URL does not lead to the keys", name)
	}
	waits := slices.ContainsFunc(slices.Collect(maps.Keys(c.Services[name].DependsOn)), func(on string) bool {
		return c.Services[on].Image != "" && (on == u.Hostname() || slices.Contains(c.Services[on].Aliases, u.Hostname()))
	})
	if !waits && key != "JWKS_URL" { // which is asked again
		c.say("%s: it does not wait for %s", name, u.Hostname())
	}
}

// stores checks that each program has a database that the scripts make.
func (c *checker) stores() {
	script := map[string]string{"mongodb": "apps/deploy/mongodb.js", "postgres": "apps/deploy/postgres.sh"}[c.profile]
	text, err := os.ReadFile(filepath.Join(c.Folder, filepath.FromSlash(script)))
	if err != nil {
		c.say("the profile %s makes no databases: %v", c.profile, err)
		return
	}
	for _, name := range slices.Sorted(maps.Keys(c.told)) {
		u, err := url.Parse(c.told[name].Store)
		if err != nil {
			continue
		}
		user := u.User.Username()
		if u.Scheme != c.profile || u.Host != "database" || u.Path != "/"+user || user != "parley_"+string(c.told[name].Program) {
			c.say("%s: PARLEY_STORE is not the program's own database on %s", name, c.profile)
		}
		if !regexp.MustCompile(`\b` + regexp.QuoteMeta(user) + `\b`).Match(text) {
			c.say("%s: %s does not make %s", name, script, user)
		}
	}
}

// volumes checks that volumes are declared and used, and that mounted files exist.
func (c *checker) volumes() {
	for _, name := range slices.Sorted(maps.Keys(c.Services)) {
		for _, v := range c.Services[name].Volumes {
			source, _, _ := strings.Cut(v, ":")
			if !strings.HasPrefix(source, ".") {
				if _, declared := c.Volumes[source]; !declared {
					c.say("%s: the volume %s is not declared", name, source)
				}
				continue
			}
			if !strings.HasSuffix(v, ":ro") {
				c.say("%s: %s could be written to", name, source)
			}
			if info, err := os.Stat(filepath.Join(c.Folder, source)); err != nil || info.IsDir() {
				c.say("%s: %s is no file", name, source)
			}
		}
	}
	for v := range c.Volumes {
		if !strings.Contains(c.Text, v+":/") {
			c.say("nobody uses the volume %s", v)
		}
	}
}

var (
	secretName   = regexp.MustCompile(`PASSWORD|TOKEN|SECRET|AUTH:|JAAS`)
	secretPart   = regexp.MustCompile(`://[^/\s@:$]*:([^/\s@]+)@|(?:password|user_\w+)="([^"]+)"|--requirepass, "([^"]+)"`)
	defaulted    = regexp.MustCompile(`\$\{(\w+):-[^}]*\}`)
	wholeDefault = regexp.MustCompile(`^\$\{\w+:-[^}]*\}$`)
)

// secrets checks that every secret is a default that can be overridden, and marked as one.
func (c *checker) secrets() {
	for n, line := range strings.Split(c.Text, "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		line, comment, _ := strings.Cut(line, " #")
		var values []string
		if key, value, found := strings.Cut(strings.TrimSpace(line), ": "); found && secretName.MatchString(key+":") && !strings.Contains(value, "LoginModule") {
			values = append(values, value)
		}
		for _, m := range secretPart.FindAllStringSubmatch(line, -1) {
			values = append(values, strings.Join(m[1:], ""))
		}
		for _, v := range values {
			if strings.HasPrefix(v, "$$") {
				continue // of the container's own environment
			}
			if !wholeDefault.MatchString(v) {
				c.say("line %d: a secret that cannot be overridden", n+1)
			}
		}
		for _, m := range defaulted.FindAllStringSubmatch(line, -1) {
			if secretName.MatchString(m[1] + ":") {
				values = append(values, m[0])
			}
		}
		if len(values) > 0 && !strings.Contains(comment, "development only") && !strings.Contains(line, "$$") {
			c.say("line %d: a secret that is not marked as of development only", n+1)
		}
	}
}

// upstream is a server that the proxy knows.
var upstream = regexp.MustCompile(`(?m)^\s*server ([\w.-]+):(\d+) resolve\b`)

// proxy checks that the proxy knows every service that people use and no other, and that they know the proxy.
func (c *checker) proxy() {
	text, err := os.ReadFile(filepath.Join(c.Folder, "apps", "deploy", "nginx.conf"))
	if err != nil {
		c.say("%v", err)
		return
	}
	known := map[string]string{}
	for _, m := range upstream.FindAllStringSubmatch(string(text), -1) {
		known[m[1]] = m[2]
	}
	proxy, ok := c.Services["proxy"]
	if !ok {
		c.say("there is no proxy")
		return
	}
	if !slices.Equal(proxy.Ports, []string{"127.0.0.1:8080:8080"}) || !strings.Contains(string(text), "listen 8080;") {
		c.say("the proxy is not at port 8080")
	}
	address, err := netip.ParseAddr(proxy.Address)
	if err != nil {
		c.say("the proxy has no address of its own: %v", err)
		return
	}
	for name, n := range c.Networks {
		for _, place := range n.IPAM.Config {
			subnet, err := netip.ParsePrefix(place.Subnet)
			given, err2 := netip.ParsePrefix(place.Range)
			if err != nil || err2 != nil || !subnet.Contains(address) || given.Contains(address) || !subnet.Contains(given.Addr()) {
				c.say("the network %s: the proxy's %s must be in %s and not in %s", name, address, place.Subnet, place.Range)
			}
		}
	}
	for _, program := range proxied {
		port := programs[program]
		for _, name := range c.of[program] {
			if known[name] != port {
				c.say("the proxy does not lead to %s", net.JoinHostPort(name, port))
			}
			delete(known, name)
			if !slices.ContainsFunc(c.told[name].TrustedRanges, func(p netip.Prefix) bool { return p.IsSingleIP() && p.Contains(address) }) {
				c.say("%s: the proxy %s is not trusted, or others are too", name, address)
			}
			if _, waits := proxy.DependsOn[name]; !waits {
				c.say("the proxy does not wait for %s", name)
			}
		}
	}
	for name := range known {
		c.say("the proxy leads to %s, which there is not", name)
	}
}
