package compose

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// root is the folder of docker-compose.yaml.
const root = "../../../.."

var profiles = []string{"mongodb", "postgres"}

// TestComposeFile compares docker-compose.yaml, as each profile makes it, with the programs' own
// configuration, the proxy's, and the scripts that make the databases.
func TestComposeFile(t *testing.T) {
	t.Parallel()
	for _, profile := range profiles {
		t.Run(profile, func(t *testing.T) {
			t.Parallel()
			f, err := Read(root, map[string]string{"COMPOSE_PROFILES": profile})
			require.NoError(t, err)
			for _, wrong := range check(f, profile) {
				t.Error(wrong)
			}
			assert.Contains(t, f.Services, profile)
		})
	}
	f, err := Read(root, nil)
	require.NoError(t, err)
	assert.Contains(t, f.Services, "mongodb", "without a word it is MongoDB")
	assert.NotContains(t, f.Services, "postgres")
}

// TestEverySecretCanBeOverridden replaces every variable, and looks for what is left of the defaults.
func TestEverySecretCanBeOverridden(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, "docker-compose.yaml"))
	require.NoError(t, err)
	variables := map[string]string{"COMPOSE_PROFILES": "mongodb,postgres"}
	for _, m := range defaulted.FindAllStringSubmatch(string(text), -1) {
		if secretName.MatchString(m[1] + ":") {
			variables[m[1]] = "another"
		}
	}
	require.Len(t, variables, 6, "the passwords of the databases, Redis, Kafka and the documents, and the token")
	f, err := Parse(root, string(text), variables)
	require.NoError(t, err)
	for name, s := range f.Services {
		for key, value := range s.Environment {
			assert.NotRegexp(t, `\bdevelopment\b|linkdocspass`, value, "%s: %s", name, key)
		}
		assert.NotContains(t, strings.Join(s.Command, " "), "development", name)
	}
}

