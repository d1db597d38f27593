//go:build !linux

package servers

import "testing"

type sharedServer struct{ variable string }

var (
	sharedPostgres = sharedServer{PostgresVariable}
	sharedMySQL    = sharedServer{MySQLVariable}
)

// sharedSQL skips t: servers are started on Linux only.
func sharedSQL(t testing.TB, s *sharedServer) string {
	t.Helper()
	t.Skipf("database servers are started on Linux only; set %s to the URL of one", s.variable)
	return ""
}

// SQLServer is a database server that belongs to one test. There are none on this system.
type SQLServer struct {
	*Process
	URL string
}

// StartPostgres skips t: servers are started on Linux only.
func StartPostgres(t testing.TB) *SQLServer { t.Helper(); return notHere(t) }

// StartMySQL skips t: servers are started on Linux only.
func StartMySQL(t testing.TB) *SQLServer { t.Helper(); return notHere(t) }

func notHere(t testing.TB) *SQLServer {
	t.Helper()
	t.Skip("database servers are started on Linux only")
	return nil
}
