//go:build unix

package main_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// withFiles makes the program start with so many file descriptors at most.
func withFiles(n string) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) {
		cmd.Args = append([]string{"sh", "-c", `ulimit -n "$0" && exec "$@"`, n, cmd.Path}, cmd.Args[1:]...)
		cmd.Path = "/bin/sh"
	}
}

// recovers is how long a program that was out of descriptors may take to answer others again.
const recovers = 20 * time.Second

// TestStalledRequestsHoldNobodyElseUp: 400 requests that stall, on a process that may have 256 files open.
func TestStalledRequestsHoldNobodyElseUp(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes as long as a body may take to arrive")
	}
	for name, text := range map[string]string{
		"bodies":       "POST /auth/signin HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
		"unknown path": "POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
		"polling":      "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
		"headers":      "POST /auth/signin HTTP/1.1\r\nHos",
		"idle":         "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serveWith(t, t.TempDir(), withFiles("256"))
			address := strings.TrimPrefix(s.url, "http://")
			for range 400 {
				c, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
				require.NoError(t, err, "stderr: %s", s.stderr)
				t.Cleanup(func() { _ = c.Close() })
				_, err = io.WriteString(c, text)
				require.NoError(t, err)
			}
			began := time.Now()
			client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/livez", nil)
			require.NoError(t, err)
			answer, err := client.Do(r)
			require.NoError(t, err, "stderr: %s", s.stderr)
			require.NoError(t, answer.Body.Close())
			require.Equal(t, http.StatusOK, answer.StatusCode)
			took := time.Since(began)
			t.Logf("others are answered again after %v", took.Round(time.Millisecond))
			require.Less(t, took, recovers)

			// The log says so, at most once a second.
			lines := strings.Count(s.stderr.String(), "out of file descriptors")
			require.Positive(t, lines, "stderr: %s", s.stderr)
			require.LessOrEqual(t, lines, int(time.Since(began)/time.Second)+2)
			s.stop(t, sigterm)
		})
	}
}

// TestFloodAtTheStart: connections that wait for the program before it serves cannot take the descriptors
// that it needs to begin.
func TestFloodAtTheStart(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped by -short: requests stall until the server gives them up")
	}
	t.Parallel()
	address := freeAddress(t)
	s := launchWith(t, t.TempDir(), withFiles("256"), "--listen", address)
	ctx, late := context.WithTimeout(t.Context(), patience)
	defer late()
	for open := 0; open < 400; { // at once when the program listens, so without a pause
		select {
		case <-s.exited:
			t.Fatalf("the program has ended: %v\n%s", s.err, s.stderr)
		case <-ctx.Done():
			t.Fatal("the program does not listen")
		default:
		}
		if c, err := new(net.Dialer).DialContext(ctx, "tcp", address); err == nil {
			t.Cleanup(func() { _ = c.Close() })
			open++
		}
	}
	_, ok := s.stdout.line(t, s.exited, "Parley is at ")
	require.True(t, ok, "the program has ended: %v\n%s", s.err, s.stderr)
	await(t, "the word that descriptors lack", func() bool {
		select {
		case <-s.exited:
			t.Fatalf("the program has ended: %v\n%s", s.err, s.stderr)
		default:
		}
		return strings.Contains(s.stderr.String(), "out of file descriptors")
	})
	s.stop(t, sigterm)
}
