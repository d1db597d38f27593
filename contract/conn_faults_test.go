package contract_test

// connFault is a wire with one defect, and the case that must notice.
type connFault struct {
	caught  string
	defects defects
}

func connFaults() []connFault {
	return []connFault{
		{"frames arrive in order", defects{reorders: true}},
		{"frames arrive in order", defects{doubles: true}},
		{"frames arrive in order", defects{loses: true}},
		{"frames of every length arrive whole", defects{noEmpty: true}},
		{"joined frames arrive as messages", defects{firstOfJoined: true}},
		{"joined frames arrive as messages", defects{joinedAsOne: true}},
		{"one frame serves many connections", defects{mutates: true}},
		{"concurrent sends arrive whole", defects{mixesUp: true}},
		{"a stalled client does not block Send", defects{blocks: true}},
		{"a stalled client does not block Send", defects{refusesQueue: true}},
		{"a stalled client does not block Send", defects{hidesQueue: true}},
		{"a stalled client harms nobody else", defects{blocks: true}},
		{"nothing is queued once the client reads", defects{neverDrains: true}},
		{"Send after Close is Unavailable", defects{sendsAfterClose: true}},
		{"Send after Close is Unavailable", defects{okAfterClose: true}},
		{"Send on a broken connection is Unavailable", defects{okWhenGone: true}},
		{"Close delivers the queue, then code and reason", defects{dropsQueue: true}},
		{"a reason of 123 bytes arrives", defects{cutsReason: true}},
		{"only the first Close counts", defects{lastCloseWins: true}},
		{"only the first Close counts", defects{closesTwice: true}},
		{"concurrent closes are one", defects{goneTwice: true}},
		{"Close cuts a silent client", defects{neverCuts: true}},
		{"Close cuts a stalled client", defects{neverCuts: true}},
		{"an answered Close disconnects once", defects{goneTwice: true}},
		{"messages are received in order", defects{reordersReceive: true}},
		{"messages of every length are received whole", defects{noEmpty: true}},
		{"fragments are received as one message", defects{splits: true}},
		{"binary is told from text", defects{forgetsBinary: true}},
		{"a ping is answered", defects{noPong: true}},
		{"pings in a row are each answered", defects{fewPongs: true}},
		{"the client's close disconnects once", defects{goneFirst: true}},
		{"the client's close disconnects once", defects{receivesAfterGone: true}},
		{"a cut disconnects once", defects{neverGone: true}},
		{"a cut disconnects once", defects{goneTwice: true}},
		{"a refused connection is closed with its code", defects{noCode: true}},
		{"a draining node refuses with 1012", defects{noDraining: true}},
		{"messages are received in order", defects{overlaps: true}},
	}
}
