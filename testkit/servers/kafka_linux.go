package servers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// KafkaServer is a broker that belongs to one test, so that the test may stop it in every way
// there is. It is a cluster of its own, with SASL PLAIN and SCRAM, without TLS. Its methods fail
// the test; they are not for several goroutines at once.
type KafkaServer struct {
	// Address is its host:port. It stays the same over a restart.
	Address string
	// User and Password are those of a user who may do everything, by every mechanism.
	User, Password string

	java, jars, files string
	process           *os.Process
	exited            chan struct{} // closed when process has ended
}

// kafkaPatience bounds the start of a broker.
const kafkaPatience = 90 * time.Second

// URL is how kafkabus.ParseURL takes the broker, with SASL PLAIN.
func (k *KafkaServer) URL() string {
	return "kafka://" + k.User + ":" + k.Password + "@" + k.Address + "?sasl=plain"
}

var kafkaShared struct {
	once   sync.Once
	server *KafkaServer
	err    error
}

func sharedKafka(t testing.TB) string {
	t.Helper()
	java, jars := kafkaPrograms(t)
	kafkaShared.once.Do(func() { kafkaShared.server, kafkaShared.err = startKafka(java, jars) })
	if kafkaShared.err != nil {
		t.Fatalf("servers: start Kafka: %v", kafkaShared.err)
	}
	return kafkaShared.server.URL()
}

// StartKafka starts a broker for t alone, from the jars in PARLEY_KAFKA_JARS, and stops it when
// t ends. Where they are not named, t is skipped.
func StartKafka(t testing.TB) *KafkaServer {
	t.Helper()
	java, jars := kafkaPrograms(t)
	k, err := startKafka(java, jars)
	if err != nil {
		t.Fatalf("servers: start Kafka: %v", err)
	}
	t.Cleanup(func() { k.Kill(t) })
	return k
}

// kafkaPrograms returns the path of java and the class path, or skips t.
func kafkaPrograms(t testing.TB) (java, jars string) {
	t.Helper()
	folder := os.Getenv(KafkaJarsVariable)
	if folder == "" {
		t.Skipf("no Kafka: set %s to the URL of a cluster, or %s to a folder that .ci/kafka-jars has filled", KafkaVariable, KafkaJarsVariable)
	}
	folder, err := filepath.Abs(folder)
	if err != nil {
		t.Fatalf("servers: %v", err)
	}
	if found, err := filepath.Glob(filepath.Join(folder, "kafka_*.jar")); err != nil || len(found) == 0 {
		t.Fatalf("servers: %s names a folder without a Kafka: fill it with .ci/kafka-jars", KafkaJarsVariable)
	}
	if java, err = exec.LookPath("java"); err != nil {
		t.Fatalf("servers: %s is set, but there is no java to run it: %v", KafkaJarsVariable, err)
	}
	return java, filepath.Join(folder, "*")
}

// startKafka formats a folder of its own and serves it. A watcher process ends the broker and
// removes the folder when this process has ended, in whatever way.
func startKafka(java, jars string) (k *KafkaServer, err error) {
	files, err := os.MkdirTemp("", "parley-kafka-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(files))
		}
	}()
	broker, err := freePort()
	if err != nil {
		return nil, err
	}
	controller, err := freePort()
	if err != nil {
		return nil, err
	}
	k = &KafkaServer{
		Address: net.JoinHostPort("127.0.0.1", strconv.Itoa(broker)), User: "app", Password: "s3cret-of-tests",
		java: java, jars: jars, files: files,
	}
	if err := os.WriteFile(k.properties(), []byte(k.settings(controller)), 0o600); err != nil {
		return nil, err
	}
	format := []string{
		"-cp", jars, "kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", k.properties(),
	}
	for _, mechanism := range []string{"SCRAM-SHA-256", "SCRAM-SHA-512"} {
		format = append(format, "--add-scram", fmt.Sprintf("%s=[name=%s,password=%s]", mechanism, k.User, k.Password))
	}
	if out, err := exec.Command(java, format...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("format: %w: %s", err, out)
	}
	if err := watch(filepath.Join(files, "pid"), files); err != nil {
		return nil, err
	}
	return k, k.serve()
}

