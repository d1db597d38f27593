package kafkabus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"

	"github.com/parley-chat/parley/adapters/watermillbus"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
)

// Open connects, creates the topics that are missing, and returns a bus that the caller closes.
// It gives up when ctx or [Config].Timeout ends. Its errors are one line, never show the
// password, and have kinds: Unavailable for a broker that is not reached, Unauthenticated for
// a user or password that is refused, Forbidden for a topic without rights, Invalid for what
// the cluster cannot do.
func Open(ctx context.Context, cfg Config) (*Bus, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	b, err := leave(ctx, func() (*Bus, error) { return open(ctx, cfg) }, func(late *Bus) { _ = late.Close() })
	if err == nil {
		return b, nil
	}
	if known := (*fault.Error)(nil); !errors.As(err, &known) {
		err = translate(err)
	}
	return nil, fmt.Errorf("kafkabus: opening %s: %w", cfg, err)
}

// leave calls do, which does not heed a context, and leaves it to end by itself when ctx does.
// discard gets what comes too late.
func leave[T any](ctx context.Context, do func() (T, error), discard func(T)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		v, err := do()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
	}
	go func() {
		if r := <-done; r.err == nil {
			discard(r.value)
		}
	}()
	var none T
	return none, ctx.Err()
}

// open does the work of Open. Each step is bounded by the time-outs of the network.
func open(ctx context.Context, cfg Config) (*Bus, error) {
	answering, err := reach(ctx, cfg)
	if err != nil {
		return nil, err
	}
	topics := make([]string, 0, 2*len(cfg.Topics))
	for _, t := range cfg.Topics {
		topics = append(topics, cfg.Prefix+t)
		if dead, ok := event.DeadTopic(t); ok {
			topics = append(topics, cfg.Prefix+dead)
		}
	}
	slices.Sort(topics)
	topics = slices.Compact(topics)
	if err := createTopics(ctx, cfg, topics); err != nil {
		return nil, err
	}
	base := cfg.base()
	base.Metadata.Full = len(topics) == 0 // to ask for none would be an error
	client, err := sarama.NewClient(cfg.Brokers, base)
	if err != nil {
		return nil, err
	}
	if err := settle(ctx, client, topics); err != nil {
		return nil, errors.Join(err, client.Close())
	}
	// An idempotent producer asks one broker for its number, and tries no other.
	kafkaPublisher, err := kafka.NewPublisher(kafka.PublisherConfig{
		Brokers: answering, Marshaler: marshaler{cfg.Prefix}, OverwriteSaramaConfig: cfg.producer(),
	}, watermill.NopLogger{})
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	records := &records{to: kafkaPublisher, leaders: func(topic string) error { return client.RefreshMetadata(cfg.Prefix + topic) }}
	publisher, err := watermillbus.NewPublisher(watermillbus.PublisherConfig{Publisher: records, Source: cfg.Source})
	if err != nil {
		return nil, errors.Join(err, records.Close(), client.Close())
	}
	b := &Bus{
		cfg: cfg, client: client, topics: topics, records: records, publisher: publisher,
		probing: make(chan struct{}, 1), instances: map[string]bool{},
	}
	b.ctx, b.end = context.WithCancel(context.Background())
	return b, nil
}

// reach asks every broker that is named, at once, and returns those that answer. Sarama's client
// would do as much, but says of all failures together only that it has run out of brokers.
func reach(ctx context.Context, cfg Config) ([]string, error) {
	errs := make([]error, len(cfg.Brokers))
	var wg sync.WaitGroup
	for i, address := range cfg.Brokers {
		wg.Go(func() {
			if err := ask(cfg, address); err != nil {
				errs[i] = fmt.Errorf("%s: %w", address, cfg.explain(err))
			}
		})
	}
	wg.Wait()
	var answering []string
	for i, address := range cfg.Brokers {
		if errs[i] == nil {
			answering = append(answering, address)
		}
	}
	if answering != nil {
		return answering, ctx.Err()
	}
	slices.SortStableFunc(errs, func(a, b error) int { return rank(a) - rank(b) })
	return nil, errs[0]
}

