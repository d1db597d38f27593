package config_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/apps/internal/config"
)

func load(t *testing.T, env []string, args ...string) (config.Settings, config.Command, error) {
	t.Helper()
	var out bytes.Buffer
	return config.Load(config.Parley, args, env, &out)
}

func TestWithoutAnythingItServes(t *testing.T) {
	s, cmd, err := load(t, nil)
	require.NoError(t, err)
	assert.Equal(t, "serve", cmd.Name)
	assert.Equal(t, "localhost:5002", s.Listen)
	assert.Equal(t, "sqlite:parley-data/parley.db", s.Store)
	assert.Equal(t, 15*time.Minute, s.AccessTTL)
	assert.Contains(t, []string{"nbio", "net"}, s.Transport)
}

func TestAFlagGoesBeforeTheEnvironmentAndThatBeforeTheDefault(t *testing.T) {
	env := []string{"PARLEY_LISTEN=:1", "PARLEY_PRODUCT=Env", "PARLEY_ORIGINS=https://a.example,https://b.example", "HOME=/x", "PARLEY_TEST_REDIS=x", "PARLEY_DATA="}
	s, _, err := load(t, env, "--listen", ":2")
	require.NoError(t, err)
	assert.Equal(t, ":2", s.Listen)
	assert.Equal(t, "Env", s.Product)
	assert.Equal(t, []string{"https://a.example", "https://b.example"}, s.Origins)
	assert.Equal(t, "./parley-data", s.Data, "an empty variable says nothing")
}

func TestASecretCanBeInAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte("s3cret-of-16-chars\n"), 0o600))
	s, _, err := load(t, []string{"PARLEY_ADMIN_TOKEN_FILE=" + file})
	require.NoError(t, err)
	assert.Equal(t, "s3cret-of-16-chars", s.AdminToken)
	_, _, err = load(t, []string{"PARLEY_ADMIN_TOKEN_FILE=" + file + "x"})
	assert.ErrorContains(t, err, "PARLEY_ADMIN_TOKEN_FILE")
	_, _, err = load(t, []string{"PARLEY_LISTEN_FILE=" + file})
	assert.ErrorContains(t, err, "PARLEY_LISTEN_FILE", "only secrets can be in files")
}

func TestPrintMasksSecrets(t *testing.T) {
	s, _, err := load(t, []string{"PARLEY_ADMIN_TOKEN=s3cret-of-16-chars", "PARLEY_DOCS_PASSWORD=pa55"}, "--store", "memory:")
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, config.Settings{Program: config.Parley, Store: "postgres://u:s3cret@h/db", MailSender: "smtp://u:s3cret@h:25"}.Print(&out))
	assert.NotContains(t, out.String(), "s3cret")
	assert.Contains(t, out.String(), "PARLEY_STORE=postgres://u:xxxxx@h/db\n")
	out.Reset()
	require.NoError(t, s.Print(&out))
	assert.NotContains(t, out.String(), "s3cret")
	assert.NotContains(t, out.String(), "pa55")
	assert.Contains(t, out.String(), "PARLEY_STORE=memory:\n")
	assert.Contains(t, out.String(), "PARLEY_ADMIN_TOKEN=********\n")
	// What it prints can be read again, once its secrets are filled in.
	env := strings.Split(strings.ReplaceAll(strings.TrimSpace(out.String()), "********", "****************"), "\n")
	again, _, err := load(t, env)
	require.NoError(t, err)
	s.AdminToken, s.DocsPassword = "****************", "****************"
	assert.Equal(t, s, again)
}