// TestCheckCanFail breaks the file in every way that the check is for.
func TestCheckCanFail(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, "docker-compose.yaml"))
	require.NoError(t, err)
	for _, c := range []struct{ old, broken, says string }{
		{"PARLEY_ORIGINS: ", "PARLEY_ORIGIN: ", "PARLEY_ORIGIN: no setting of socket has this name"},
		{"PARLEY_ORIGINS: ", "ORIGINS: ", "ORIGINS is no setting"},
		{"PARLEY_NODE: mailer-1", "PARLEY_MAX_CONNECTIONS: 5", "mailer: PARLEY_MAX_CONNECTIONS is of no use to mailer"},
		{"PARLEY_NODE: mailer-1", "PARLEY_MIGRATE: auto", "mailer: PARLEY_NODE is missing"},
		{"PARLEY_NODE: socket-2", "PARLEY_NODE: socket-1", "socket-1 and socket-2 have the same PARLEY_NODE"},
		{"PARLEY_LOG_FORMAT: json", "PARLEY_LOG_FORMAT: xml", "must be one of"},
		{"PARLEY_DRAIN_TIMEOUT: 5s", "PARLEY_DRAIN_TIMEOUT: 50s", "longer than 8s"},
		{"PARLEY_DRAIN_TIMEOUT: 5s", "PARLEY_DRAIN_TIMEOUT: ''", "PARLEY_DRAIN_TIMEOUT is empty"},
		{"PARLEY_LISTEN: :5003", "PARLEY_LISTEN: :5005", "socket-2: it listens on :5005, not on :5003"},
		{"PARLEY_ADMIN_LISTEN: :6003", "PARLEY_ADMIN_LISTEN: :5003", "socket-2: operators are served on :5003, not on :6003"},
		{":5002:5002", ":5002:5003", "auth: the port is published as 127.0.0.1:5002:5003"},
		{":5004:5004", ":6004:6004", "mailer: the port is published as 127.0.0.1:6004:6004"},
		{"${PARLEY_BIND:-127.0.0.1}:8025:8025", "8025:8025", "mailcatcher: the port 8025:8025 is published beyond"},
		{"${PARLEY_BIND:-127.0.0.1}:8080:8080", "${PARLEY_BIND:-127.0.0.1}:80:80", "the proxy is not at port 8080"},
		{"entrypoint: [/usr/local/bin/mailer]", "entrypoint: [/usr/local/bin/postman]", "there is no program postman"},
		{"entrypoint: [/usr/local/bin/mailer]", "entrypoint: [mailer]", "none of the image's programs"},
		{"test: [CMD, /usr/local/bin/socket, healthcheck]", "test: [CMD, /usr/local/bin/auth, healthcheck]", "socket-1: its health is checked by"},
		{"  read_only: true\n", "", "auth: its files are not read-only"},
		{"stop_grace_period: 15s\n  read_only", "stop_grace_period: 5s\n  read_only", "may take 10s to end"},
		{`    volumes: ["auth-data:/data"]` + "\n", "", "auth: the data folder and its volume go together"},
		{"  auth-data:\n", "", "the volume auth-data is not declared"},
		{"  auth-data:\n", "  auth-data:\n  more-data:\n", "nobody uses the volume more-data"},
		{"image: redis:7.4-alpine", "image: redis:latest", "redis: the image"},
		{"image: redis:7.4-alpine", "image: redis", "redis: the image"},
		{"restart: on-failure", "restart: unless-stopped", "waits for the end of kafka-users, which does not end"},
		{"      kafka: { condition: service_healthy }", "      kafka: { condition: service_started }", `kafka-users: it waits for kafka to be "service_started"`},
		{"  kafka: { condition: service_healthy }", "  zookeeper: { condition: service_healthy }", "it waits for zookeeper, which there is not"},
		{"  postgres: { condition: service_healthy, required: false }", "  cassandra: { condition: service_healthy, required: false }", "it waits for cassandra, which there is not"},
		{"profiles: [postgres]", "profiles: [mongodb]", "2 of 2 services are there"},
		{"profiles: [mongodb]", "profiles: [other]", "0 of 2 services are there"},
		{"    healthcheck:\n      <<: *health\n      test: [CMD, /mailpit, readyz]\n", "", "waits for the health of mailcatcher, which is not checked"},
		{"@redis:6379", "@cache:6379", "PARLEY_REDIS leads to cache, which there is not"},
		{"@kafka:9092?", "@kafka:9092?acks=1&", "not known"},
		{"http://auth:5002/.well-known/jwks.json\n      PARLEY_ORIGINS", "http://mailer:5004/.well-known/jwks.json\n      PARLEY_ORIGINS", "does not lead to the keys"},
		{"@database/parley_mailer", "@database/parley_auth", "mailer: PARLEY_STORE is not the program's own database"},
		{"parley_socket:${PARLEY_DATABASE_PASSWORD:-development}@database/parley_socket # ", "parley_auth:${PARLEY_DATABASE_PASSWORD:-development}@database/parley_auth # ", "services of one program share PARLEY_STORE, and no others"},
		{"${COMPOSE_PROFILES:-mongodb}://parley_mailer", "postgres://parley_mailer", "mailer: PARLEY_STORE is not the program's own database on mongodb"},
		{"PARLEY_DOCS_PASSWORD: ${PARLEY_DOCS_PASSWORD:-linkdocspass}", "PARLEY_DOCS_PASSWORD: ${PARLEY_DOCS_PASSWORD:-secret}", "not for linkdocs / linkdocspass"},
		{"PARLEY_ADMIN_TOKEN: ${PARLEY_ADMIN_TOKEN:-development-only} # development only", "PARLEY_ADMIN_TOKEN: s3cret # development only", "a secret that cannot be overridden"},
		{"PARLEY_ADMIN_TOKEN: ${PARLEY_ADMIN_TOKEN:-development-only} # development only", "PARLEY_ADMIN_TOKEN: ${PARLEY_ADMIN_TOKEN:-development-only}", "a secret that is not marked"},
		{"redis://:${PARLEY_REDIS_PASSWORD:-development}@", "redis://:s3cret@", "a secret that cannot be overridden"},
		{`username="broker" password="${PARLEY_KAFKA_PASSWORD:-development}"`, `username="broker" password="s3cret"`, "a secret that cannot be overridden"},
		{`--requirepass, "${PARLEY_REDIS_PASSWORD:-development}"] # development only`, `--requirepass, "s3cret"]`, "a secret that cannot be overridden"},
		{"ipv4_address: ${PARLEY_PROXY_ADDRESS:-172.28.50.10}", "ipv4_address: 172.28.50.200", "must be in 172.28.50.0/24 and not in 172.28.50.128/25"},
		{"PARLEY_TRUSTED_PROXIES: ${PARLEY_PROXY_ADDRESS:-172.28.50.10}", "PARLEY_TRUSTED_PROXIES: 172.28.50.0/24", "is not trusted, or others are too"},
		{"PARLEY_TRUSTED_PROXIES: ${PARLEY_PROXY_ADDRESS:-172.28.50.10}", "PARLEY_TRUSTED_PROXIES: proxy", "neither a network nor an address"},
		{"  socket-2:\n    <<: *socket\n", "  socket-3:\n    <<: *socket\n", "the proxy does not lead to socket-3:5003"},
		{"  socket-2:\n    <<: *socket\n", "  socket-3:\n    <<: *socket\n", "the proxy leads to socket-2, which there is not"},
		{"      socket-2: { condition: service_healthy }\n", "", "the proxy does not wait for socket-2"},
		{"      mailcatcher: { condition: service_healthy }\n", "", "mailer: it does not wait for mailcatcher"},
		{"./apps/deploy/mongodb.js:", "./apps/deploy/mongo.js:", "./apps/deploy/mongo.js is no file"},
		{"./apps/deploy/nginx.conf:/etc/nginx/nginx.conf:ro", "./apps/deploy/nginx.conf:/etc/nginx/nginx.conf", "could be written to"},
	} {
		t.Run(c.says, func(t *testing.T) {
			t.Parallel()
			broken := strings.ReplaceAll(string(text), c.old, c.broken)
			require.NotEqual(t, string(text), broken, "%q is not in the file", c.old)
			f, err := Parse(root, broken, map[string]string{"COMPOSE_PROFILES": "mongodb"})
			require.NoError(t, err)
			found := check(f, "mongodb")
			assert.True(t, slices.ContainsFunc(found, func(s string) bool { return strings.Contains(s, c.says) }), "nobody says so; found:\n%s", strings.Join(found, "\n"))
		})
	}
}

