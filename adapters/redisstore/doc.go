// Package redisstore implements what several nodes share, on Redis through go-redis v9:
// chat.RecentCache, realtime.Fanout, realtime.Presence, auth.Limiter, auth.Nonces, and
// mail.Queue with mail.DeadLetters and mail.Stats. It runs on Redis 6.2 or later, single or as
// a cluster; from Redis 7.0 on the fan-out uses sharded publish and subscribe. It is tested
// on Redis 7.0, single and as a cluster of three, and on miniredis v2.40.
//
// # Guarantees
//
//   - Every change of a port is one script or one command, atomic on the server, also on a
//     cluster: keys that are used together have one hash tag.
//   - A call returns when its context is done, whatever the server does. Failures are of kind
//     Unavailable. What was under way may still happen.
//   - A cache, presence and a limiter that are lost with the server cost time or a wrong count; never a message. A cache
//     that has missed messages begins anew: it holds no hole. When spent names may be lost, also by a restart from an
//     older snapshot or a replica that lacked the last writes, those that may be among them are refused: see [Nonces].
//   - The fan-out connects again by itself, usually within 2 seconds. While the server is away
//     every node goes on by itself, and Publish keeps the last messages to send; see [Fanout]
//     for what is made up for then.
//   - The mail queue is as durable as the server. With appendonly yes and appendfsync always,
//     what was acknowledged was synced to the disk; aof-load-truncated has to be no for that, since what Redis 7.0 makes
//     of a torn end may hide all that comes after it. With everysec it survives the end of the
//     server's process, unless the disk lags, and the loss of power costs up to 2 seconds.
//     Without appendonly a restart loses jobs. maxmemory-policy must be noeviction, which
//     [Connect] wants, for spent names as well as for mails. A replica that takes over may lack the
//     last writes.
//   - [Connect] asks what answers at a URL, and [Store.Ready] whether it takes writes. A server
//     that was demoted loses all connections that [Open] made.
//   - Times come from the callers and keep their microseconds. They order exactly until the
//     year 2255.
//
// # Exceptions
//
// The ports' suites pass without exceptions. Besides: users of a node that died are back when
// it renews within an hour and nobody has ended its lease, and not later; a room that nobody enters, leaves, lists or
// renews for 30 days is empty. When the server lost its data, users are present again once
// their node has renewed with their room; who went with a node that died before the data was lost is
// not among those whom a renewal returns. A renewal whose answer was lost may keep to itself who has left. A client that repeats a command after a broken connection may count an attempt twice
// in [Limiter], and lease a job in [MailQueue] whose answer nobody gets: it is claimed
// again when that lease ends, as after a crash. Scripts make the names of some keys, so that
// proxies which move keys without regard for hash tags will not do.
//
// # Schema
//
// Keys and channels begin with the prefix, "parley:" by default; braces are hash tags. In names, }
// is written %7D, NUL %00 and % itself %25.
//
//	{r:ROOM}:recent:1               list: the last messages, 20 digits of the sequence and the message
//	{r:ROOM}:recent:rev             the number of the room's last change, 20 digits
//	{r:ROOM}:who, :ids, :nodes, :sums
//	                                who is present, on which node, and what a roll is compared by
//	{presence}:leases, :ended       hash: node → end of its lease, and since when it is ended for good, in microseconds
//	{l:KEY}                         when an allowance is whole again, in microseconds
//	{nN}/NAME, {nN}since            a name that was spent, where N from 0 to 15 comes from the name as for channels, and
//	                                in which run of the server and since when names are remembered, in seconds
//	{readyN}, {try}:…               what Ready and Connect write
//	{mail}:job:ID                   hash: a mail job
//	{mail}:jobs                     stream: an entry for each job that is not sent, in order, with a
//	                                group "mailers", whose pending entries are leased or wait for their time
//	{mail}:keys, :place, :ids, :in:STATE, :waiting, :due, :sent
//	{webhook}:…                     the same for deliveries of webhooks
//	                                job keys, the last place in the stream, and sets of job IDs
//
// The stream keeps the order; it does not measure leases. A consumer group's idle time is the server's
// clock, and a lease of mail.Queue is its caller's; and a group reads an entry once, where a job that
// is tried again or requeued has to come before its successors. So the times are in the sorted sets beside it,
// and what is due is claimed from the pending entries before a new one is read.
//
// Channels are {fN}/ROOM and {fN}home, where N from 0 to 15 comes from the room's name (FNV-1a,
// 32 bits, modulo 16). What they carry is binary, with a version in front: signal.go says it in
// full. Apart from the mail queue everything has a time to live.
//
// # Closing
//
// There is nothing to close but the client. [Store.Close] closes the one that [Dial] opened; any other belongs to
// whoever made it. Calls after that are of kind Unavailable. [Fanout.Run] ends with its context.
package redisstore