func TestWhatCannotBeMeantIsRefusedInOneLine(t *testing.T) {
	for name, c := range map[string]struct {
		env  []string
		args []string
		want string
	}{
		"unknown flag":        {nil, []string{"--colour"}, "--colour"},
		"unknown command":     {nil, []string{"dance"}, "dance"},
		"unknown variable":    {[]string{"PARLEY_LISTE=x"}, nil, "PARLEY_LISTE"},
		"variable of a test":  {[]string{"PARLEY_TESTS=x"}, nil, "PARLEY_TESTS"},
		"listen":              {nil, []string{"--listen", "5002"}, "PARLEY_LISTEN"},
		"public URL":          {[]string{"PARLEY_PUBLIC_URL=chat.example.com"}, nil, "PARLEY_PUBLIC_URL"},
		"public URL's scheme": {[]string{"PARLEY_PUBLIC_URL=ftp://chat.example.com"}, nil, "PARLEY_PUBLIC_URL"},
		"public URL's host":   {[]string{"PARLEY_PUBLIC_URL=https://chat..example.com"}, nil, "PARLEY_PUBLIC_URL"},
		"public URL's user":   {[]string{"PARLEY_PUBLIC_URL=https://u:s3cret@chat.example.com"}, nil, "PARLEY_PUBLIC_URL"},
		"public URL's name":   {[]string{"PARLEY_PUBLIC_URL=https://\u2764\u200d.example"}, nil, "PARLEY_PUBLIC_URL"},
		"origin":              {[]string{"PARLEY_ORIGINS=chat.example.com"}, nil, "PARLEY_ORIGINS"},
		"opaque origin":       {[]string{"PARLEY_ORIGINS=https://a.example,null"}, nil, "PARLEY_ORIGINS"},
		"origin with a path":  {[]string{"PARLEY_ORIGINS=https://a.example/app"}, nil, "PARLEY_ORIGINS"},
		"any host at all":     {[]string{"PARLEY_ORIGINS=https://*.com"}, nil, "PARLEY_ORIGINS"},
		"any of two levels":   {[]string{"PARLEY_ORIGINS=https://*.co.uk:443"}, nil, "PARLEY_ORIGINS"},
		"any page of a host":  {[]string{"PARLEY_ORIGINS=https://*.github.io"}, nil, "PARLEY_ORIGINS"},
		"sender's name":       {[]string{"PARLEY_MAIL_FROM=bot@\u2764\u200d.example"}, nil, "PARLEY_MAIL_FROM"},
		"store's name":        {[]string{"PARLEY_STORE=postgres://u:s3cret@\u2764\u200d.example/db"}, nil, "PARLEY_STORE"},
		"store":               {[]string{"PARLEY_STORE=oracle://u:s3cret@h/db"}, nil, "PARLEY_STORE"},
		"store without name":  {[]string{"PARLEY_STORE=mysql://u:s3cret@h"}, nil, "PARLEY_STORE"},
		"store without file":  {[]string{"PARLEY_STORE=sqlite:"}, nil, "PARLEY_STORE"},
		"bus":                 {[]string{"PARLEY_BUS=kafka://u:s3cret@h:1?sasl=maybe"}, nil, "PARLEY_BUS"},
		"another bus":         {[]string{"PARLEY_BUS=nats://u:s3cret@h:1"}, nil, "PARLEY_BUS"},
		"Redis":               {[]string{"PARLEY_REDIS=memcached://u:s3cret@h:1"}, nil, "PARLEY_REDIS"},
		"prefix":              {nil, []string{"--redis-prefix", "{a}"}, "PARLEY_REDIS_PREFIX"},
		"queue":               {nil, []string{"--mail-queue", "drawer"}, "PARLEY_MAIL_QUEUE"},
		"queue without Redis": {nil, []string{"--mail-queue", "redis"}, "PARLEY_REDIS"},
		"MongoDB":             {[]string{"PARLEY_STORE=mongodb://u:s3cret@h,i"}, nil, "PARLEY_STORE"},
		"node":                {nil, []string{"--node", "a b"}, "PARLEY_NODE"},
		"keys of another":     {nil, []string{"--jwks-url=http://auth:5002/"}, "--jwks-url"},
		"sender":              {nil, []string{"--mail-sender", "smtp://u:s3cret@h:1?tls=maybe"}, "PARLEY_MAIL_SENDER"},
		"transport":           {nil, []string{"--transport", "carrier-pigeon"}, "PARLEY_TRANSPORT"},
		"compression":         {nil, []string{"--compression", "zip"}, "compression"},
		"taken":               {nil, []string{"--auth-taken", "maybe"}, "auth-taken"},
		"half of TLS":         {nil, []string{"--tls-cert", "x"}, "tls-key"},
		"proxies":             {nil, []string{"--trusted-proxies", "example.com"}, "PARLEY_TRUSTED_PROXIES"},
		"duration":            {nil, []string{"--access-ttl", "-1m"}, "access-ttl"},
		"no duration":         {nil, []string{"--access-ttl", "soon"}, "access-ttl"},
		"long drain":          {nil, []string{"--drain-timeout", "1m"}, "PARLEY_DRAIN_TIMEOUT"},
		"count":               {nil, []string{"--mail-burst", "0"}, "PARLEY_MAIL_BURST"},
		"password min":        {nil, []string{"--password-min", "65"}, "PARLEY_PASSWORD_MIN"},
		"rate":                {nil, []string{"--socket-rate", "0"}, "PARLEY_SOCKET_RATE"},
		"log level":           {nil, []string{"--log-level", "loud"}, "log-level"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := load(t, c.env, c.args...)
			require.ErrorContains(t, err, c.want)
			assert.NotContains(t, err.Error(), "\n")
			assert.NotContains(t, err.Error(), "s3cret")
		})
	}
}

