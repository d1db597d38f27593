package services_test

import (
	"context"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/FerretDB/FerretDB/ferretdb"
	"github.com/alicebob/miniredis/v2"
	_ "github.com/jackc/pgx/v5/stdlib" // for testkit/servers
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/parley-chat/parley/apps/internal/conformance/compose"
	"github.com/parley-chat/parley/testkit/servers"
)

// The password that docker-compose.yaml gives to everything unless it is told another.
const password = "development"

// anonymous stands before the address of a server that lets everybody in, and knows no users.
const anonymous = "@"

// postgres is a server of our own where the script of the compose file has made the databases. It
// returns its address.
func postgres(t *testing.T, f *compose.File) string {
	t.Helper()
	at, err := url.Parse(servers.StartPostgres(t).URL)
	require.NoError(t, err)
	installed(t, "psql")
	secret, _ := at.User.Password()
	script := exec.CommandContext(t.Context(), "sh", filepath.Join(f.Folder, "apps", "deploy", "postgres.sh"))
	script.Env = clean("PGHOST="+at.Hostname(), "PGPORT="+at.Port(), "PGPASSWORD="+secret, "POSTGRES_USER="+at.User.Username(),
		"PARLEY_DATABASE_PASSWORD="+f.Services["postgres"].Environment["PARLEY_DATABASE_PASSWORD"])
	execute(t, script)
	return at.Host
}

// mongo is mongo-java-server, in place of the MongoDB that cannot be had here. It knows no users.
func mongo(t *testing.T, _ *compose.File) string {
	t.Helper()
	return anonymous + servers.StartMongo(t).Addr
}

// ferretDB is a Mongo wire server in this process. It knows no users either.
func ferretDB(t *testing.T, _ *compose.File) string {
	t.Helper()
	f, err := ferretdb.New(&ferretdb.Config{
		Listener: ferretdb.ListenerConfig{TCP: "127.0.0.1:0"}, Handler: "sqlite", SQLiteURL: "file:" + t.TempDir() + "/",
		Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		<-ended // with the end of ctx as its error
	})
	at, err := url.Parse(f.MongoDBURI())
	require.NoError(t, err)
	return anonymous + at.Host
}

// redis is a server that is started as the compose file starts it.
func redis(t *testing.T, f *compose.File) string {
	t.Helper()
	command, address := f.Services["redis"].Command, freeAddress(t)
	host, port, _ := strings.Cut(address, ":")
	cmd := exec.CommandContext(t.Context(), installed(t, command[0]), append(command[1:], "--bind", host, "--port", port)...)
	cmd.Dir = t.TempDir()
	listening(t, launch(t, "redis", cmd), address)
	return address
}

// kafka is a broker that gets its settings from the compose file as in the image: by the image's own
// wrapper, which is in Kafka's jars. The script of kafka-users makes the user of the services.
func kafka(t *testing.T, f *compose.File) string {
	t.Helper()
	jars := os.Getenv(servers.KafkaJarsVariable)
	if jars == "" {
		t.Skipf("no Kafka: set %s to a folder that .ci/kafka-jars has filled", servers.KafkaJarsVariable)
	}
	jars, err := filepath.Abs(jars)
	require.NoError(t, err)
	java, home := installed(t, "java"), t.TempDir()
	for _, folder := range []string{"default", "mounted", "config", "bin"} {
		require.NoError(t, os.Mkdir(filepath.Join(home, folder), 0o700))
	}
	address, controller := freeAddress(t), freeAddress(t)
	host, port, _ := strings.Cut(address, ":")
	environment := f.Services["kafka"].Environment
	var options []string
	var env []string
	for name, value := range environment {
		value = strings.NewReplacer("127.0.0.1:9093", controller, "://kafka:9092", "://"+address, "://:9092", "://"+host+":"+port,
			"/var/lib/kafka/data", filepath.Join(home, "data")).Replace(value)
		require.NotContains(t, value, "9092", name)
		env = append(env, name+"="+value)
		if name == "KAFKA_OPTS" || name == "KAFKA_HEAP_OPTS" { // which the image's scripts give to java
			options = append(options, strings.Fields(value)...)
		}
	}
	options = append(options, "-XX:TieredStopAtLevel=1", "-cp", filepath.Join(jars, "*"))
	run := func(arguments ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), java, append(options, arguments...)...)
		cmd.Env, cmd.Dir = clean(env...), home
		return cmd
	}
	execute(t, run("kafka.docker.KafkaDockerWrapper", "setup", "--default-configs-dir", "default", "--mounted-configs-dir", "mounted", "--final-configs-dir", "config"))
	listening(t, launch(t, "kafka", run("kafka.Kafka", "config/server.properties")), address)

	tool := "#!/bin/sh\nexec " + java + " -XX:TieredStopAtLevel=1 -cp '" + filepath.Join(jars, "*") + "' kafka.admin.ConfigCommand \"$@\"\n"
	require.NoError(t, os.WriteFile(filepath.Join(home, "bin", "kafka-configs.sh"), []byte(tool), 0o700)) //nolint:gosec // it is a program
	users := exec.CommandContext(t.Context(), "bash", filepath.Join(f.Folder, "apps", "deploy", "kafka-users.sh"), address)
	users.Env = clean("KAFKA_HOME="+home, "PARLEY_KAFKA_PASSWORD="+f.Services["kafka-users"].Environment["PARLEY_KAFKA_PASSWORD"])
	execute(t, users)
	return address
}

// embeddedRedis is a Redis in this process.
func embeddedRedis(t *testing.T, _ *compose.File) string {
	t.Helper()
	server := miniredis.RunT(t)
	server.RequireAuth(password)
	return server.Addr()
}

// embeddedKafka is a broker in this process.
func embeddedKafka(t *testing.T, _ *compose.File) string {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "parley", password))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c.ListenAddrs()[0]
}
