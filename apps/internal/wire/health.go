package wire

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"time"

	"github.com/gorilla/websocket"

	"github.com/parley-chat/parley/core/health"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/socket"
)

// socketCheck asks this program's own socket, through the network, as a client would.
func socketCheck(address, secret string, secure bool) health.Check {
	dialer := websocket.Dialer{HandshakeTimeout: health.DefaultTimeout, Subprotocols: []string{socket.Protocol}}
	target := "ws://" + address + "/socket"
	if secure {
		target = "wss://" + address + "/socket"
		// It is our own certificate, and its name need not be that of the address.
		dialer.TLSClientConfig = &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12} //nolint:gosec // see above
	}
	header := http.Header{"Authorization": {"Bearer " + secret}}
	return health.Check{Name: "socket", Probe: func(ctx context.Context) (map[string]any, error) {
		conn, answer, err := dialer.DialContext(ctx, target, header)
		if answer != nil {
			_ = answer.Body.Close()
		}
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		if deadline, ok := ctx.Deadline(); ok {
			_ = conn.SetReadDeadline(deadline)
			_ = conn.SetWriteDeadline(deadline)
		}
		if err := conn.WriteJSON(map[string]any{"id": 1, "event": protocol.EventHealthCheck, "data": struct{}{}}); err != nil {
			return nil, err
		}
		var reply struct {
			Event string
			Data  struct{ Message string }
		}
		if err := conn.ReadJSON(&reply); err != nil {
			return nil, err
		}
		if reply.Event != protocol.EventAck || reply.Data.Message != "OK" {
			return nil, fmt.Errorf("unexpected answer %q", reply.Event)
		}
		_ = conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Second))
		return nil, nil
	}}
}