func TestProxiesAreNetworksOrAddresses(t *testing.T) {
	s, _, err := load(t, nil, "--trusted-proxies", "10.0.0.0/8,::1")
	require.NoError(t, err)
	require.Len(t, s.TrustedRanges, 2)
	assert.Equal(t, "::1/128", s.TrustedRanges[1].String())

	// Networks of IPv4 in the form of IPv6 match as well, or are refused.
	s, _, err = load(t, nil, "--trusted-proxies", "::ffff:10.0.0.0/104,::ffff:192.0.2.7,fe80::1%eth0")
	require.NoError(t, err)
	assert.Equal(t, "[10.0.0.0/8 192.0.2.7/32 fe80::1/128]", fmt.Sprint(s.TrustedRanges))
	_, _, err = load(t, nil, "--trusted-proxies", "::ffff:10.0.0.0/8")
	assert.ErrorContains(t, err, "PARLEY_TRUSTED_PROXIES")
}

func TestHelp(t *testing.T) {
	var out bytes.Buffer
	_, _, err := config.Load(config.Parley, []string{"--help"}, nil, &out)
	require.ErrorIs(t, err, config.ErrHelp)
	assert.Contains(t, out.String(), "--listen")
}

func TestCommands(t *testing.T) {
	for _, args := range [][]string{{"mail", "list"}, {"mail", "show", "x"}, {"mail", "replay"}, {"mail", "replay", "x"}, {"mail", "stats"}, {"bench", "idle"}, {"config"}, {"migrate"}, {"openapi"}} {
		_, cmd, err := load(t, nil, args...)
		require.NoError(t, err, args)
		assert.Equal(t, strings.TrimSuffix(strings.Join(args, " "), " x"), cmd.Name)
		if args[len(args)-1] == "x" {
			assert.Equal(t, "x", cmd.Mail.ID)
		}
	}
}

const (
	bus  = "PARLEY_BUS=kafka://u:s3cret@h:1,i:2?sasl=scram-sha-256"
	jwks = "PARLEY_JWKS_URL=http://auth:5002/.well-known/jwks.json"
)

func TestPrintMasksPasswordsAmongTheParameters(t *testing.T) {
	for _, store := range []string{
		"mongodb://u:s3cret@h1:27017,h2:27017/db?tls=true&tlsCertificateKeyFilePassword=s3cret",
		"mongodb://h/db?authMechanism=MONGODB-AWS&authMechanismProperties=AWS_SESSION_TOKEN:s3cret",
		"postgres://u@h/db?sslpassword=s3cret",
	} {
		var out bytes.Buffer
		require.NoError(t, config.Settings{Program: config.Socket, Store: store}.Print(&out))
		assert.NotContains(t, out.String(), "s3cret")
		assert.Contains(t, out.String(), "/db?")
	}
}

