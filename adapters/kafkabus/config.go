package kafkabus

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/IBM/sarama"

	"github.com/parley-chat/parley/core/settings"
)

// Mechanism is how a user proves itself (SASL, RFC 4422).
type Mechanism string

// The mechanisms. PLAIN sends the password as it is: use it over TLS.
const (
	Plain       Mechanism = "plain"         // RFC 4616
	ScramSHA256 Mechanism = "scram-sha-256" // RFC 7677
	ScramSHA512 Mechanism = "scram-sha-512"
)

// Config is what [Open] needs. Zero fields without "required" mean the default.
type Config struct {
	// Brokers are some of the cluster's, as host:port; the others are found through them. Required.
	Brokers []string
	// User and Password go together. Default none: no SASL.
	User, Password string
	// Mechanism is how they are proved. Default Plain if there is a user.
	Mechanism Mechanism
	// TLS is for the connections. Default nil: no TLS. ServerName is each broker's host unless set.
	TLS *tls.Config

	// Topics are created, with their dead topics, unless they exist. Default none.
	Topics []string
	// Partitions of a created topic bound how many members of a group work at once. Default 6.
	Partitions int
	// Replication is how many brokers keep a created topic. Default what the cluster has set.
	Replication int
	// Retention is how long a created topic keeps events. Default 7 days.
	Retention time.Duration
	// Prefix stands before the names of topics and groups, so that several systems can share a
	// cluster. Default none.
	Prefix string

	// Replay is how far back a subscription without a group starts: it gets the events of that time
	// before those that come, as far as the topic still has them. The time is what producers put on
	// their records, by their own clocks. Default 0: it starts at the end.
	Replay time.Duration

	// Refresh is how often a topic's list of partitions is asked for: those that were added are read, and
	// written to, that much later at most; a group needs up to twice that, and gathers anew. Each subscription, and
	// the publisher, asks for itself, with one small request. Default 3 seconds; at least 100 milliseconds.
	Refresh time.Duration

	// Node names this process among those of its groups, and must stay the same over its
	// restarts: letters, digits, '.', '_' and '-'. Two processes must not share one.
	// Default none: members are not static.
	Node string
	// Source says who publishes (ce_source). Default "parley".
	Source string
	// Timeout bounds Open. Default 15 seconds.
	Timeout time.Duration
	// Backoff is the wait after a handler's first failure; it doubles with each further one.
	// Default 100 milliseconds.
	Backoff time.Duration
	// MaxBackoff bounds that wait. Default 2 seconds; at most 4, or a group could not move a
	// partition in time.
	MaxBackoff time.Duration
}

var (
	nameOfTopic = regexp.MustCompile(`^[A-Za-z0-9._-]{1,200}$`)
	nameOfNode  = regexp.MustCompile(`^[A-Za-z0-9._-]{1,100}$`)
)

const (
	longestBackoff  = 4 * time.Second
	shortestRefresh = 100 * time.Millisecond
	mostPartitions  = 10_000
	mostReplicas    = 100
)

