package prometheus

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/health"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/settings"
	"github.com/parley-chat/parley/core/socket"
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
}

func gauge(d *prometheus.Desc, value float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
}

func total(d *prometheus.Desc, value uint64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
}

// collector makes metrics when they are gathered.
type collector struct {
	descs   []*prometheus.Desc
	collect func(chan<- prometheus.Metric)
}

// Describe is prometheus.Collector's.
func (c collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		to <- d
	}
}

// Collect is prometheus.Collector's.
func (c collector) Collect(to chan<- prometheus.Metric) { c.collect(to) }

// WatchHub reads a hub whenever metrics are gathered. Its connections of the wire format of Parley are carried by
// transport; those of any other, which may change what carries them, by "any".
func (m *Metrics) WatchHub(h *realtime.Hub, transport string) error {
	c := settings.Of("prometheus: WatchHub")
	c.Argument("the hub", h == nil)
	c.Argument("the transport", transport == "")
	if err := c.Err(); err != nil {
		return err
	}
	connections := desc("connections", "Connections that are open.", "transport", "format")
	accepted := desc("connections_total", "Connections that were ever accepted.")
	closes := desc("closes_total", "Connections that ended, by the code that this node closed them with; peer where it did not.", "code")
	events := desc("events_total", "Events of clients, by name.", "event")
	deliveries := desc("deliveries_total", "Messages times the members that they were given to.")
	writes := desc("delivery_writes_total", "Writes by which messages were given to members: messages that wait for one share it.")
	holes := desc("fanout_holes_total", "Times that a message was missing in the live stream of a room, and read from the store.")
	pages := desc("recovery_pages_total", "Pages that were read for clients that came back.")
	queued := desc("queued_bytes", "Bytes that wait for readers who do not keep up.")
	rooms := desc("rooms", "Rooms with members on this node.")
	return m.register(collector{
		[]*prometheus.Desc{connections, accepted, closes, events, deliveries, writes, holes, pages, queued, rooms},
		func(to chan<- prometheus.Metric) {
			s := h.Stats()
			for format, n := range s.Connections {
				by := "any"
				if format == socket.Protocol {
					by = transport
				}
				to <- gauge(connections, float64(n), by, format)
			}
			to <- total(accepted, s.Accepted)
			for code, n := range s.Closes {
				name := "peer"
				if code != 0 {
					name = strconv.Itoa(code)
				}
				to <- total(closes, n, name)
			}
			for name, n := range s.Events {
				to <- total(events, n, name)
			}
			to <- total(deliveries, s.Deliveries)
			to <- total(writes, s.Writes)
			to <- total(holes, s.Holes)
			to <- total(pages, s.RecoveryPages)
			to <- gauge(queued, float64(s.QueuedBytes))
			to <- gauge(rooms, float64(s.Rooms))
		},
	})
}

// WatchHashes reads how many passwords wait to be hashed whenever metrics are gathered.
func (m *Metrics) WatchHashes(waiting func() int) error {
	c := settings.Of("prometheus: WatchHashes")
	c.Argument("the function", waiting == nil)
	if err := c.Err(); err != nil {
		return err
	}
	return m.register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: namespace, Name: "hashes_waiting", Help: "Passwords that wait for their turn to be hashed.",
	}, func() float64 { return float64(waiting()) }))
}

// WatchHealth asks the checks whenever metrics are gathered, each for at most [ReadTimeout], and at most once in [ReadEvery].
func (m *Metrics) WatchHealth(checks []health.Check) error {
	bounded := make([]health.Check, len(checks))
	for i, c := range checks {
		if c.Timeout <= 0 || c.Timeout > ReadTimeout {
			c.Timeout = ReadTimeout
		}
		bounded[i] = c
	}
	reporter := health.NewReporter(bounded, ReadEvery, func(string, error) {})
	up := desc("dependency_up", "1 if the health check of this name succeeds, 0 if not.", "name")
	return m.register(collector{[]*prometheus.Desc{up}, func(to chan<- prometheus.Metric) {
		for _, r := range reporter.Report(context.Background(), false).Results { // each check has its time-out
			value := 1.0
			if r.Err != nil {
				value = 0
			}
			to <- gauge(up, value, r.Name)
		}
	}})
}

// maxPending is how many events of the outbox are counted.
const maxPending = 1000

// newOutbox reads an outbox when metrics are gathered.
func newOutbox(outbox event.Outbox, now func() time.Time) prometheus.Collector {
	type state struct {
		pending int
		oldest  time.Time
	}
	read := sample(now, func(ctx context.Context) (state, error) {
		events, err := outbox.Pending(ctx, maxPending)
		s := state{pending: len(events)}
		for _, e := range events {
			if s.oldest.IsZero() || e.Time.Before(s.oldest) {
				s.oldest = e.Time
			}
		}
		return s, err
	})
	pending := desc("outbox_pending", "Events that wait to be published, up to 1000.")
	oldest := desc("outbox_oldest_seconds", "How long the oldest event waits; 0 if none does.")
	return collector{[]*prometheus.Desc{pending, oldest}, func(to chan<- prometheus.Metric) {
		if s, ok := read(); ok {
			to <- gauge(pending, float64(s.pending))
			to <- gauge(oldest, since(s.oldest, now))
		}
	}}
}

// newJobs reads a queue of jobs when metrics are gathered.
func newJobs(stats mail.Stats, letters mail.DeadLetters, now func() time.Time, jobs, oldest *prometheus.Desc) prometheus.Collector {
	type state struct {
		jobs   map[mail.State]int
		oldest time.Time
	}
	read := sample(now, func(ctx context.Context) (s state, err error) {
		if s.jobs, err = stats.Stats(ctx); err != nil {
			return s, err
		}
		waiting, err := letters.List(ctx, mail.Filter{State: mail.Ready, Limit: 1})
		if len(waiting) > 0 {
			s.oldest = waiting[0].CreatedAt
		}
		return s, err
	})
	return collector{[]*prometheus.Desc{jobs, oldest}, func(to chan<- prometheus.Metric) {
		s, ok := read()
		if !ok {
			return
		}
		for _, state := range []mail.State{mail.Ready, mail.Running, mail.Sent, mail.Dead} {
			to <- gauge(jobs, float64(s.jobs[state]), string(state))
		}
		to <- gauge(oldest, since(s.oldest, now))
	}}
}

// since is how long ago t was, in seconds; 0 for the zero time, and for one that another clock made.
func since(t time.Time, now func() time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return max(0, now().Sub(t).Seconds())
}

// sample returns what reads something within ReadTimeout, at most once in ReadEvery; false if it could not be read.
func sample[T any](now func() time.Time, read func(context.Context) (T, error)) func() (T, bool) {
	var (
		mu   sync.Mutex
		at   time.Time
		last T
		ok   bool
	)
	return func() (T, bool) {
		mu.Lock()
		defer mu.Unlock()
		if t := now(); at.IsZero() || t.Sub(at) >= ReadEvery || t.Before(at) {
			ctx, cancel := context.WithTimeout(context.Background(), ReadTimeout)
			defer cancel()
			var err error
			last, err = read(ctx)
			at, ok = t, err == nil
		}
		return last, ok
	}
}
