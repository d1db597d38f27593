package local

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// KafkaOptions is how [Kafka] makes a broker.
type KafkaOptions struct {
	// Advertise gets the host:port on which the broker will listen, before it does, and returns the
	// one that clients are told, so that the broker can stand behind a proxy. Default: the same.
	Advertise func(listen string) string
	// TLS adds a second address, with TLS. It is not behind Advertise. Default: none.
	TLS bool
	// Data is a new folder for what it keeps. Default: one in the server's own.
	Data string
	// Settings are further ones of the broker, by name. They win over those of [Kafka]. Default: none.
	Settings map[string]string
}

// KafkaServer is a broker. It is a cluster of its own, with SASL PLAIN and SCRAM, and never
// makes a topic that nobody created.
type KafkaServer struct {
	*Process

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

	listen     string // behind Address
	java, jars string
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

// Kafka makes a broker with a folder of its own, which it formats before ctx ends, from the jars in a folder that .ci/kafka-jars
// has filled. Where there is no java, the error is ErrMissing.
func Kafka(ctx context.Context, folder string, o KafkaOptions) (k *KafkaServer, err error) {
	folder, err = filepath.Abs(folder)
	if err != nil {
		return nil, err
	}
	if found, err := filepath.Glob(filepath.Join(folder, "kafka_*.jar")); err != nil || len(found) == 0 {
		return nil, fmt.Errorf("%s is a folder without a Kafka: fill it with .ci/kafka-jars", folder)
	}
	java, err := exec.LookPath("java")
	if err != nil {
		return nil, fmt.Errorf("the program java is %w", ErrMissing)
	}
	jars := filepath.Join(folder, "*")
	process, err := New("Kafka", false)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(process.folder))
		}
	}()
	broker, err := FreePort()
	if err != nil {
		return nil, err
	}
	controller, err := FreePort()
	if err != nil {
		return nil, err
	}
	k = &KafkaServer{
		listen: net.JoinHostPort("127.0.0.1", strconv.Itoa(broker)),
		User:   "app", Limited: "limited", Password: "s3cret-of-tests",
		java: java, jars: jars, Process: process,
	}
	process.Command, process.Ready, process.Patience = k.serve, Listening(k.listen), kafkaPatience // it listens when it is ready
	k.Address = k.listen
	if o.Advertise != nil {
		k.Address = o.Advertise(k.listen)
	}
	settings := k.settings(controller)
	settings["log.dirs"] = cmp.Or(o.Data, k.File("data"))
	if o.TLS {
		more, err := k.withTLS()
		if err != nil {
			return nil, err
		}
		for name, value := range more {
			settings[name] += value
		}
	}
	maps.Copy(settings, o.Settings)
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
	cmd := exec.CommandContext(ctx, java, format...)
	bare(cmd)
	apart(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("format: %w: %s", err, out)
	}
	return k, nil
}

func (k *KafkaServer) properties() string { return k.File("server.properties") }

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
	port, err := FreePort()
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
	chain, private, err := Certificate(1)
	if err != nil {
		return "", "", err
	}
	k.Roots = x509.NewCertPool()
	k.Roots.AppendCertsFromPEM(chain)
	property := func(pem []byte) string { return strings.ReplaceAll(string(pem), "\n", `\n`) }
	return property(chain), property(private), nil
}

// serve is the command that serves until it is killed.
func (k *KafkaServer) serve() (*exec.Cmd, error) {
	cmd := exec.Command(k.java, "-Xmx512m", "-XX:TieredStopAtLevel=1", "-cp", k.jars, "kafka.Kafka", k.properties())
	cmd.Dir = k.Folder()
	return cmd, nil
}
