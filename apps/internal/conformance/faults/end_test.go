package faults_test

import (
	"bytes"
	"context"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/testkit/servers"
)

// TestProgramsEndThoughNothingAnswers freezes every server while people talk and sign up, and
// stops the programs. What they cannot tell anybody any more must not keep them.
func TestProgramsEndThoughNothingAnswers(t *testing.T) {
	t.Parallel()
	db := servers.StartPostgres(t)
	proxy, store := behind(t, db.URL)
	for _, service := range everybody {
		create(t, "pgx", db.URL, "CREATE DATABASE parley_"+string(service))
	}
	w, shared := newWorld(t, func(service config.Program) string { return inDatabase(t, store, "parley_"+string(service)) })
	w.begin()
	database := &dependency{name: "PostgreSQL", proxy: proxy}
	w.await(database, all[0], "people talk and sign up before it", w.busy())
	w.stop() // the load; what is under way is left to the programs
	dependencies := append([]*dependency{database}, shared...)
	for _, d := range dependencies {
		all[0].begin(d)
	}
	var stopping sync.WaitGroup
	for _, p := range w.programs() {
		stopping.Go(func() {
			began := time.Now()
			err := p.Stop()
			t.Logf("%s ended after %v", p.URL, time.Since(began).Round(time.Millisecond))
			if err != nil { // a busy machine may not settle everything in time; then it says so, and ends all the same
				assert.ErrorContains(t, err, "the end was not in order")
			}
		})
	}
	stopping.Wait()
	if t.Failed() || testing.Verbose() {
		for _, p := range w.programs() {
			t.Log(p.Log())
		}
	}
	for _, d := range dependencies {
		d.proxy.Heal()
	}
	// What was left to itself ends now, since its connections do.
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for left := true; left; {
		text := make([]byte, 4<<20)
		text = text[:runtime.Stack(text, true)]
		left = bytes.Contains(text, []byte("/sarama."))
		select {
		case <-time.After(aWhile):
		case <-ctx.Done():
			t.Fatalf("something is left:\n%s", text)
		}
	}
}
