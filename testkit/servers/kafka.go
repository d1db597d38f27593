package servers

import (
	"os"
	"testing"
)

// The variables for [Kafka].
const (
	// KafkaVariable names a cluster to use, as kafkabus.ParseURL takes it. Its user must be
	// allowed to create topics.
	KafkaVariable = "PARLEY_TEST_KAFKA"
	// KafkaJarsVariable names a folder with the jars of a broker, as .ci/kafka-jars fetches them.
	KafkaJarsVariable = "PARLEY_TEST_KAFKA_JARS"
)

// KafkaOptions is how [StartKafka] starts a broker. The zero value is a broker like that of [Kafka].
type KafkaOptions struct {
	// Advertise gets the host:port on which the broker will listen, before it does, and returns the
	// one that clients are told, so that the broker can stand behind a proxy. Default: the same.
	Advertise func(listen string) string
	// TLS adds a second address, with TLS. It is not behind Advertise. Default: none.
	TLS bool
}

// Kafka returns the URL of a cluster: the one that PARLEY_TEST_KAFKA names, or a broker that is
// started once for the test binary from the jars in PARLEY_TEST_KAFKA_JARS and stopped when the
// binary ends. Where there is neither, t is skipped. Tests share the cluster, so each needs
// names of topics and groups of its own.
func Kafka(t testing.TB) string {
	t.Helper()
	if url := os.Getenv(KafkaVariable); url != "" {
		return url
	}
	return sharedKafka(t)
}
