// Package watermillbus is the event bus on Watermill v1.5: the ports [event.Publisher] and
// [event.Subscriber].
//
// [NewGoChannel] makes a bus inside this process, on Watermill's GoChannel. [Publisher] and
// [Subscriber] work over any of Watermill's transports, such as Kafka.
//
// # Guarantees
//
// The bus in this process keeps nothing on disk; the outbox does. So that no event can be lost
// between the two, the groups that must not miss one are declared ([GoChannelConfig].Groups).
// Publish returns nil only when every declared group of the topic is done with the event: a handler
// has returned nil, or that the event can never be handled. If the process dies, or the context of Publish ends, at any moment before that, the event
// is still pending in the outbox and comes again. Three things follow. While a declared group has
// no subscriber, or its handler fails, Publish waits, and then fails with kind Unavailable; the
// relay keeps the event. An event whose Publish gave up is withdrawn: a handler that is running
// finishes, nothing is tried again, and in its group no later event overtakes it. And a handler
// must not publish to a topic whose declared groups it serves, and wait: it would wait for itself.
// Where the bus can see that it happens, Publish says so at once.
//
// Subscribers without a group, and groups that are not declared, get each event into a queue of
// their own, and Publish does not wait for their handlers. They see every event published while
// they are subscribed; what is in their queue ends with them. One that falls more than
// [GoChannelConfig].Behind events behind is ended with [ErrBehind], so that it neither holds
// up the others nor takes all the memory.
//
// Within a topic events arrive in the order of publishing, whatever their keys. A group, and a
// subscriber without one, handles one event at a time; members of a group take turns. A failed
// event is tried again after a wait that doubles from Backoff to MaxBackoff, before any other;
// when a member leaves, another member of its group goes on with it.
//
// Watermill's own BlockPublishUntilSubscriberAck (v1.5.1) is not used. With it a subscription that ends in
// the middle of an event counts as an acknowledgement. Nobody can subscribe while a message
// waits. A handler that publishes can be locked out for ever. This package keeps its
// own account of who is done.
//
// [Publisher] and [Subscriber] add to a transport what the ports ask for and Watermill does not
// know: publishing that can be left by its context and says of each event what became of it, retries in place with a back-off, and
// what can never be handled. Order, groups and durability are the transport's.
//
// # Exceptions
//
// The bus in this process keeps every promise. [Publisher] and [Subscriber] keep those that their
// transport lets them keep: over Watermill's own GoChannel all but three, because it has no groups,
// and nobody can subscribe to it while a message waits. A [Subscriber] without [SubscriberConfig].Dead
// drops what can never be handled.
//
// # Topics
//
// The topic of an event is the topic of its message. Attributes travel as CloudEvents 1.0 in
// binary mode, as metadata: ce_specversion, ce_id, ce_source, ce_type, ce_time (RFC 3339, left
// out if zero), ce_partitionkey (the key, left out if empty) and content-type, which is
// application/json; the data is the payload. A message that is not such an event goes to the dead topic, which has
// the topic's name with ".dead" behind it; so does an event whose handler returns an error of kind Invalid. It goes there
// as it came, with the reason in dead_reason (at most 1,024 bytes). It holds up nobody. In this
// process it is kept by nobody either, unless somebody is subscribed there.
//
// # Closing
//
// [Bus.Close] ends every subscription and every waiting Publish with [ErrClosed]. A Publisher
// does not close the publisher it was given. A Subscriber closes the subscribers that it opened.
package watermillbus
