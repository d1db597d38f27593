// Package power is the campaign of power cuts: a store stands on a file system that forgets what was not synced
// ([forgetfs]), clients work, the power is cut at random moments, and at the end what was acknowledged is compared with
// what is there.
//
// With a database, the program parley serves clients over sockets, whose journal is checked. Of Redis, the queue of mails
// is used, and of Kafka the bus, each through the adapter that parley uses.
package power

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/parley-chat/parley/apps/internal/campaign/forgetfs"
	"github.com/parley-chat/parley/apps/internal/campaign/journal"
)

// Config is what a campaign is told.
type Config struct {
	// Store is the kind of store: one of [Stores]. Default sqlite.
	Store string
	// Setting is how it syncs: one of [Settings] of it. Default: the first, which keeps what it acknowledges.
	Setting string
	// Cuts is how often the power is cut, at least once.
	Cuts int
	// Seed draws the moments and what survives. Default: random.
	Seed uint64
	// Survival is how much of what was not synced survives: nothing, some, torn, or mixed, which draws one of them at each cut. Default mixed.
	Survival string
	// SyncTime is how long a sync takes. Default 500 microseconds; negative means no time.
	SyncTime time.Duration
	// Clients is how many work at once. Default 12.
	Clients int
	// Journal, if set, is the file that the clients' journal is kept in.
	Journal string
	// KafkaJars is the folder with the jars of a broker, for the store kafka.
	KafkaJars string
	// Program is the file of parley. Required.
	Program string
	// Say, if set, is told how it goes, a line at a time.
	Say func(line string)
}

// setting is a way in which a store syncs.
type setting struct {
	name string
	// promised says that what is acknowledged is to survive.
	promised bool
}

// stores are the kinds of store, with the names that operators know for how they sync.
var stores = map[string][]setting{
	"sqlite":   {{"synchronous=full", true}},
	"postgres": {{"synchronous_commit=on", true}, {"synchronous_commit=off", false}},
	"mariadb":  {{"innodb_flush_log_at_trx_commit=1", true}, {"innodb_flush_log_at_trx_commit=2", false}, {"innodb_flush_log_at_trx_commit=0", false}},
	"redis": {
		{"appendfsync=always", true}, {"appendfsync=always aof-load-truncated=yes", false}, {"appendfsync=everysec", false}, {"appendfsync=no", false},
	},
	"kafka": {{"log.flush.interval.messages=1", true}, {"default", false}},
}

// Stores are the kinds of store that a campaign knows, in order.
var Stores = []string{"sqlite", "postgres", "mariadb", "redis", "kafka"}

// Settings are the settings of a kind of store.
func Settings(store string) []string {
	var names []string
	for _, s := range stores[store] {
		names = append(names, s.name)
	}
	return names
}

// survivals are the values of Config.Survival.
var survivals = map[string][]forgetfs.Survival{
	"nothing": {forgetfs.Nothing}, "some": {forgetfs.Some}, "torn": {forgetfs.Torn},
	"mixed": {forgetfs.Nothing, forgetfs.Some, forgetfs.Torn},
}

// setting returns how the store syncs.
func (c Config) setting() setting {
	for _, s := range stores[c.Store] {
		if s.name == c.Setting {
			return s
		}
	}
	return setting{}
}

// withDefaults refuses what cannot be meant.
func (c Config) withDefaults() (Config, error) {
	if c.Store == "" {
		c.Store = Stores[0]
	}
	known := stores[c.Store]
	if known == nil {
		return c, fmt.Errorf("power: the store is none of %s", strings.Join(Stores, ", ")) // it may be a URL with a password
	}
	if c.Setting == "" {
		c.Setting = known[0].name
	}
	if c.setting() == (setting{}) {
		return c, fmt.Errorf("power: the setting %q of %s is none of %s", c.Setting, c.Store, strings.Join(Settings(c.Store), ", "))
	}
	if c.Survival == "" {
		c.Survival = "mixed"
	}
	if survivals[c.Survival] == nil {
		return c, fmt.Errorf("power: the survival %q is none of %s", c.Survival, strings.Join(slices.Sorted(maps.Keys(survivals)), ", "))
	}
	if c.SyncTime == 0 {
		c.SyncTime = 500 * time.Microsecond
	}
	c.SyncTime = max(c.SyncTime, 0)
	if c.Clients == 0 {
		c.Clients = 12
	}
	switch {
	case c.Cuts < 1:
		return c, errors.New("power: at least one cut is needed")
	case c.Clients < 1 || c.Clients > 1000:
		return c, fmt.Errorf("power: %d clients are not 1 to 1000", c.Clients)
	case c.SyncTime > time.Second:
		return c, fmt.Errorf("power: a sync of %v is longer than a second", c.SyncTime)
	case c.Store == "kafka" && c.KafkaJars == "":
		return c, errors.New("power: kafka needs the folder with the jars of a broker, which .ci/kafka-jars fills")
	case c.Program == "":
		return c, errors.New("power: the program is missing")
	}
	if c.Say == nil {
		c.Say = func(string) {}
	}
	return c, nil
}

