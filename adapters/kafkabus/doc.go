// Package kafkabus is the event bus on Apache Kafka: the ports [event.Publisher] and
// [event.Subscriber], with Watermill's Kafka publisher v3.1 and Sarama v1.61, for brokers from
// version 2.8 on (run on 4.1.0 in KRaft mode).
//
// # Guarantees
//
// Publish returns nil when every in-sync replica has every event. The producer is idempotent and
// has one request under way, so its own repetitions neither double nor reorder. What fails is named event by event: a
// topic that is gone, a partition without a leader, a record that is too large (for the topic's max.message.bytes, the
// broker's segments, or 16 MiB here) hold up nothing else. A Publish that
// is left by its context goes on by itself until its time-outs end it, at most some fifteen
// seconds; its outcome is unknown, and later calls wait for it, so that nothing overtakes.
//
// The partition is chosen by the event's key, the empty key being one too. A partition belongs
// to one member of a group, and one subscription handles one event at a time. An event
// whose handler failed is handled again in place, after a wait that doubles from Backoff to
// MaxBackoff, and before its successors. One that can never be handled goes to the
// dead topic (see Topics): a message that is not an event, or an event whose handler returns
// an error of kind Invalid.
//
// A group that is new starts at the oldest event that the topic still has. What it has handled
// is committed every second and at the end of a subscription, so after a crash up to a second's
// events come twice. A partition is taken away when members come or go, or the broker was lost.
// Then the event under way is not tried again here, and the context of a running handler ends two seconds later. A handler
// that ignores it for longer can overlap with the new owner's.
//
// Without a group a subscription reads every partition from its end as it stands when ready is
// called, without joining anything, and keeps its place in memory. With [Config].Replay set it
// begins that much earlier, so that a process that starts learns what was said shortly before;
// ready does not wait for that. It goes on after a broker's
// restart where it stopped.
//
// Partitions that are added to a running topic are noticed within [Config].Refresh: the publisher uses them, and a
// subscription reads them from their beginning, whatever Replay says. A group notices within twice that, gathers
// anew, and begins there too.
//
// A topic that was deleted and made again, with as many partitions, more or fewer, is another one, with another identifier (KIP-516). Subscriptions with
// a group and without one notice within Refresh, and read it from its beginning. With each offset a group commits the identifier of the
// topic, as "topic-id=…" in the metadata of the commit. An offset of another topic says nothing, however late it was committed and whether or not the new
// topic is as long, and the group begins at the oldest event. An offset without an identifier, as other programs and earlier versions commit it, counts as it is, and gets one.
// What was handled between the topic's return and Refresh may come again.
// An offset beyond the end of its own topic, as after a loss of records on the brokers, also makes the group begin at the oldest event.
//
// With [Config].Node set, members are static (KIP-345): after a broker's restart a member has its
// partitions back at most about 3 seconds later, without it up to 6. A subscription that ends
// by its context leaves the group, so the others take over at once; the partitions of a process
// that was killed wait for its session, 6 seconds, or for its return.
//
// Once a subscription is ready it survives whatever a broker does. It ends with an error when
// the rights or the password are refused several times in a row, and when another process joins
// under the same node name (kind Conflict).
//
// Watermill's own Kafka subscriber (v3.1.2) is not used. It does not tell when a group has been joined. It goes on handling
// a partition that was taken away. It reconnects without a pause when a group is refused. Without a group it starts
// again at the newest event, and skips some.
//
// # Exceptions
//
// A broker takes events for a topic that is deleted until it has heard of that, and deletes them with it: Publish has returned nil for them.
// Seen for up to 1.3 seconds after the return of a topic on a busy broker.
//
// The keys of a topic are spread anew when partitions are added to it. Around that moment an event whose key has moved can
// be handled before one of the same key that is still unread on the partition of before.
//
// # Topics
//
// [Open] creates those of [Config].Topics that do not exist, with the stated partitions,
// replication and retention, and for each its dead topic, with ".dead" behind the name and one
// partition. Topics that exist are left alone. Other topics, and their dead topics, must exist
// before they are used: brokers are never asked to create one on the fly. Prefix stands before
// every name of a topic and of a group.
//
// Where the cluster has access lists, a user needs Describe on each topic and dead topic, Create for
// those that are missing, Write on what it publishes to, Read on what it subscribes to, Write on the
// dead topic of that, Read on its groups, and, before Kafka 3.0, IdempotentWrite on the cluster.
//
// A record's key is the event's key, its value the data. Attributes travel as CloudEvents 1.0 in
// binary mode, as headers: ce_specversion, ce_id, ce_source, ce_type, ce_time, ce_partitionkey
// (the key, left out if empty) and content-type, application/json. A record on a dead topic is
// the one that was refused, with the reason in the header dead_reason; if it is too large with that, it has
// no data and the header dead_cut. A record without
// ce_partitionkey has its own key as the event's.
//
// # Closing
//
// [Bus.Close] ends every subscription and every Publish with watermillbus.ErrClosed, and the
// connections. A broker that does not answer delays it by at most five seconds.
package kafkabus