func TestEachProgramHasSettingsAndDefaultsOfItsOwn(t *testing.T) {
	for program, c := range map[config.Program]struct {
		env    []string
		listen string
		store  string
	}{
		config.Auth:   {[]string{bus, "PARLEY_ACCESS_TTL=5m", "PARLEY_ADMIN_TOKEN=s3cret-of-16-chars"}, ":5002", "sqlite:parley-data/auth.db"},
		config.Socket: {[]string{bus, jwks, "PARLEY_NODE=socket-1", "PARLEY_TRANSPORT=net"}, ":5003", "sqlite:parley-data/socket.db"},
		config.Mailer: {[]string{bus, jwks, "PARLEY_MAIL_QUEUE=redis", "PARLEY_REDIS=redis://u:s3cret@h:6379"}, ":5004", "sqlite:parley-data/mailer.db"},
	} {
		t.Run(string(program), func(t *testing.T) {
			var out bytes.Buffer
			s, cmd, err := config.Load(program, nil, c.env, &out)
			require.NoError(t, err)
			assert.Equal(t, "serve", cmd.Name)
			assert.Equal(t, c.listen, s.Listen)
			assert.Equal(t, c.store, s.Store)
			require.NoError(t, s.Print(&out))
			assert.NotContains(t, out.String(), "s3cret")
			for _, pair := range c.env {
				name, _, _ := strings.Cut(pair, "=")
				assert.Contains(t, out.String(), name+"=")
			}
			var printed bytes.Buffer
			filled := strings.ReplaceAll(strings.TrimSpace(out.String()), "********", "s3cret-of-16-chars")
			again, _, err := config.Load(program, nil, strings.Split(filled, "\n"), &printed)
			require.NoError(t, err, "what is printed can be read, once its secrets are filled in")
			require.NoError(t, again.Print(&printed))
			assert.Equal(t, out.String(), printed.String())
			_, _, err = config.Load(program, []string{"bench", "idle"}, c.env, &out)
			require.Error(t, err, "it is the all-in-one that measures")
		})
	}
}

func TestAServiceRefusesWhatIsAnothersOrMissing(t *testing.T) {
	for name, c := range map[string]struct {
		program config.Program
		env     []string
		want    string
	}{
		"no bus":               {config.Auth, nil, "PARLEY_BUS"},
		"a bus in memory":      {config.Auth, []string{"PARLEY_BUS=memory:"}, "PARLEY_BUS"},
		"no keys":              {config.Socket, []string{bus}, "PARLEY_JWKS_URL"},
		"keys at no address":   {config.Mailer, []string{bus, "PARLEY_JWKS_URL=auth:5002"}, "PARLEY_JWKS_URL"},
		"no way to renew":      {config.Mailer, []string{bus, "PARLEY_JWKS_URL=http://auth:5002/keys.json"}, "PARLEY_RENEW_URL"},
		"renewal nowhere":      {config.Mailer, []string{bus, jwks, "PARLEY_RENEW_URL=auth:5002"}, "PARLEY_RENEW_URL"},
		"sockets at no socket": {config.Auth, []string{bus, "PARLEY_SOCKET_URL=http://localhost:5003/socket"}, "PARLEY_SOCKET_URL"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			_, _, err := config.Load(c.program, nil, c.env, &out)
			require.ErrorContains(t, err, c.want)
			assert.NotContains(t, err.Error(), "\n")
			assert.NotContains(t, err.Error(), "s3cret")
		})
	}
}

func TestWhereCodesAreRenewed(t *testing.T) {
	for name, c := range map[string]struct {
		env  []string
		want string
	}{
		"beside the keys":   {[]string{jwks}, "http://auth:5002/auth/mail/renew"},
		"below a path":      {[]string{"PARLEY_JWKS_URL=https://example.com/chat/.well-known/jwks.json"}, "https://example.com/chat/auth/mail/renew"},
		"somewhere else":    {[]string{jwks, "PARLEY_RENEW_URL=http://auth.internal/renew"}, "http://auth.internal/renew"},
		"a host in Unicode": {[]string{jwks, "PARLEY_RENEW_URL=http://bücher.example/renew"}, "http://xn--bcher-kva.example/renew"},
	} {
		t.Run(name, func(t *testing.T) {
			s, _, err := config.Load(config.Mailer, nil, append(c.env, bus), t.Output())
			require.NoError(t, err)
			assert.Equal(t, c.want, s.RenewURL)
		})
	}
}

