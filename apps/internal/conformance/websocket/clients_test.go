package websocket

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/testkit/nodejs"
)

// seen is what a client of others saw.
type seen struct {
	Extensions string   `json:"extensions"` // that it has agreed to
	Echoes     []string `json:"echoes"`
	Received   int      `json:"received"` // bytes on the wire, where the client tells
}

// said is what such a client sends: short, long, and long again.
var said = []string{"short", strings.Repeat("a long message, ", 1000), strings.Repeat("grüße aus köln, ", 1000)}

// TestNode lets ws, which the stock Socket.IO client stands on, agree to compression by itself.
func TestNode(t *testing.T) {
	t.Parallel()
	modules := nodejs.Modules(t, "ws")
	const script = `
const { WebSocket } = require('ws');
const { url, said } = JSON.parse(require('fs').readFileSync(0));
const ws = new WebSocket(url), echoes = [];
const send = () => ws.send(said[echoes.length]);
ws.on('open', send);
ws.on('error', (e) => { console.error(e); process.exit(1); });
ws.on('message', (data) => {
  echoes.push(data.toString());
  if (echoes.length < said.length) return send();
  console.log(JSON.stringify({ extensions: ws.extensions, echoes, received: ws._socket.bytesRead }));
  ws.close();
});
`
	for name, open := range transports {
		for _, compress := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, %t", name, compress), func(t *testing.T) {
				t.Parallel()
				url := serve(t, open, socket.TransportConfig{Compress: compress})
				var got seen
				nodejs.Map(t, modules, script, map[string]any{"url": url, "said": said}, &got)
				require.True(t, slices.Equal(said, got.Echoes))
				if compress {
					require.Equal(t, "permessage-deflate", got.Extensions)
					require.Less(t, got.Received, 4000, "on the wire")
				} else {
					require.Empty(t, got.Extensions)
					require.Greater(t, got.Received, 32000)
				}
			})
		}
	}
}

// TestChromium lets the browser do so.
func TestChromium(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("skipped by -short: a browser would be started")
	}
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("PARLEY_TEST_BROWSER") == "required" {
			t.Fatal(err)
		}
		t.Skipf("SKIPPED: %v", err)
	}
	const patience = 2 * time.Minute
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	allocator, stop := chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WSURLReadTimeout(patience))...)
	defer stop()
	browser, done := chromedp.NewContext(allocator)
	defer done()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<title>page</title>")) }))
	defer page.Close()
	require.NoError(t, chromedp.Do(browser, chromedp.Navigate(page.URL)))
	for name, open := range transports {
		for _, compress := range []bool{true, false} {
			url := serve(t, open, socket.TransportConfig{Compress: compress})
			got, err := chromedp.Run(browser, chromedp.Evaluate[seen](fmt.Sprintf(`new Promise((resolve, reject) => {
				const said = ["short", "a long message, ".repeat(1000), "grüße aus köln, ".repeat(1000)];
				const ws = new WebSocket(%q), echoes = [];
				const send = () => ws.send(said[echoes.length]);
				ws.onopen = send;
				ws.onclose = (e) => reject(new Error('closed with ' + e.code));
				ws.onmessage = (e) => {
					echoes.push(e.data);
					if (echoes.length < said.length) return send();
					resolve({ extensions: ws.extensions, echoes });
					ws.close();
				};
			})`, url), chromedp.EvalAwaitPromise))
			require.NoError(t, err, name)
			require.True(t, slices.Equal(said, got.Echoes), name)
			want := ""
			if compress {
				want = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
			}
			require.Equal(t, want, got.Extensions, name)
		}
	}
}
