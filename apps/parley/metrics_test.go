package main_test

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/wsclient"
)

// families are metrics by name: their type, and their labels.
type families map[string]*family

type family struct {
	kind   string
	labels []string
}

var (
	typeLine   = regexp.MustCompile(`^# TYPE (\S+) (\S+)$`)
	sampleLine = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? \S+$`)
	labelName  = regexp.MustCompile(`(?:^|,)([a-z_]+)="(?:[^"\\]|\\.)*"`)
)

// scrape reads Parley's metrics of a running program.
func (s *server) scrape(t *testing.T) families {
	t.Helper()
	all, last := families{}, ""
	for line := range strings.Lines(string(must(t, 200, http.MethodGet, s.admin+"/metrics", "", nil))) {
		line = strings.TrimSuffix(line, "\n")
		if m := typeLine.FindStringSubmatch(line); m != nil {
			if last = m[1]; strings.HasPrefix(last, "parley_") {
				all[last] = &family{kind: m[2]}
			}
			continue
		}
		m := sampleLine.FindStringSubmatch(line)
		if m == nil || all[last] == nil {
			continue
		}
		for _, l := range labelName.FindAllStringSubmatch(m[2], -1) {
			if !slices.Contains(all[last].labels, l[1]) && (l[1] != "le" || all[last].kind != "histogram") {
				all[last].labels = append(all[last].labels, l[1])
			}
		}
	}
	return all
}

// lived is a program in which something of everything has happened.
func lived(t *testing.T) *server {
	t.Helper()
	s := serve(t, t.TempDir(), "--webhook-url", "http://127.0.0.1:1/", "--webhook-private=on", "--webhook-secret", oneSecret)
	heard := make(chan struct{}, 100)
	c := s.connect(t, s.member(t, "Ada Lovelace").AccessToken, func(e wsclient.Event) {
		if e.Kind == wsclient.EventMessage {
			heard <- struct{}{}
		}
	})
	_, err := c.Join(t.Context(), "hall")
	require.NoError(t, err)
	_, err = c.Send(t.Context(), "hall", "Hello")
	require.NoError(t, err)
	<-heard
	must(t, 200, http.MethodGet, s.url+"/health", "", nil) // its socket ends
	// What is counted a moment after whoever waited for it was told.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		all := s.scrape(t)
		if all["parley_closes_total"] != nil && all["parley_mail_attempts_total"] != nil {
			return s
		}
		require.NoError(t, ctx.Err(), "no close and no mail is counted")
	}
}

var metricRow = regexp.MustCompile("(?m)^\\| `(parley_[a-z_]+)` \\| ([a-z]+) \\|([^|]*)\\|")

// TestMetricsAreThoseInTheDocuments compares what a program has with the table in docs/operations.md.
func TestMetricsAreThoseInTheDocuments(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.FromSlash("../../docs/operations.md"))
	require.NoError(t, err)
	documented := families{}
	for _, m := range metricRow.FindAllStringSubmatch(string(text), -1) {
		f := &family{kind: m[2]}
		for _, l := range strings.Split(m[3], ",") {
			if l = strings.Trim(l, " `"); l != "" {
				f.labels = append(f.labels, l)
			}
		}
		documented[m[1]] = f
	}
	s := lived(t)
	all := s.scrape(t)
	// What is fixed for whoever watches many programs.
	fixed := strings.Fields(`connections connections_total closes_total events_total messages_total deliveries_total delivery_writes_total
		delivery_seconds queued_bytes rooms commit_seconds commit_batch_size cache_requests_total fanout_lag_seconds fanout_holes_total
		recovery_pages_total outbox_pending outbox_oldest_seconds events_published_total events_dead_total mail_jobs mail_attempts_total
		mail_oldest_seconds signins_total hashes_waiting sessions_revoked_total http_requests_total http_request_seconds dependency_up build_info`)
	fixed = append(fixed, "changes_total", "marks_total", "webhook_jobs", "webhook_attempts_total", "webhook_oldest_seconds") // came later
	for i := range fixed {
		fixed[i] = "parley_" + fixed[i]
	}
	assert.ElementsMatch(t, fixed, slices.Collect(maps.Keys(all)))
	assert.ElementsMatch(t, fixed, slices.Collect(maps.Keys(documented)))
	for name, want := range documented {
		if got := all[name]; got != nil {
			assert.Equal(t, want.kind, got.kind, name)
			assert.ElementsMatch(t, want.labels, got.labels, name)
		}
	}
	text = must(t, 200, http.MethodGet, s.admin+"/metrics", "", nil)
	for _, private := range []string{"Lovelace", "lovelace", `"hall"`, "example.com", `"127.0.0.1`} {
		assert.NotContains(t, string(text), private, "a label holds a user, a room or an address")
	}
}

