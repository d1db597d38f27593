package servers

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// KafkaServer is a broker that belongs to one test, so that the test may stop it in every way
// there is. It is a cluster of its own, with SASL PLAIN and SCRAM, and never makes a topic that
// nobody created. Its methods fail the test; they are not for several goroutines at once.
type KafkaServer struct {
	// Address is the host:port that clients connect to, and that the broker tells them. It stays
	// the same over a restart.
	Address string
	// User and Password are those of a user who may do everything, by every mechanism.
	User, Password string
	// Limited is a user who may sign in by PLAIN, with the same password, and has no right to
	// anything.
	Limited string
	// TLSAddress is a second host:port, the same with TLS, whose certificate Roots trusts. It is
	// set if [KafkaOptions].TLS was.
	TLSAddress string
	Roots      *x509.CertPool

	listen            string // behind Address
	java, jars, files string
	process           *os.Process
	exited            chan struct{} // closed when process has ended
}

// kafkaPatience bounds the start of a broker.
const kafkaPatience = 3 * time.Minute

// URL is how kafkabus.ParseURL takes the broker, with SASL PLAIN.
func (k *KafkaServer) URL() string { return k.url(k.User) }

// LimitedURL is URL for the user who has no right to anything.
func (k *KafkaServer) LimitedURL() string { return k.url(k.Limited) }

func (k *KafkaServer) url(user string) string {
	return "kafka://" + user + ":" + k.Password + "@" + k.Address + "?sasl=plain"
}

var kafkaShared struct {
	once   sync.Once
	server *KafkaServer
	err    error
}

func sharedKafka(t testing.TB) string {
	t.Helper()
	notShort(t)
	java, jars := kafkaPrograms(t)
	kafkaShared.once.Do(func() { kafkaShared.server, kafkaShared.err = startKafka(java, jars, KafkaOptions{}) })
	if kafkaShared.err != nil {
		t.Fatalf("servers: start Kafka: %v", kafkaShared.err)
	}
	return kafkaShared.server.URL()
}

