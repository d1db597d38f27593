//go:build !linux

package servers

import "testing"

// sharedKafka skips t: servers are started on Linux only.
func sharedKafka(t testing.TB) string {
	t.Helper()
	t.Skipf("Kafka is started on Linux only; set %s to the URL of a cluster", KafkaVariable)
	return ""
}