func TestWhatAServiceDoesAloneNeedsNoOther(t *testing.T) {
	for program, commands := range map[config.Program][]string{
		config.Auth:   {"migrate", "openapi", "events list", "events show x", "events replay", "events discard x", "user show x", "user export x", "user erase x"},
		config.Mailer: {"migrate", "openapi", "mail list", "mail show x", "mail stats"},
		config.Socket: {"migrate", "openapi", "asyncapi", "user export x", "user erase x"},
	} {
		for _, c := range commands {
			var out bytes.Buffer
			_, cmd, err := config.Load(program, strings.Fields(c), nil, &out)
			require.NoError(t, err, "%s %s", program, c)
			assert.Equal(t, strings.TrimSuffix(c, " x"), cmd.Name)
			_, _, err = config.Load(program, strings.Fields(c), []string{"PARLEY_BUS=kafka://u:s3cret@h:1?sasl=maybe"}, &out)
			require.ErrorContains(t, err, "PARLEY_BUS", "what is told must be right: %s %s", program, c)
		}
		for _, c := range []string{"serve", "config", "healthcheck"} {
			var out bytes.Buffer
			_, _, err := config.Load(program, []string{c}, nil, &out)
			require.ErrorContains(t, err, "PARLEY_BUS", "%s %s", program, c)
		}
	}
}

func TestAnotherIssuerInPlaceOfTheAuthService(t *testing.T) {
	socket := func(args ...string) (config.Settings, error) {
		s, _, err := config.Load(config.Socket, append([]string{"--bus", "kafka://localhost:1"}, args...), nil, t.Output())
		return s, err
	}
	s, err := socket("--oidc-issuer", "https://id.example/realms/x", "--oidc-audience", "chat")
	require.NoError(t, err, "jwks-url is not needed")
	assert.Equal(t, []string{"EdDSA", "ES256", "PS256", "RS256"}, s.OIDCAlgorithms)
	assert.Equal(t, []string{"at+jwt"}, s.OIDCTypes)
	for says, args := range map[string][]string{
		"PARLEY_JWKS_URL): an address":                   {},
		"PARLEY_OIDC_AUDIENCE): oidc-issuer needs one":   {"--oidc-issuer", "https://id.example"},
		"PARLEY_OIDC_AUDIENCE): it means something with": {"--jwks-url", "http://auth/", "--oidc-audience", "x"},
		"PARLEY_OIDC_ISSUER): it is not of https":        {"--oidc-issuer", "http://id.example", "--oidc-audience", "x"},
		"PARLEY_OIDC_ISSUER): it is not a URL":           {"--oidc-issuer", "id.example", "--oidc-audience", "x"},
		"PARLEY_OIDC_ISSUER): tokens are those of one":   {"--oidc-issuer", "https://id.example", "--oidc-audience", "x", "--jwks-url", "http://auth/"},
		`PARLEY_OIDC_ALGORITHMS): "HS256" is none of`:    {"--oidc-issuer", "https://id.example", "--oidc-audience", "x", "--oidc-algorithms", "RS256,HS256"},
		`PARLEY_OIDC_TYPES): "a b" is not a type`:        {"--oidc-issuer", "https://id.example", "--oidc-audience", "x", "--oidc-types", "a b"},
		"PARLEY_OIDC_USER_CLAIM): a name is needed":      {"--oidc-issuer", "https://id.example", "--oidc-audience", "x", "--oidc-user-claim", ""},
		"PARLEY_OIDC_NAME_CLAIM): a name is needed":      {"--oidc-issuer", "https://id.example", "--oidc-audience", "x", "--oidc-name-claim", ""},
		"PARLEY_OIDC_ADMIN_ROLE): a name is needed":      {"--oidc-issuer", "https://id.example", "--oidc-audience", "x", "--oidc-admin-role", ""},
	} {
		_, err := socket(args...)
		require.ErrorContains(t, err, says)
	}
}

