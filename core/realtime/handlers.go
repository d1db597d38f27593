package realtime

import (
	"context"
	"sync/atomic"

	"github.com/parley-chat/parley/core/protocol"
)

// handler does what an event of a client asks for.
type handler struct {
	// run does it. Its answer, or its error, is sent to the client.
	run func(c *client, ctx context.Context, cmd protocol.Command) (protocol.Answer, error)
	// itself says that run sends the answer by itself, unless it returns an error: after a commit, or
	// in its place among live messages.
	itself bool
	// atOnce reports that run waits for nothing, neither for a store nor for another node, and so
	// needs no goroutine of its own. nil: it may wait.
	atOnce func(h *Hub, cmd protocol.Command) bool
	// seen counts the events of a hub. Each hub has its own.
	seen *atomic.Uint64
}

func always(*Hub, protocol.Command) bool { return true }

// submits reports that a message waits for nothing. One that answers another may have to look that up.
func submits(h *Hub, cmd protocol.Command) bool { return cmd.ReplyTo == 0 && !h.cfg.Chat.SubmitWaits() }

// changesAtOnce reports that a change waits for nothing.
func changesAtOnce(h *Hub, _ protocol.Command) bool { return !h.cfg.Chat.SubmitWaits() }

// marksAtOnce reports that a mark waits for nothing.
func marksAtOnce(h *Hub, _ protocol.Command) bool { return !h.cfg.Chat.AsksAccess() }

// handlers are those of Parley's own events: one for each of [protocol.Own].
var handlers = map[string]handler{
	protocol.EventJoinRoom:    {run: (*client).join, itself: true},
	protocol.EventLeaveRoom:   {run: (*client).leave},
	protocol.EventMessage:     {run: (*client).message, itself: true, atOnce: submits},
	protocol.EventEdit:        {run: (*client).edit, itself: true, atOnce: changesAtOnce},
	protocol.EventDelete:      {run: (*client).erase, itself: true, atOnce: changesAtOnce},
	protocol.EventReact:       {run: (*client).react, itself: true, atOnce: changesAtOnce},
	protocol.EventMark:        {run: (*client).mark, itself: true, atOnce: marksAtOnce},
	protocol.EventTyping:      {run: (*client).typing, atOnce: always},
	protocol.EventHistory:     {run: (*client).history},
	protocol.EventPresence:    {run: (*client).presence},
	protocol.EventRenew:       {run: (*client).renew},
	protocol.EventHealthCheck: {run: (*client).healthCheck, itself: true, atOnce: always},
}