// Result is what a campaign found.
type Result struct {
	Store    string `json:"store"`
	Setting  string `json:"setting"`
	Promised bool   `json:"promised"`
	Seed     uint64 `json:"seed"`
	Survival string `json:"survival"`
	// Cuts counts them all, FirstStarts those in the first start of a program on an empty folder.
	Cuts        int `json:"cuts"`
	FirstStarts int `json:"firstStarts,omitempty"`
	// Acknowledged and Lost count messages, mails or events.
	Acknowledged int `json:"acknowledged"`
	Lost         int `json:"lost"`
	// Twice counts what is stored more than once.
	Twice int `json:"twice"`
	// Syncs counts those of files.
	Syncs int64 `json:"syncs"`
	// Pages and Changes of names were not synced at the cuts; those that survived are among them.
	Pages       int `json:"pages"`
	PagesKept   int `json:"pagesKept"`
	Changes     int `json:"changes"`
	ChangesKept int `json:"changesKept"`
	// Repaired counts the starts before which the store's own tool had to mend its files, as its operators would.
	Repaired int `json:"repaired,omitempty"`
	// Seconds is how long it took.
	Seconds float64 `json:"seconds"`
	// Journal is the verdict on the journal of the clients, if there is one.
	Journal *journal.Verdict `json:"journal,omitempty"`
	// Date is when it ended.
	Date string `json:"date"`
}

// ErrLost says that something was lost that the store promises to keep.
var ErrLost = errors.New("power: what was acknowledged is lost")

// Err returns ErrLost with the figures if a promise was broken.
func (r Result) Err() error {
	if !r.Promised {
		return nil
	}
	if r.Lost > 0 {
		return fmt.Errorf("%w: %d of %d with %s of %s, seed %d", ErrLost, r.Lost, r.Acknowledged, r.Setting, r.Store, r.Seed)
	}
	if r.Journal != nil && !r.Journal.OK() {
		return fmt.Errorf("power: the journal of the clients is not right: %s, seed %d", anomalies(r.Journal), r.Seed)
	}
	return nil
}

// anomalies counts those that were found.
func anomalies(v *journal.Verdict) string {
	var found []string
	for _, a := range journal.Anomalies {
		if n := v.Count(a); n > 0 {
			found = append(found, fmt.Sprintf("%s: %d", a, n))
		}
	}
	if found == nil {
		return "none"
	}
	return strings.Join(found, ", ")
}

// Print writes the result as a table.
func (r Result) Print(w io.Writer) error {
	promise := "no"
	if r.Promised {
		promise = "yes"
	}
	rows := [][2]string{
		{"store", r.Store}, {"setting", r.Setting}, {"promised", promise}, {"survives", r.Survival}, {"seed", fmt.Sprint(r.Seed)},
		{"cuts", fmt.Sprint(r.Cuts)}, {"of them in a first start", fmt.Sprint(r.FirstStarts)},
		{"acknowledged", fmt.Sprint(r.Acknowledged)}, {"lost", fmt.Sprint(r.Lost)}, {"twice", fmt.Sprint(r.Twice)},
		{"syncs of files", fmt.Sprint(r.Syncs)},
		{"pages unsynced", fmt.Sprintf("%d, %d survived", r.Pages, r.PagesKept)},
		{"names unsynced", fmt.Sprintf("%d, %d survived", r.Changes, r.ChangesKept)},
	}
	if r.Repaired > 0 {
		rows = append(rows, [2]string{"repaired", fmt.Sprint(r.Repaired)})
	}
	if r.Journal != nil {
		rows = append(rows, [2]string{"delivered", fmt.Sprint(r.Journal.Delivered)}, [2]string{"anomalies", anomalies(r.Journal)})
	}
	rows = append(rows, [2]string{"seconds", fmt.Sprintf("%.0f", r.Seconds)}, [2]string{"date", r.Date})
	for _, row := range rows {
		if _, err := fmt.Fprintf(w, "%-26s %s\n", row[0], row[1]); err != nil {
			return err
		}
	}
	if r.Journal != nil && !r.Journal.OK() {
		for _, a := range journal.Anomalies {
			for _, e := range r.Journal.Anomalies[a].Examples {
				if _, err := fmt.Fprintf(w, "  %s: %s\n", a, e); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
