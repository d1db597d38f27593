package kafkabus_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/kafkabus"
	"github.com/parley-chat/parley/core/fault"
)

func TestParseURL(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]kafkabus.Config{
		"kafka://broker:9092":           {Brokers: []string{"broker:9092"}},
		"kafka://[::1]:9092,b:1?":       {Brokers: []string{"[::1]:9092", "b:1"}},
		"kafka://a:1,b:2,c:3/?tls=true": {Brokers: []string{"a:1", "b:2", "c:3"}, TLS: &tls.Config{MinVersion: tls.VersionTLS12}},
		"kafka://app:p%40s%3As%2F@a:1":  {Brokers: []string{"a:1"}, User: "app", Password: "p@s:s/", Mechanism: kafkabus.Plain},
		"kafka://app:p@a:1?tls=false&sasl=scram-sha-512": {
			Brokers: []string{"a:1"}, User: "app", Password: "p", Mechanism: kafkabus.ScramSHA512,
		},
		"kafka://a:1?prefix=chat.&partitions=12&replication=3&retention=36h": {
			Brokers: []string{"a:1"}, Prefix: "chat.", Partitions: 12, Replication: 3, Retention: 36 * time.Hour,
		},
		"kafka://app:a@b@a:1?sasl=scram-sha-256": {Brokers: []string{"a:1"}, User: "app", Password: "a@b", Mechanism: kafkabus.ScramSHA256},
	} {
		got, err := kafkabus.ParseURL(raw)
		require.NoError(t, err, raw)
		require.Equal(t, want, got, raw)
	}
}

func TestParseURLRefuses(t *testing.T) {
	t.Parallel()
	for raw, says := range map[string]string{
		"": "want kafka://", "http://a:1": "want kafka://", "amqp://app:s3cret@a:1": "want kafka://",
		"kafka://": "host:port", "kafka://broker": "host:port", "kafka://broker:0": "host:port", "kafka://broker:65536": "host:port",
		"kafka://a:1,": "host:port", "kafka://:9092": "host:port", "kafka://a:1/topic": "host:port",
		"kafka://app:s3cret": "host:port", "kafka://app:s3cret@a": "host:port", "kafka://app:s3c\nret@a b:1": "host:port",
		"kafka://app:s3cret/@a:1?x=y": `"x" is not known`, "kafka://app@a:1": "go together", "kafka://:s3cret@a:1": "go together",
		"kafka://app:s3cret%zz@a:1":          "URL-encoded",
		"kafka://a:1?sasl=plain":             "sasl needs a user",
		"kafka://app:s3cret@a:1?sasl=PLAIN":  "want plain",
		"kafka://app:s3cret@a:1?sasl=gssapi": "want plain",
		"kafka://app:s3cret@a:1?tls=yes":     "want true or false",
		"kafka://a:1?tls=true&tls=true":      "more than once",
		"kafka://app:s3cret@a:1?tls=%zz":     "key=value",
		"kafka://app:s3cret@a:1?prefix=":     "prefix is", "kafka://app:s3cret@a:1?prefix=a/b": "prefix is",
		"kafka://app:s3cret@a:1?partitions=0": "partitions is", "kafka://app:s3cret@a:1?partitions=10001": "partitions is",
		"kafka://app:s3cret@a:1?partitions=few": "partitions is", "kafka://app:s3cret@a:1?replication=-1": "replication is",
		"kafka://app:s3cret@a:1?replication=101": "replication is", "kafka://app:s3cret@a:1?retention=7": "retention is",
		"kafka://app:s3cret@a:1?retention=-1h": "retention is", "kafka://app:s3cret@a:1?retention=1us": "retention is",
		"kafka://app:s3cret@a:1?replay=1h":           `"replay" is not known, want sasl, tls, prefix`,
		"kafka://app:s3cret@a:1?Partitions=1":        "not known",
		"kafka://app:s3cret@a:1?prefix=a.&prefix=a.": "more than once",
	} {
		_, err := kafkabus.ParseURL(raw)
		require.ErrorContains(t, err, says, "%q", raw)
		require.NotContains(t, err.Error(), "s3c", "%q", raw)
		require.NotContains(t, err.Error(), "\n", "%q", raw)
	}
}

func TestPasswordIsNotShown(t *testing.T) {
	t.Parallel()
	cfg, err := kafkabus.ParseURL("kafka://app:s3cret@a:1,b:2?sasl=scram-sha-256&tls=true&prefix=chat.&partitions=2")
	require.NoError(t, err)
	const want = "kafka://app:***@a:1,b:2?sasl=scram-sha-256&tls=true&prefix=chat."
	require.Equal(t, want, cfg.String())
	for _, shown := range []string{fmt.Sprint(cfg), fmt.Sprintf("%+v", cfg), fmt.Sprintf("%#v", cfg), cfg.LogValue().String()} {
		require.Equal(t, want, shown)
	}
	var out strings.Builder
	slog.New(slog.NewJSONHandler(&out, nil)).Info("bus", "config", cfg)
	require.NotContains(t, out.String(), "s3cret")
}

func TestOpenChecksEverythingAtOnce(t *testing.T) {
	t.Parallel()
	_, err := kafkabus.Open(t.Context(), kafkabus.Config{
		User: "app", Mechanism: "ntlm", Topics: []string{"a b"}, Prefix: "ü", Node: "n/1",
		Partitions: -1, Replication: 101, Retention: -1, Replay: -1, Refresh: time.Millisecond, Timeout: -1, Backoff: -1, MaxBackoff: time.Minute,
	})
	for _, name := range []string{
		"Brokers", "User and Password", "Mechanism", "Topics", "Prefix", "Node", "Partitions", "Replication", "Retention", "Replay", "Refresh", "Timeout", "Backoff", "MaxBackoff",
	} {
		require.ErrorContains(t, err, name)
	}
}

// TestOpenWithoutABroker: a port where nothing listens, and one that takes connections and
// says nothing.
func TestOpenWithoutABroker(t *testing.T) {
	t.Parallel()
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = mute.Close() }()

	_, err = kafkabus.Open(t.Context(), kafkabus.Config{Brokers: []string{"127.0.0.1:1"}})
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorContains(t, err, "nothing listens there")
	require.NotContains(t, err.Error(), "\n")

	silent := kafkabus.Config{Brokers: []string{mute.Addr().String()}, Timeout: 200 * time.Millisecond}
	_, err = kafkabus.Open(t.Context(), silent)
	require.ErrorContains(t, err, "does not answer in time")
	require.ErrorIs(t, err, fault.Unavailable)

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = kafkabus.Open(ended, silent)
	require.ErrorIs(t, err, context.Canceled)
}
