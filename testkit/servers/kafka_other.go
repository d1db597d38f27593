//go:build !linux

package servers

import (
	"crypto/x509"
	"testing"
)

// sharedKafka skips t: servers are started on Linux only.
func sharedKafka(t testing.TB) string {
	t.Helper()
	t.Skipf("Kafka is started on Linux only; set %s to the URL of a cluster", KafkaVariable)
	return ""
}

// KafkaServer is a broker that belongs to one test. Servers are started on Linux only.
type KafkaServer struct {
	*Process
	Address, User, Password, Limited, TLSAddress string
	Roots                                        *x509.CertPool
}

// StartKafka skips t: servers are started on Linux only.
func StartKafka(t testing.TB, _ KafkaOptions) *KafkaServer {
	t.Helper()
	t.Skip("Kafka: servers are started on Linux only")
	return nil
}

// URL is empty: there is no server.
func (*KafkaServer) URL() string { return "" }

// LimitedURL is empty: there is no server.
func (*KafkaServer) LimitedURL() string { return "" }