// rank puts first what is most worth telling: a refusal tells more than a broker that is down.
func rank(err error) int {
	if fault.KindOf(err) == fault.Unavailable {
		return 1
	}
	return 0
}

func ask(cfg Config, address string) error {
	conf := cfg.base()
	broker := sarama.NewBroker(address)
	if err := broker.Open(conf); err != nil {
		return err
	}
	if _, err := broker.Connected(); err != nil {
		return err
	}
	_, err := broker.GetMetadata(sarama.NewMetadataRequest(conf.Version, nil))
	return errors.Join(err, broker.Close())
}

// createTopics creates what is missing and waits until each topic has its leaders.
func createTopics(ctx context.Context, cfg Config, topics []string) error {
	if len(topics) == 0 {
		return nil
	}
	conf := cfg.base()
	conf.Metadata.Full = true // or the controller cannot be found
	conf.Admin.Timeout = requestTimeout
	admin, err := sarama.NewClusterAdmin(cfg.Brokers, conf)
	if err != nil {
		return err
	}
	defer func() { _ = admin.Close() }() // nothing is lost with it
	const poll = 100 * time.Millisecond
	wait := time.NewTicker(poll)
	defer wait.Stop()
	created := map[string]bool{}
	for {
		missing, err := unready(admin, topics)
		if err != nil || len(missing) == 0 {
			return err
		}
		for topic, gone := range missing {
			if !gone || created[topic] {
				continue
			}
			if err := createTopic(admin, cfg, topic); err != nil {
				return err
			}
			created[topic] = true
		}
		select {
		case <-wait.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the leaders of the topics: %w", ctx.Err())
		}
	}
}

// settle waits until the leader of every partition says that it is: of a new topic it is named
// before it knows.
func settle(ctx context.Context, client sarama.Client, topics []string) error {
	wait := time.NewTicker(50 * time.Millisecond)
	defer wait.Stop()
	for _, topic := range topics {
		partitions, err := client.Partitions(topic)
		if err != nil {
			return err
		}
		for _, p := range partitions {
			for {
				_, err := client.GetOffset(topic, p, sarama.OffsetNewest)
				if err == nil {
					break
				}
				if refused(err) {
					return fmt.Errorf("topic %s: %w", topic, translate(err))
				}
				select {
				case <-wait.C:
				case <-ctx.Done():
					return fmt.Errorf("topic %s: %w", topic, translate(err))
				}
			}
		}
	}
	return nil
}

// unready returns the topics that cannot be used yet; true says that one does not exist.
func unready(admin sarama.ClusterAdmin, topics []string) (map[string]bool, error) {
	described, err := admin.DescribeTopics(topics)
	if err != nil {
		return nil, err
	}
	missing := map[string]bool{}
	for _, t := range described {
		switch {
		case errors.Is(t.Err, sarama.ErrUnknownTopicOrPartition):
			missing[t.Name] = true
		case errors.Is(t.Err, sarama.ErrLeaderNotAvailable):
			missing[t.Name] = false
		case !errors.Is(t.Err, sarama.ErrNoError):
			return nil, fmt.Errorf("topic %s: %w", t.Name, translate(t.Err))
		case slices.ContainsFunc(t.Partitions, func(p *sarama.PartitionMetadata) bool { return p.Leader < 0 }):
			missing[t.Name] = false
		}
	}
	return missing, nil
}

func createTopic(admin sarama.ClusterAdmin, cfg Config, topic string) error {
	retention := strconv.FormatInt(cfg.Retention.Milliseconds(), 10)
	detail := &sarama.TopicDetail{
		NumPartitions:     int32(cfg.Partitions),
		ReplicationFactor: int16(cfg.Replication),
		ConfigEntries:     map[string]*string{"retention.ms": &retention},
	}
	if _, ok := event.DeadTopic(topic); !ok {
		detail.NumPartitions = 1
	}
	err := admin.CreateTopic(topic, detail, false)
	if err != nil && !errors.Is(err, sarama.ErrTopicAlreadyExists) {
		return fmt.Errorf("creating the topic %s: %w", topic, translate(err))
	}
	return nil
}
