// Package sim simulates a whole system, and what goes wrong in it, from one number: the seed.
//
// A run has several nodes, accounts and a mailer, as processes of their own that share stores, cache, bus and fan-out in memory, and
// people with several devices who sign up, talk, edit, delete, react, say how far they have read, are cut off and come back. Processes are killed and told to end, calls of stores fail
// before or after their effect, are slow or happen twice, signals are lost, late or come twice, the bus and the fan-out
// do not reach somebody for a while, the cache or who is present is lost. Then nothing goes wrong any more, and these promises have to be
// kept:
//
//   - Every client's log of every room equals what is stored: no gap, no double, no phantom, one order, each message as it is after every
//     edit, deletion and reaction. A client also checks each thing that it is told: live messages follow each other, and changes come in
//     their order and behind their message, or the server says that it has to read again.
//   - What was acknowledged is stored, once, at the place that was acknowledged, however often it was sent.
//   - How far somebody has read never goes back, on whatever device they ask: what was acknowledged, by a mark, by a message of their own or
//     by a join, holds for all that they ask afterwards. What they are told to be unread is what the store has behind it.
//   - Whoever is in a room is listed as present, and nobody else, once leases have ended.
//   - A session that has ended has no connection, and no other session lost one for being unauthenticated.
//   - Every event that was committed reaches the bus and those who act on it, those of one key in their order, and has one effect.
//   - Every sign-up has its mail, each with one Message-ID, and no mail is sent more often than it may be tried.
//
// With Profile.Rights people also make rooms, public, private and direct ones, run them, and try what they may not. Nodes are deaf for as long as 40 seconds, and
// their clocks are behind by as much as 50. Then this is kept besides, all the time:
//
//   - Whoever is removed, banned, muted, made a reader or blocked, or whose room is gone, gets and stores nothing more a second after their node has heard of it, or
//     10 seconds after it was stored; over REST at once. A node whose store is late, or has failed, has so long after that.
//   - What somebody may do is not refused for longer than that.
//   - Nobody changes rights who had no right to it since they asked.
//   - In the end every connection was told what its user is in its rooms, is in what it may be in, and has heard the last message.
//
// # What is the same in each run of a seed
//
// Everything that one part wants of another is an item in a queue: a call of a port, a frame, a signal, an event, a step of a client, a
// fault. The seed draws how long it takes and what becomes of it. The clock is that of a bubble of testing/synctest. The bubble comes
// to rest between two items, so that one thing happens at a time. What has arrived meanwhile is sorted by name, and then numbers are drawn
// for it. So the trace of a seed is the same, byte for byte, in each run of the same program: a test compares. About one
// seed in 500 has two stories, where several contexts end at one instant.
//
// Within one item several goroutines of the real code may run, and Go decides in which order. It is the same each time because
// a run has one processor and no garbage collection. Under the race detector Go shuffles goroutines on purpose: a seed may then tell
// another story, which keeps the same promises. A machine so loaded that it stops the program for 10 ms
// within an item may let another goroutine go first, too.
//
// # What is not simulated
//
// Servers and their drivers, transports and the operating system: here are only core and the ports. Delivery by several workers to one
// large room. Clocks that differ, but in what they do to rights. A node that dies before it has put its users into a Presence that was lost. What a client of another wire format sees. Stores lose nothing that they have committed: campaigns
// with real ones are for that (docs/campaigns.md). A node that ends between storing a message and
// saying so is noticed when its lease ends; until then a cache may be read that lacks the message. A run takes that for a miss of
// the cache, and counts it as Counts.Spared. A node that lives on and does not reach the cache
// acknowledges messages all the same. Whoever joins the room on another node meanwhile, where nobody was there to hear of them, finds it
// without them, and is given them when that node has reached the cache, or when somebody speaks: a run counts such a join of
// a client that knew better as Counts.Untold, and expects that it is given them.
package sim
