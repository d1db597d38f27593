package servers

import (
	"context"
	"os"
	"sync"
	"testing"

	"github.com/parley-chat/parley/testkit/local"
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
type KafkaOptions = local.KafkaOptions

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

// KafkaServer is a broker that belongs to one test. It is a cluster of its own, with SASL PLAIN and SCRAM, and never
// makes a topic that nobody created.
type KafkaServer struct {
	*Process
	*local.KafkaServer
}

var kafkaShared struct {
	once   sync.Once
	server *local.KafkaServer
	err    error
}

func sharedKafka(t testing.TB) string {
	t.Helper()
	notShort(t)
	jars := kafkaJars(t)
	kafkaShared.once.Do(func() {
		ctx := context.Background() // it is not t's alone
		if kafkaShared.server, kafkaShared.err = local.Kafka(ctx, jars, KafkaOptions{}); kafkaShared.err == nil {
			kafkaShared.err = kafkaShared.server.Start(ctx)
		}
	})
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
	k, err := local.Kafka(t.Context(), kafkaJars(t), o)
	if err != nil {
		t.Fatalf("servers: start Kafka: %v", err)
	}
	return &KafkaServer{Process: startFor(t, k.Process), KafkaServer: k}
}

// kafkaJars returns the folder of jars, or skips t.
func kafkaJars(t testing.TB) string {
	t.Helper()
	folder := os.Getenv(KafkaJarsVariable)
	if folder == "" {
		t.Skipf("no Kafka: set %s to the URL of a cluster, or %s to a folder that .ci/kafka-jars has filled", KafkaVariable, KafkaJarsVariable)
	}
	return folder
}
