package config_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/apps/internal/config"
)

const token = "PARLEY_ADMIN_TOKEN=s3cret-of-16-chars"

// minimal is what each program cannot do without.
var minimal = map[config.Program][]string{
	config.Parley: nil, config.Auth: {bus}, config.Mailer: {bus, jwks}, config.Socket: {bus, jwks},
}

// kubernetes is what a kubelet adds for a service of this name with the ports http (5002) and admin (6002).
func kubernetes(service string) []string {
	p := strings.ToUpper(strings.ReplaceAll(service, "-", "_"))
	env := []string{
		p + "_SERVICE_HOST=10.96.7.11", p + "_SERVICE_PORT=5002", p + "_SERVICE_PORT_HTTP=5002", p + "_SERVICE_PORT_ADMIN=6002",
		p + "_PORT=tcp://10.96.7.11:5002",
	}
	for _, port := range []string{"5002", "6002"} {
		q := p + "_PORT_" + port + "_TCP"
		env = append(env, q+"=tcp://10.96.7.11:"+port, q+"_PROTO=tcp", q+"_PORT="+port, q+"_ADDR=10.96.7.11")
	}
	return env
}

// link is what Docker adds for a link to a container of this name, which has a variable of its own.
func link(container string) []string {
	p := strings.ToUpper(strings.ReplaceAll(container, "-", "_"))
	q := p + "_PORT_5002_TCP"
	return []string{
		p + "_NAME=/web/" + container, p + "_PORT=tcp://172.17.0.2:5002",
		q + "=tcp://172.17.0.2:5002", q + "_PROTO=tcp", q + "_PORT=5002", q + "_ADDR=172.17.0.2",
		p + "_PORT_5002_TCP_START=tcp://172.17.0.2:5002", p + "_PORT_5002_TCP_END=tcp://172.17.0.2:5003",
		p + "_ENV_PARLEY_LISTEN=:5002", p + "_ENV_PATH=/usr/local/bin",
	}
}

func TestWhatKubernetesAndDockerAddEndsNoStart(t *testing.T) {
	services := []string{"parley", "parley-auth", "parley-socket", "parley-mailer", "parley-admin"}
	for program, needed := range minimal {
		want, _, err := config.Load(program, nil, needed, t.Output())
		require.NoError(t, err)
		for _, service := range services {
			for name, added := range map[string][]string{"Kubernetes": kubernetes(service), "Docker": link(service)} {
				got, _, err := config.Load(program, nil, slices.Concat(added, needed), t.Output())
				require.NoError(t, err, "%s, %s, %s", program, name, service)
				assert.Equal(t, want, got, "%s, %s, %s: it means nothing to the program", program, name, service)
			}
			_, _, err := config.Load(program, nil, slices.Concat(kubernetes(service), needed, []string{"PARLEY_STROE=memory:"}), t.Output())
			assert.EqualError(t, err, "PARLEY_STROE: no setting of "+string(program)+" has this name")
		}
	}
}

func TestWhatOnlyLooksLikeALinkIsRefused(t *testing.T) {
	for _, pair := range []string{
		"PARLEY_NAME=Chat", "PARLEY_NAME=/web/parley", "PARLEY_ENV_LISTEN=:1", "PARLEY_SERVICE=x", "PARLEY_SERVICE_HOSTS=x",
		"PARLEY_PORTS=1", "PARLEY_SUPPORT=1", "PARLEY_TRANSPORTS=1", "PARLEY_=x",
	} {
		_, _, err := load(t, []string{pair})
		key, _, _ := strings.Cut(pair, "=")
		assert.ErrorContains(t, err, key+": no setting")
	}
	_, _, err := load(t, []string{"PARLEY_NAME=Chat", "PARLEY_PORT=tcp://172.17.0.2:5002"})
	assert.ErrorContains(t, err, "PARLEY_NAME: no setting", "a link is called /of/to")
}

// TestOneEnvironmentServesAllPrograms: what one program takes is no reason for another to end, and is named.
func TestOneEnvironmentServesAllPrograms(t *testing.T) {
	everything := []string{
		bus, jwks, token, "PARLEY_PUBLIC_URL=https://chat.example.com", "PARLEY_SOCKET_URL=wss://chat.example.com/socket",
		"PARLEY_NODE=one", "PARLEY_REDIS=redis://h:6379", "PARLEY_MAIL_QUEUE=redis", "PARLEY_MAIL_SENDER=smtp://h:25?tls=none",
		"PARLEY_SCREEN_SECRET_FILE=/nowhere", "PARLEY_SOCKET_RATE=-1", "PARLEY_ORIGINS=https://chat.example.com", "PARLEY_AUTH_TAKEN=conflict",
	}
	for program, unused := range map[config.Program][]string{
		config.Auth:   {"PARLEY_JWKS_URL", "PARLEY_MAIL_QUEUE", "PARLEY_MAIL_SENDER", "PARLEY_NODE", "PARLEY_SCREEN_SECRET_FILE", "PARLEY_SOCKET_RATE"},
		config.Mailer: {"PARLEY_AUTH_TAKEN", "PARLEY_SCREEN_SECRET_FILE", "PARLEY_SOCKET_RATE", "PARLEY_SOCKET_URL"},
		config.Socket: {"PARLEY_AUTH_TAKEN", "PARLEY_MAIL_QUEUE", "PARLEY_MAIL_SENDER", "PARLEY_SOCKET_URL"},
	} {
		env := everything
		if program == config.Socket { // which alone would open the file
			env = slices.DeleteFunc(slices.Clone(everything), func(pair string) bool { return strings.Contains(pair, "_FILE=") })
		}
		s, _, err := config.Load(program, nil, env, t.Output())
		require.NoError(t, err, program)
		for _, key := range unused {
			assert.Contains(t, s.Unused, key, program)
		}
		for _, key := range s.Unused {
			assert.NotContains(t, []string{"PARLEY_BUS", "PARLEY_REDIS"}, key, program)
		}
		assert.IsNonDecreasing(t, s.Unused)
		var out bytes.Buffer
		require.NoError(t, s.Print(&out))
		for _, key := range unused {
			assert.NotContains(t, out.String(), key+"=", "it is not in force")
		}
	}
	_, _, err := config.Load(config.Socket, []string{"--auth-taken=conflict"}, []string{bus, jwks}, t.Output())
	assert.ErrorContains(t, err, "--auth-taken", "a flag is told to one program alone")
}

func TestAShortTokenOfAnAdministratorIsRefused(t *testing.T) {
	for program, needed := range minimal {
		for value, good := range map[string]bool{
			"": true, "1": false, "fifteen-letters": false, "sixteen-letters!": true, "ÄÖÜäöüßÄÖÜäöüß!": false, "ÄÖÜäöüßÄÖÜäöüß!!": true,
		} {
			_, _, err := config.Load(program, nil, append([]string{"PARLEY_ADMIN_TOKEN=" + value}, needed...), t.Output())
			if good {
				assert.NoError(t, err, "%s %q", program, value)
				continue
			}
			require.ErrorContains(t, err, "--admin-token (PARLEY_ADMIN_TOKEN): ", "%s %q", program, value)
			assert.Contains(t, err.Error(), "16")
			assert.NotContains(t, err.Error(), "\n")
			if len(value) > 2 {
				assert.NotContains(t, err.Error(), value)
			}
		}
	}
	_, _, err := load(t, []string{"PARLEY_DOCS_PASSWORD=short"})
	assert.NoError(t, err, "that of the documents is another")
}