// complete fills in the defaults and checks everything at once.
func (c Config) complete() (Config, error) {
	check := settings.Of("kafkabus: Config")
	check.Require("Brokers", len(c.Brokers) == 0)
	for _, b := range c.Brokers {
		check.Fault("Brokers", checkAddress(b))
	}
	if (c.User == "") != (c.Password == "") {
		check.Refuse("User", "and Password go together")
	}
	if c.Mechanism == "" && c.User != "" {
		c.Mechanism = Plain
	}
	switch c.Mechanism {
	case "":
	case Plain, ScramSHA256, ScramSHA512:
		if c.User == "" {
			check.Refuse("Mechanism", "%s needs a User", c.Mechanism)
		}
	default:
		check.Refuse("Mechanism", "is %q, want %s, %s or %s", c.Mechanism, Plain, ScramSHA256, ScramSHA512)
	}
	for _, topic := range c.Topics {
		if !nameOfTopic.MatchString(topic) {
			check.Refuse("Topics", "has %q, want letters, digits, '.', '_' and '-'", topic)
		}
	}
	if c.Prefix != "" && !nameOfNode.MatchString(c.Prefix) {
		check.Refuse("Prefix", "is %q, want letters, digits, '.', '_' and '-'", c.Prefix)
	}
	if c.Node != "" && !nameOfNode.MatchString(c.Node) {
		check.Refuse("Node", "is %q, want letters, digits, '.', '_' and '-'", c.Node)
	}
	settings.Default(check, "Partitions", &c.Partitions, 6)
	if c.Partitions > mostPartitions {
		check.Refuse("Partitions", "is %d, want 1 to %d", c.Partitions, mostPartitions)
	}
	settings.Default(check, "Replication", &c.Replication, -1) // the cluster's default.replication.factor
	if c.Replication > mostReplicas {
		check.Refuse("Replication", "is %d, want 1 to %d", c.Replication, mostReplicas)
	}
	settings.Default(check, "Retention", &c.Retention, 7*24*time.Hour)
	if c.Retention > 0 && c.Retention < time.Millisecond {
		check.Refuse("Retention", "is %v, want at least 1ms", c.Retention)
	}
	settings.Default(check, "Replay", &c.Replay, 0)
	settings.Default(check, "Refresh", &c.Refresh, 3*time.Second)
	if c.Refresh > 0 && c.Refresh < shortestRefresh {
		check.Refuse("Refresh", "is %v, want at least %v", c.Refresh, shortestRefresh)
	}
	settings.Default(check, "Timeout", &c.Timeout, 15*time.Second)
	settings.Default(check, "Backoff", &c.Backoff, 100*time.Millisecond)
	settings.Default(check, "MaxBackoff", &c.MaxBackoff, max(c.Backoff, 2*time.Second))
	switch {
	case c.MaxBackoff > longestBackoff:
		check.Refuse("MaxBackoff", "is %v, want at most %v", c.MaxBackoff, longestBackoff)
	case c.MaxBackoff > 0 && c.Backoff > c.MaxBackoff:
		check.Refuse("MaxBackoff", "%v is shorter than Backoff %v", c.MaxBackoff, c.Backoff)
	}
	if err := check.Err(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// String shows where the bus is, as a URL: brokers, user, mechanism, TLS and prefix, without the
// password.
func (c Config) String() string {
	u := "kafka://"
	if c.User != "" {
		u += url.QueryEscape(c.User) + ":***@"
	}
	u += strings.Join(c.Brokers, ",")
	sep := "?"
	if c.Mechanism != "" {
		u += sep + "sasl=" + string(c.Mechanism)
		sep = "&"
	}
	if c.TLS != nil {
		u += sep + "tls=true"
		sep = "&"
	}
	if c.Prefix != "" {
		u += sep + "prefix=" + c.Prefix
	}
	return u
}

// GoString is String, so that no verb of fmt shows the password.
func (c Config) GoString() string { return c.String() }

// LogValue implements slog.LogValuer and hides the password.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// ParseURL reads kafka://user:password@host:port,host:port?sasl=…&tls=true, with user and
// password URL-encoded. It knows these parameters:
//
//   - sasl is plain, scram-sha-256 or scram-sha-512, and plain if there is only a user
//   - tls is true or false
//   - prefix, partitions, replication and retention are the fields of [Config] with these names;
//     retention is written as 168h or 90m
//
// Errors are one line, name the parameter, and never show the password.
func ParseURL(raw string) (Config, error) {
	c, err := parseURL(raw)
	if err != nil {
		return Config{}, fmt.Errorf("kafkabus: the URL of the bus: %w", err)
	}
	return c, nil
}

// parseURL does not use url.Parse: it refuses more than one port, and its errors show the whole.
func parseURL(raw string) (Config, error) {
	rest, ok := strings.CutPrefix(raw, "kafka://")
	if !ok {
		return Config{}, errors.New("want kafka://user:password@host:port,host:port?sasl=…&tls=…")
	}
	rest, query, _ := strings.Cut(rest, "?")
	var c Config
	if i := strings.LastIndex(rest, "@"); i >= 0 {
		user, password, _ := strings.Cut(rest[:i], ":")
		rest = rest[i+1:]
		var errUser, errPassword error
		c.User, errUser = url.PathUnescape(user)
		c.Password, errPassword = url.PathUnescape(password)
		if errUser != nil || errPassword != nil {
			return Config{}, errors.New("user and password must be URL-encoded")
		}
		if c.User == "" || c.Password == "" {
			return Config{}, errors.New("user and password go together")
		}
		c.Mechanism = Plain
	}
	c.Brokers = strings.Split(strings.TrimSuffix(rest, "/"), ",")
	for _, b := range c.Brokers {
		if err := checkAddress(b); err != nil {
			return Config{}, err
		}
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return Config{}, errors.New("what follows the question mark is not key=value&key=value")
	}
	for key, vs := range values {
		if len(vs) != 1 {
			return Config{}, fmt.Errorf("%.40q is there more than once", key)
		}
		switch key {
		case "sasl":
			c.Mechanism = Mechanism(vs[0])
			switch c.Mechanism {
			case Plain, ScramSHA256, ScramSHA512:
			default:
				return Config{}, fmt.Errorf("sasl is %.40q, want %s, %s or %s", vs[0], Plain, ScramSHA256, ScramSHA512)
			}
			if c.User == "" {
				return Config{}, errors.New("sasl needs a user and a password")
			}
		case "tls":
			switch vs[0] {
			case "true":
				c.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
			case "false":
			default:
				return Config{}, fmt.Errorf("tls is %.40q, want true or false", vs[0])
			}
		case "prefix":
			if !nameOfNode.MatchString(vs[0]) {
				return Config{}, fmt.Errorf("prefix is %.40q, want letters, digits, '.', '_' and '-'", vs[0])
			}
			c.Prefix = vs[0]
		case "partitions":
			c.Partitions, err = number(key, vs[0], mostPartitions)
		case "replication":
			c.Replication, err = number(key, vs[0], mostReplicas)
		case "retention":
			c.Retention, err = time.ParseDuration(vs[0])
			if err != nil || c.Retention < time.Millisecond {
				err = fmt.Errorf("retention is %.40q, want a time such as 168h, at least 1ms", vs[0])
			}
		default:
			return Config{}, fmt.Errorf("%.40q is not known, want sasl, tls, prefix, partitions, replication or retention", key)
		}
		if err != nil {
			return Config{}, err
		}
	}
	return c, nil
}

// number reads a parameter that is a number from 1 to most.
func number(name, value string, most int) (int, error) {
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > most {
		return 0, fmt.Errorf("%s is %.40q, want 1 to %d", name, value, most)
	}
	return n, nil
}

// checkAddress does not show what it refuses when that may hold a password.
func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		n, failed := strconv.Atoi(port)
		if failed == nil && n > 0 && n < 1<<16 && host != "" && !strings.ContainsAny(host, "@/ \t\r\n") {
			return nil
		}
	}
	return errors.New("each broker must be host:port")
}