func TestHelpNamesEachSettingOfTheProgramAndNoOther(t *testing.T) {
	for program, c := range map[config.Program]struct{ has, hasNot string }{
		config.Parley: {"--socket-rate", "--jwks-url"},
		config.Auth:   {"--access-ttl", "--mail-sender"},
		config.Mailer: {"--mail-sender", "--transport"},
		config.Socket: {"--jwks-url", "--mail-sender"},
	} {
		var out bytes.Buffer
		_, _, err := config.Load(program, []string{"--help"}, nil, &out)
		require.ErrorIs(t, err, config.ErrHelp)
		assert.Contains(t, out.String(), c.has)
		assert.NotContains(t, out.String(), c.hasNot)
		assert.NotContains(t, out.String(), "${", "everything is filled in")
	}
}

func TestHostsAreWrittenInASCII(t *testing.T) {
	s, _, err := load(t, []string{
		"PARLEY_PUBLIC_URL=https://Chät.example:8443/a/", "PARLEY_MAIL_FROM=bot@bücher.example",
		"PARLEY_ORIGINS=https://chät.example,https://*.ＢÜCHER.example:443,http://ch%C3%A4t.example:80,*",
		"PARLEY_STORE=postgres://ü:pässwörd@chät.example:5432,db.example/ä?x=ä", "PARLEY_MAIL_SENDER=smtp://u:p@chät.example:25",
		"PARLEY_REDIS=redis://:p@[::1]:6379/0",
	})
	require.NoError(t, err)
	assert.Equal(t, "https://xn--cht-rla.example:8443/a", s.PublicURL)
	assert.Equal(t, "bot@xn--bcher-kva.example", s.MailFrom)
	assert.Equal(t, []string{"https://xn--cht-rla.example", "https://*.xn--bcher-kva.example:443", "http://xn--cht-rla.example:80", "*"}, s.Origins)
	assert.Equal(t, "postgres://ü:pässwörd@xn--cht-rla.example:5432,db.example/ä?x=ä", s.Store)
	assert.Equal(t, "smtp://u:p@xn--cht-rla.example:25", s.MailSender)
	assert.Equal(t, "redis://:p@[::1]:6379/0", s.Redis)
	var out bytes.Buffer
	a, _, err := config.Load(config.Auth, nil, []string{"PARLEY_SOCKET_URL=wss://chät.example/socket", "PARLEY_BUS=kafka://chät.example:9092,k:9092", "PARLEY_ORIGINS=https://*.localhost:3000"}, &out)
	require.NoError(t, err)
	assert.Equal(t, "wss://xn--cht-rla.example/socket", a.SocketURL)
	assert.Equal(t, "kafka://xn--cht-rla.example:9092,k:9092", a.Bus)
	// Names that are no domain names, and mean something inside networks, stay.
	s, _, err = load(t, []string{"PARLEY_PUBLIC_URL=http://my_host:5002"})
	require.NoError(t, err)
	assert.Equal(t, "http://my_host:5002", s.PublicURL)
}

func TestEveryProgramIsToldOfOrigins(t *testing.T) {
	for _, program := range []config.Program{config.Parley, config.Auth, config.Mailer, config.Socket} {
		var out bytes.Buffer
		s, _, err := config.Load(program, []string{"migrate"}, []string{"PARLEY_PUBLIC_URL=https://chat.example.com", "PARLEY_ORIGINS=https://front.example.com"}, &out)
		require.NoError(t, err, program)
		assert.Equal(t, []string{"https://front.example.com"}, s.Origins, program)
		assert.Equal(t, "https://chat.example.com", s.PublicURL, program)
		assert.Empty(t, s.Unused, program)
	}
}