// unknown returns what an expression names that the program does not have. Whoever scrapes adds job and instance.
func unknown(expression string, all families) (wrong []string, names int) {
	expression = literal.ReplaceAllString(expression, `""`)
	known := map[string]bool{"job": true, "instance": true}
	for _, name := range metricName.FindAllString(expression, -1) {
		names++
		f := all[name]
		for _, ending := range []string{"_bucket", "_sum", "_count"} {
			if base := all[strings.TrimSuffix(name, ending)]; f == nil && base != nil && base.kind == "histogram" {
				f = base
				known["le"] = known["le"] || ending == "_bucket"
			}
		}
		if f == nil {
			wrong = append(wrong, name)
			continue
		}
		for _, l := range f.labels {
			known[l] = true
		}
	}
	var used []string
	for _, m := range selector.FindAllStringSubmatch(expression, -1) {
		for _, pair := range strings.Split(m[1], ",") {
			used = append(used, strings.TrimRight(strings.TrimSpace(pair), `=!~"`))
		}
	}
	for _, m := range grouping.FindAllStringSubmatch(expression, -1) {
		for _, l := range strings.Split(m[1], ",") {
			used = append(used, strings.TrimSpace(l))
		}
	}
	for _, l := range used {
		if !known[l] {
			wrong = append(wrong, "label "+l)
		}
	}
	return wrong, names
}

var (
	literal    = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
	metricName = regexp.MustCompile(`\bparley_[a-z_]+`)
	selector   = regexp.MustCompile(`\{([^}]*)\}`)
	grouping   = regexp.MustCompile(`\b(?:by|without|on|ignoring) \(([^)]*)\)`)
	inTemplate = regexp.MustCompile(`\$labels\.([a-z_]+)`)
	inLegend   = regexp.MustCompile(`\{\{\s*([a-z_]+)\s*\}\}`)
)

// TestDashboardAndAlertsNameWhatThereIs asks a running program for every metric and label in apps/deploy.
func TestDashboardAndAlertsNameWhatThereIs(t *testing.T) {
	t.Parallel()
	all := lived(t).scrape(t)
	for expression, want := range map[string][]string{ // the test itself
		`sum by (le, job) (rate(parley_commit_seconds_bucket{job="x"}[5m]))`: nil,
		`sum by (colour) (parley_rooms{code="1"})`:                           {"label code", "label colour"},
		`parley_room + parley_rooms_bucket`:                                  {"parley_room", "parley_rooms_bucket"},
	} {
		got, _ := unknown(expression, all)
		require.ElementsMatch(t, want, got, expression)
	}
	seen := map[string]bool{}
	check := func(place, expression string) {
		wrong, names := unknown(expression, all)
		assert.Empty(t, wrong, "%s: %s", place, expression)
		assert.Positive(t, names, "%s: it asks for nothing", place)
		for _, name := range metricName.FindAllString(expression, -1) {
			for _, ending := range []string{"", "_bucket", "_sum", "_count"} {
				seen[strings.TrimSuffix(name, ending)] = true
			}
		}
	}
	labels := func(place, text, expression string, find *regexp.Regexp) {
		for _, m := range find.FindAllStringSubmatch(text, -1) {
			grouped := grouping.FindStringSubmatch(expression)
			assert.True(t, grouped != nil && regexp.MustCompile(`\b`+m[1]+`\b`).MatchString(grouped[1]), "%s: %s is not among what %s groups by", place, m[1], expression)
		}
	}

	text, err := os.ReadFile(filepath.FromSlash("../deploy/grafana/parley.json"))
	require.NoError(t, err)
	var dashboard struct {
		Templating struct {
			List []struct{ Query any }
		}
		Panels []struct {
			ID      int
			Title   string
			Targets []struct{ Expr, LegendFormat string }
		}
	}
	require.NoError(t, json.Unmarshal(text, &dashboard))
	ids := map[int]bool{}
	for _, p := range dashboard.Panels {
		assert.False(t, ids[p.ID], "%s has the id of another panel", p.Title)
		ids[p.ID] = true
		require.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			check(p.Title, strings.ReplaceAll(target.Expr, "$__rate_interval", "5m"))
			labels(p.Title, target.LegendFormat, target.Expr, inLegend)
		}
	}
	require.Contains(t, string(text), "label_values(parley_build_info, instance)")
	for name := range all {
		assert.True(t, seen[name], "the dashboard does not show %s", name)
	}

	text, err = os.ReadFile(filepath.FromSlash("../deploy/prometheus/alerts.yml"))
	require.NoError(t, err)
	var rules struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	require.NoError(t, yaml.UnmarshalWithOptions(text, &rules, yaml.Strict()))
	alerts := map[string]bool{}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			assert.False(t, alerts[r.Alert], "two rules are called %s", r.Alert)
			alerts[r.Alert] = true
			check(r.Alert, r.Expr)
			labels(r.Alert, r.Annotations["summary"], r.Expr, inTemplate)
			assert.Contains(t, []string{"page", "ticket"}, r.Labels["severity"], r.Alert)
			assert.NotEmpty(t, r.Annotations["summary"], r.Alert)
		}
	}
	assert.Greater(t, len(alerts), 10)
}