// Time-outs of one request. A publish to a frozen broker ends after a few of them; a
// consumer's must outlast the time in which a group gathers.
const (
	dialTimeout      = 2 * time.Second
	requestTimeout   = 3 * time.Second
	sessionTimeout   = 6 * time.Second // the least that brokers allow by default
	rebalanceTimeout = 6 * time.Second
	gatherTimeout    = rebalanceTimeout + 4*time.Second
)

// mostBytes is the largest record that is offered to a broker, which usually takes 1 MiB.
const mostBytes = 16 << 20

// base is what every connection has. It is called once a client: Sarama changes what it gets.
func (c Config) base() *sarama.Config {
	s := sarama.NewConfig()
	s.ClientID = "parley"
	s.Version = sarama.V2_8_0_0
	s.Net.DialTimeout = dialTimeout
	s.Net.ReadTimeout = requestTimeout
	s.Net.WriteTimeout = requestTimeout
	s.Metadata.AllowAutoTopicCreation = false
	s.Metadata.Full = false
	s.Metadata.Retry.Max = 1
	s.Metadata.Retry.Backoff = 100 * time.Millisecond
	s.Metadata.Timeout = requestTimeout
	s.Metadata.RefreshFrequency = c.Refresh
	if c.TLS != nil {
		s.Net.TLS.Enable = true
		s.Net.TLS.Config = c.TLS.Clone()
	}
	if c.User != "" {
		s.Net.SASL.Enable = true
		s.Net.SASL.User = c.User
		s.Net.SASL.Password = c.Password
		switch c.Mechanism {
		case ScramSHA256:
			s.Net.SASL.Mechanism = sarama.SASLTypeSCRAMSHA256
			s.Net.SASL.SCRAMClientGeneratorFunc = newScram256
		case ScramSHA512:
			s.Net.SASL.Mechanism = sarama.SASLTypeSCRAMSHA512
			s.Net.SASL.SCRAMClientGeneratorFunc = newScram512
		default:
			s.Net.SASL.Mechanism = sarama.SASLTypePlaintext
		}
	}
	return s
}

func (c Config) producer() *sarama.Config {
	s := c.base()
	s.Net.MaxOpenRequests = 1
	s.Producer.RequiredAcks = sarama.WaitForAll
	s.Producer.Idempotent = true
	s.Producer.Timeout = 2 * time.Second
	s.Producer.MaxMessageBytes = mostBytes
	s.Producer.Retry.Max = 2
	s.Producer.Retry.Backoff = 100 * time.Millisecond
	s.Producer.Return.Successes = true
	s.Producer.Return.Errors = true
	s.Producer.Partitioner = sarama.NewHashPartitioner
	return s
}

func (c Config) consumer(instance string) *sarama.Config {
	s := c.base()
	s.Net.ReadTimeout = gatherTimeout
	s.Consumer.Return.Errors = true
	s.Consumer.Offsets.Initial = sarama.OffsetOldest
	s.Consumer.Retry.Backoff = 200 * time.Millisecond
	s.Consumer.Group.InstanceId = instance
	s.Consumer.Group.Session.Timeout = sessionTimeout
	s.Consumer.Group.Heartbeat.Interval = time.Second
	s.Consumer.Group.Rebalance.Timeout = rebalanceTimeout
	s.Consumer.Group.Rebalance.Retry.Backoff = 200 * time.Millisecond
	return s
}