func TestReplace(t *testing.T) {
	t.Parallel()
	variables := map[string]string{"SET": "value", "EMPTY": ""}
	for text, want := range map[string]string{
		"plain":                            "plain",
		"${SET}":                           "value",
		"a${SET:-x}b${SET}":                "avaluebvalue",
		"${MISSING:-x}":                    "x",
		"${EMPTY:-x}":                      "x",
		"${MISSING:-}":                     "",
		"${MISSING:-a${SET}b${OTHER:-c}d}": "avaluebcd",
		"$$SET ${MISSING:-$$}":             "$SET $",
	} {
		got, err := Replace(text, variables)
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
	for _, text := range []string{"${MISSING}", "$SET", "${SET", "${MISSING:-${SET}", "$", "${MISSING-x}", "${MISSING:-${OTHER}}"} {
		_, err := Replace(text, variables)
		assert.Error(t, err, text)
	}
}

func TestParse_refuses(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		"services: [":                       "docker-compose.yaml",
		"services: {a: {image: $X}}":        "neither $$ nor",
		"services: {a: {image: '${X}'}}":    "no default",
		"services: {a: {environment: {X}}}": "left to whoever starts it",
		"services: {a: {ports: 5}}":         "docker-compose.yaml",
	} {
		_, err := Parse(root, text, nil)
		assert.ErrorContains(t, err, says, text)
	}
}

// TestDockerfile checks that the image has the programs that the file starts, and no more rights than they need.
func TestDockerfile(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	require.NoError(t, err)
	_, last, found := strings.Cut(string(text), "\nFROM scratch\n")
	require.True(t, found, "the image begins from nothing")
	assert.NotContains(t, last, "\nFROM ")
	assert.Regexp(t, `(?m)^USER [1-9]\d*:[1-9]\d*$`, last, "it does not run as root")
	assert.NotContains(t, last, "\nRUN ")
	f, err := Read(root, nil)
	require.NoError(t, err)
	for _, s := range f.Services {
		if s.Build != nil {
			assert.Contains(t, string(text), "./apps/"+filepath.Base(s.Entrypoint[0]))
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^FROM (\S+)`).FindAllStringSubmatch(string(text), -1) {
		assert.Regexp(t, `^scratch$|^golang:1\.26`, m[1])
	}
	// Every program is in it, also the one that no service of the file runs.
	_, built, _ := strings.Cut(string(text), "go build ")
	built, _, _ = strings.Cut(built, "\n")
	programs, err := filepath.Glob(filepath.Join(root, "apps", "*", "main.go"))
	require.NoError(t, err)
	require.NotEmpty(t, programs)
	for _, main := range programs {
		assert.Contains(t, strings.Fields(built), "./apps/"+filepath.Base(filepath.Dir(main)))
	}
	assert.Contains(t, string(text), "CGO_ENABLED=0")
	assert.Contains(t, string(text), "-trimpath")
}

// TestMongoScript runs the script that makes MongoDB's users, with a database that only remembers.
func TestMongoScript(t *testing.T) {
	t.Parallel()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("Node is not installed")
	}
	script, err := os.ReadFile(filepath.Join(root, "apps", "deploy", "mongodb.js"))
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), node, "-")
	cmd.Env = append(os.Environ(), "PARLEY_DATABASE_PASSWORD=secret")
	cmd.Stdin = strings.NewReader(`const made = [];
const db = { getSiblingDB: (name) => ({ createUser: (user) => made.push({ name, ...user }) }) };
` + string(script) + `
console.log(JSON.stringify(made));`)
	out, err := cmd.Output()
	require.NoError(t, err)
	var want []string
	for _, name := range []string{"parley_auth", "parley_mailer", "parley_socket"} {
		want = append(want, fmt.Sprintf(`{"name":"%s","user":"%[1]s","pwd":"secret","roles":[{"role":"dbOwner","db":"%[1]s"}]}`, name))
	}
	assert.JSONEq(t, "["+strings.Join(want, ",")+"]", string(out))
}