func (k *KafkaServer) properties() string { return filepath.Join(k.files, "server.properties") }

// settings is the broker's configuration: one node that is broker and controller.
func (k *KafkaServer) settings(controller int) string {
	const sasl = "listener.name.sasl_plaintext."
	return strings.Join([]string{
		"process.roles=broker,controller",
		"node.id=1",
		fmt.Sprintf("controller.quorum.voters=1@127.0.0.1:%d", controller),
		fmt.Sprintf("listeners=SASL_PLAINTEXT://%s,CONTROLLER://127.0.0.1:%d", k.Address, controller),
		"advertised.listeners=SASL_PLAINTEXT://" + k.Address,
		"controller.listener.names=CONTROLLER",
		"listener.security.protocol.map=CONTROLLER:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT",
		"inter.broker.listener.name=SASL_PLAINTEXT",
		"sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
		"sasl.mechanism.inter.broker.protocol=PLAIN",
		fmt.Sprintf(sasl+`plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required `+
			`username="broker" password="%s" user_broker="%[1]s" user_%s="%s";`, "between-brokers", k.User, k.Password),
		sasl + "scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;",
		sasl + "scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;",
		"log.dirs=" + filepath.Join(k.files, "data"),
		"auto.create.topics.enable=false",
		"num.network.threads=2",
		"num.io.threads=2",
		"log.cleaner.enable=false",
		"offsets.topic.num.partitions=1",
		"offsets.topic.replication.factor=1",
		"transaction.state.log.replication.factor=1",
		"transaction.state.log.min.isr=1",
		"share.coordinator.state.topic.replication.factor=1",
		"share.coordinator.state.topic.min.isr=1",
		"group.initial.rebalance.delay.ms=0",
		// Or a broker that was killed waits for its own old session.
		"broker.session.timeout.ms=2000",
		"broker.heartbeat.interval.ms=500",
	}, "\n") + "\n"
}

// serve starts the broker and waits until it listens, which it does when it is ready.
func (k *KafkaServer) serve() error {
	log, err := os.OpenFile(filepath.Join(k.files, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the child has its own
	cmd := exec.Command(k.java, "-Xmx512m", "-XX:TieredStopAtLevel=1", "-cp", k.jars, "kafka.Kafka", k.properties())
	cmd.Dir = k.files
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C reaches the test only
	if err := cmd.Start(); err != nil {
		return err
	}
	k.process, k.exited = cmd.Process, make(chan struct{})
	go func() {
		defer close(k.exited)
		_ = cmd.Wait() // it is killed
	}()
	if err := os.WriteFile(filepath.Join(k.files, "pid"), []byte(strconv.Itoa(k.process.Pid)), 0o600); err != nil {
		return errors.Join(err, k.process.Kill())
	}
	ctx, cancel := context.WithTimeout(context.Background(), kafkaPatience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, "tcp", k.Address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-tick.C:
		case <-k.exited:
			out, _ := os.ReadFile(log.Name())
			return fmt.Errorf("it ended: %s", out)
		case <-ctx.Done():
			return errors.Join(err, k.process.Kill())
		}
	}
}

// Kill ends the broker at once, as a crash does. Killing it twice is harmless.
func (k *KafkaServer) Kill(t testing.TB) {
	t.Helper()
	if err := k.process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("servers: kill Kafka: %v", err)
	}
	<-k.exited
}

// Restart starts a broker that was killed, on the same address and with what it had stored.
func (k *KafkaServer) Restart(t testing.TB) {
	t.Helper()
	if err := k.serve(); err != nil {
		t.Fatalf("servers: restart Kafka: %v", err)
	}
}

// Freeze stops the broker where it is: connections stay open, and nothing answers.
// [KafkaServer.Thaw] lets it go on.
func (k *KafkaServer) Freeze(t testing.TB) { t.Helper(); k.signal(t, syscall.SIGSTOP) }

// Thaw undoes Freeze.
func (k *KafkaServer) Thaw(t testing.TB) { t.Helper(); k.signal(t, syscall.SIGCONT) }

func (k *KafkaServer) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := k.process.Signal(s); err != nil {
		t.Fatalf("servers: %v for Kafka: %v", s, err)
	}
}