// StartKafka starts a broker for t alone, from the jars in PARLEY_TEST_KAFKA_JARS, and stops it when
// t ends. Where they are not named, t is skipped.
func StartKafka(t testing.TB, o KafkaOptions) *KafkaServer {
	t.Helper()
	notShort(t)
	java, jars := kafkaPrograms(t)
	k, err := startKafka(java, jars, o)
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
func startKafka(java, jars string, o KafkaOptions) (k *KafkaServer, err error) {
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
		listen: net.JoinHostPort("127.0.0.1", strconv.Itoa(broker)),
		User:   "app", Limited: "limited", Password: "s3cret-of-tests",
		java: java, jars: jars, files: files,
	}
	k.Address = k.listen
	if o.Advertise != nil {
		k.Address = o.Advertise(k.listen)
	}
	settings := k.settings(controller)
	if o.TLS {
		more, err := k.withTLS()
		if err != nil {
			return nil, err
		}
		for name, value := range more {
			settings[name] += value
		}
	}
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&text, "%s=%s\n", name, settings[name])
	}
	if err := os.WriteFile(k.properties(), []byte(text.String()), 0o600); err != nil {
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
func (k *KafkaServer) settings(controller int) map[string]string {
	const between = "between-brokers"
	return map[string]string{
		"process.roles":                                    "broker,controller",
		"node.id":                                          "1",
		"controller.quorum.voters":                         fmt.Sprintf("1@127.0.0.1:%d", controller),
		"listeners":                                        fmt.Sprintf("SASL_PLAINTEXT://%s,CONTROLLER://127.0.0.1:%d", k.listen, controller),
		"advertised.listeners":                             "SASL_PLAINTEXT://" + k.Address,
		"controller.listener.names":                        "CONTROLLER",
		"listener.security.protocol.map":                   "CONTROLLER:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT",
		"inter.broker.listener.name":                       "SASL_PLAINTEXT",
		"sasl.enabled.mechanisms":                          "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
		"sasl.mechanism.inter.broker.protocol":             "PLAIN",
		jaas("sasl_plaintext", "plain"):                    k.plainLogin(between),
		jaas("sasl_plaintext", "scram-sha-256"):            scramLogin,
		jaas("sasl_plaintext", "scram-sha-512"):            scramLogin,
		"authorizer.class.name":                            "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"super.users":                                      fmt.Sprintf("User:%s;User:%s;User:ANONYMOUS", k.User, between), // the controller's listener knows no users
		"allow.everyone.if.no.acl.found":                   "false",
		"log.dirs":                                         filepath.Join(k.files, "data"),
		"auto.create.topics.enable":                        "false",
		"num.network.threads":                              "2",
		"num.io.threads":                                   "2",
		"log.cleaner.enable":                               "false",
		"offsets.topic.num.partitions":                     "1",
		"offsets.topic.replication.factor":                 "1",
		"transaction.state.log.replication.factor":         "1",
		"transaction.state.log.min.isr":                    "1",
		"share.coordinator.state.topic.replication.factor": "1",
		"share.coordinator.state.topic.min.isr":            "1",
		"group.initial.rebalance.delay.ms":                 "0",
		// Or a broker that was killed waits for its own old session.
		"broker.session.timeout.ms":    "2000",
		"broker.heartbeat.interval.ms": "500",
	}
}

// jaas is the name of the setting that says who may sign in at a listener.
func jaas(listener, mechanism string) string {
	return "listener.name." + listener + "." + mechanism + ".sasl.jaas.config"
}

const scramLogin = "org.apache.kafka.common.security.scram.ScramLoginModule required;"

// plainLogin names those who may sign in by PLAIN; between is the broker itself.
func (k *KafkaServer) plainLogin(between string) string {
	users := []string{fmt.Sprintf(`username="%s" password="%s"`, between, k.Password)}
	for _, name := range []string{between, k.User, k.Limited} {
		users = append(users, fmt.Sprintf(`user_%s="%s"`, name, k.Password))
	}
	return "org.apache.kafka.common.security.plain.PlainLoginModule required " + strings.Join(users, " ") + ";"
}

// withTLS returns what the settings need besides for a second listener, with TLS.
func (k *KafkaServer) withTLS() (map[string]string, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	k.TLSAddress = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	certificate, key, err := k.certificate()
	if err != nil {
		return nil, err
	}
	const listener = "listener.name.sasl_ssl."
	return map[string]string{
		"listeners":                                 ",SASL_SSL://" + k.TLSAddress,
		"advertised.listeners":                      ",SASL_SSL://" + k.TLSAddress,
		"listener.security.protocol.map":            ",SASL_SSL:SASL_SSL",
		jaas("sasl_ssl", "plain"):                   k.plainLogin("between-brokers"),
		jaas("sasl_ssl", "scram-sha-256"):           scramLogin,
		jaas("sasl_ssl", "scram-sha-512"):           scramLogin,
		listener + "ssl.keystore.type":              "PEM",
		listener + "ssl.keystore.certificate.chain": certificate,
		listener + "ssl.keystore.key":               key,
	}, nil
}

// certificate makes one for 127.0.0.1, which it signs itself, and returns it and its key as a
// properties file has them.
func (k *KafkaServer) certificate() (certificate, key string, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Kafka of a test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return "", "", err
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return "", "", err
	}
	k.Roots = x509.NewCertPool()
	k.Roots.AddCert(parsed)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", "", err
	}
	property := func(kind string, der []byte) string {
		text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
		return strings.ReplaceAll(string(text), "\n", `\n`)
	}
	return property("CERTIFICATE", der), property("PRIVATE KEY", pkcs8), nil
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
		conn, err := dialer.DialContext(ctx, "tcp", k.listen)
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
func (k *KafkaServer) Freeze(t testing.TB) {
	t.Helper()
	if err := suspend(k.process.Pid); err != nil {
		t.Fatalf("servers: freeze Kafka: %v", err)
	}
}

// Thaw undoes Freeze.
func (k *KafkaServer) Thaw(t testing.TB) { t.Helper(); k.signal(t, syscall.SIGCONT) }

func (k *KafkaServer) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := k.process.Signal(s); err != nil {
		t.Fatalf("servers: %v for Kafka: %v", s, err)
	}
}
