package socket_test

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/socket"
)

// TestExtensions reads offers by RFC 7692 section 7.1 and RFC 6455 section 9.1.
func TestExtensions(t *testing.T) {
	t.Parallel()
	const yes = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	for _, c := range []struct {
		offers []string
		want   string
	}{
		{nil, ""},
		{[]string{""}, ""},
		{[]string{"permessage-deflate"}, yes},
		{[]string{"permessage-deflate; client_max_window_bits"}, yes}, // browsers
		{[]string{"permessage-deflate;client_max_window_bits=10;server_no_context_takeover"}, yes},
		{[]string{`permessage-deflate; client_max_window_bits="15"`}, yes},
		{[]string{"permessage-deflate; client_no_context_takeover; server_no_context_takeover"}, yes},
		{[]string{"permessage-deflate; server_max_window_bits=15"}, yes + "; server_max_window_bits=15"},
		{[]string{`permessage-deflate ; server_max_window_bits = "15"`}, yes + "; server_max_window_bits=15"},
		{[]string{"permessage-deflate; server_max_window_bits=14"}, ""},
		{[]string{"permessage-deflate; server_max_window_bits=8"}, ""},
		{[]string{"permessage-deflate; server_max_window_bits"}, ""},
		{[]string{"permessage-deflate; server_max_window_bits=10, permessage-deflate"}, yes}, // the second choice
		{[]string{"permessage-deflate; server_max_window_bits=10", "permessage-deflate"}, yes},
		{[]string{"x-webkit-deflate-frame, permessage-deflate"}, yes},
		{[]string{"x-webkit-deflate-frame"}, ""},
		{[]string{"permessage-deflate2"}, ""},
		{[]string{"permessage-deflate; client_max_window_bits=7"}, ""},
		{[]string{"permessage-deflate; client_max_window_bits=16"}, ""},
		{[]string{"permessage-deflate; client_max_window_bits=08"}, ""},
		{[]string{"permessage-deflate; client_max_window_bits="}, ""},
		{[]string{"permessage-deflate; server_no_context_takeover=1"}, ""},
		{[]string{"permessage-deflate; client_no_context_takeover=true"}, ""},
		{[]string{"permessage-deflate; client_max_window_bits; client_max_window_bits"}, ""},
		{[]string{"permessage-deflate; mystery"}, ""},
		{[]string{"permessage-deflate; "}, ""},
		{[]string{`permessage-deflate; mystery="a, permessage-deflate"`}, ""},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header["Sec-Websocket-Extensions"] = c.offers
		require.Equal(t, c.want, (&socket.TransportConfig{Compress: true}).Extensions(r), "%q", c.offers)
		require.Empty(t, (&socket.TransportConfig{}).Extensions(r), "off")
	}
}

// inflated is what a client makes of a compressed message.
func inflated(t *testing.T, compressed []byte) string {
	t.Helper()
	b, err := io.ReadAll(flate.NewReader(io.MultiReader(bytes.NewReader(compressed), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff"))))
	require.NoError(t, err)
	return string(b)
}

func TestDeflated(t *testing.T) {
	t.Parallel()
	noise := make([]byte, 5000)
	rnd := rand.NewChaCha8([32]byte{1})
	_, _ = rnd.Read(noise)
	for _, n := range []int{0, 1, 99, 100, 101, 1000, 70000, 1 << 20} {
		message := bytes.Repeat([]byte("all alike, "), n/11+1)[:n]
		for _, binary := range []bool{false, true} {
			f := socket.NewFrame(func(dst []byte) []byte { return append(dst, message...) })
			if binary {
				f = socket.NewBinaryFrame(func(dst []byte) []byte { return append(dst, message...) })
			}
			before := bytes.Clone(f.WebSocket())
			d := f.Deflated(100)
			require.True(t, bytes.Equal(before, f.WebSocket()))
			require.Equal(t, binary, d.Binary())
			if n < 100 {
				require.Same(t, f, d)
				continue
			}
			require.Less(t, d.Len(), f.Len())
			require.Equal(t, before[0]|0x40, d.WebSocket()[0], "RSV1")
			require.Equal(t, string(message), inflated(t, d.Payload()))
			require.Same(t, d, f.Deflated(100), "made once")
			require.Equal(t, d.WebSocket(), f.Deflated(90).WebSocket())
		}
	}
	f := socket.NewBinaryFrame(func(dst []byte) []byte { return append(dst, noise...) })
	require.Same(t, f, f.Deflated(100), "it would become longer")
}

func TestDeflatedJoined(t *testing.T) {
	t.Parallel()
	frame := func(n int) *socket.Frame {
		return socket.NewFrame(func(dst []byte) []byte { return append(dst, strings.Repeat("j", n)...) })
	}
	small, long, longer := frame(10), frame(500), frame(600)
	one := long.Deflated(100)
	all := socket.Join(small, long, longer)
	d := all.Deflated(100)
	require.Same(t, d, all.Deflated(100))
	require.Equal(t, slices.Concat(small.WebSocket(), one.WebSocket(), longer.Deflated(100).WebSocket()), d.WebSocket())
	got := slices.Collect(d.Messages())
	require.Len(t, got, 3)
	require.Same(t, one, got[1], "compressed once, alone and joined")
	require.Same(t, all, all.Deflated(1000), "nothing in it is long enough")
	few := socket.Join(small, small)
	require.Same(t, few, few.Deflated(100))
}

// TestDeflatedOnce asks from many goroutines: all get the same.
func TestDeflatedOnce(t *testing.T) {
	t.Parallel()
	for range 50 {
		f := socket.NewFrame(func(dst []byte) []byte { return append(dst, strings.Repeat("once", 1000)...) })
		var got [8]*socket.Frame
		var wg sync.WaitGroup
		start := make(chan struct{})
		for i := range got {
			wg.Go(func() {
				<-start
				got[i] = f.Deflated(100)
			})
		}
		close(start)
		wg.Wait()
		for _, d := range got {
			require.Same(t, got[0], d)
		}
	}
}

// compressed is what a client sends.
func compressed(t testing.TB, message string, level int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, level)
	require.NoError(t, err)
	_, err = io.WriteString(w, message)
	require.NoError(t, err)
	require.NoError(t, w.Flush())
	return bytes.TrimSuffix(b.Bytes(), []byte("\x00\x00\xff\xff"))
}

func TestInflate(t *testing.T) {
	t.Parallel()
	noise := make([]byte, 1000)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(noise)
	for _, c := range []struct {
		name string
		data string
		want string
		code int
		text bool
	}{
		{"the example of RFC 7692 section 7.2.3.1", "\xf2\x48\xcd\xc9\xc9\x07\x00", "Hello", 0, true},
		{"without compression, 7.2.3.3", "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", "Hello", 0, true},
		{"a last block, 7.2.3.4", "\xf3\x48\xcd\xc9\xc9\x07\x00\x00", "Hello", 0, true},
		{"a last block with nothing behind it", "\xf3\x48\xcd\xc9\xc9\x07\x00", "Hello", 0, true},
		{"two blocks, 7.2.3.5", "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", "Hello", 0, true},
		{"an empty message, 7.2.3.6", "\x00", "", 0, true},
		{"nothing at all, which not even an empty message is", "", "", socket.CloseInvalidUTF8, true},
		{"as long as may be", string(compressed(t, strings.Repeat("x", 1000), 9)), strings.Repeat("x", 1000), 0, true},
		{"one byte longer", string(compressed(t, strings.Repeat("x", 1001), 9)), "", socket.CloseTooLarge, true},
		{"as long as may be and longer on the wire", string(compressed(t, string(noise), 0)), string(noise), 0, false},
		{"no text", string(compressed(t, "gr\xfc\xdfe", 9)), "", socket.CloseInvalidUTF8, true},
		{"no text, and none was announced", string(compressed(t, "gr\xfc\xdfe", 9)), "gr\xfc\xdfe", 0, false},
		{"a kind of block that does not exist", "\xff\xff\xff", "", socket.CloseInvalidUTF8, false},
		{"a length that contradicts itself", "\x00\x05\x00\xff\xffHello", "", socket.CloseInvalidUTF8, false},
		{"an end that is missing", "\x00\x05\x00\xfa\xffHel", "", socket.CloseInvalidUTF8, false},
		{"a distance before the beginning", "\x4a\x04\x42\x00", "", socket.CloseInvalidUTF8, false},
		{"something behind the last block", "\xf3\x48\xcd\xc9\xc9\x07\x00\xf3\x48\xcd\xc9\xc9\x07\x00", "", socket.CloseInvalidUTF8, false},
		{"a byte behind the last block", "\xf3\x48\xcd\xc9\xc9\x07\x00\x01", "", socket.CloseInvalidUTF8, false},
	} {
		got, used := "", 0
		code := socket.Inflate([]byte(c.data), 1000, c.text, func(message []byte) { got, used = string(message), used+1 })
		require.Equal(t, c.code, code, c.name)
		require.Equal(t, c.want, got, c.name)
		require.Equal(t, code == 0, used == 1, c.name)
	}
	require.GreaterOrEqual(t, socket.CompressedLimit(1000), len(compressed(t, string(noise), 0)))
}

// bomb is a message of size bytes that compresses best.
func bomb(t testing.TB, size int) []byte {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	require.NoError(t, err)
	for zeros := make([]byte, 1<<20); size > 0; size -= len(zeros) {
		_, err = w.Write(zeros)
		require.NoError(t, err)
	}
	require.NoError(t, w.Flush())
	return b.Bytes()
}

// TestBombs inflates bombs of a gigabyte together, in which no more is made than the limit, over and over in the same memory.
func TestBombs(t *testing.T) { // not parallel: it counts
	data := bomb(t, 64<<20)
	require.Less(t, len(data), 72<<10, "the wire would let it through")
	explode := func() {
		require.Equal(t, socket.CloseTooLarge, socket.Inflate(data, 64<<10, false, func([]byte) { t.Error("it was received") }))
	}
	explode() // what is needed once
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 16 {
		explode()
	}
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(16*(400<<10)), "allocated in all: a bomb may cost a new inflater, and twice the limit")
}

func FuzzInflate(f *testing.F) {
	f.Add([]byte("\xf2\x48\xcd\xc9\xc9\x07\x00"), true)
	f.Add([]byte("\xf3\x48\xcd\xc9\xc9\x07\x00\x00"), false)
	f.Add([]byte("\x00\x05\x00\xfa\xffHello\x00"), true)
	f.Add(compressed(f, strings.Repeat("again and again, ", 100), 9), true)
	f.Fuzz(func(t *testing.T, data []byte, text bool) {
		const limit = 1000
		kept := bytes.Clone(data)
		var got []byte
		code := socket.Inflate(data, limit, text, func(message []byte) { got = bytes.Clone(message) })
		if !bytes.Equal(kept, data) {
			t.Error("the data were changed")
		}
		// The plain way: all of it, without a limit.
		r := flate.NewReader(io.LimitReader(io.MultiReader(bytes.NewReader(data), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff")), 1<<20))
		want, err := io.ReadAll(io.LimitReader(r, limit+1))
		switch {
		case code == 0 && (err != nil || !bytes.Equal(want, got)):
			t.Errorf("%q, want %q: %v", got, want, err)
		case code == socket.CloseTooLarge && len(want) <= limit:
			t.Errorf("too large, and it has %d bytes", len(want))
		case len(got) > limit:
			t.Errorf("%d bytes", len(got))
		}
	})
}

// chatText is a message as rooms have it.
func chatText(n int) []byte {
	rnd := rand.New(rand.NewPCG(7, 8))
	words := strings.Fields("the of and to in is that it was for on are as with his they at be this from I have or by one had not but what all were when we there can an your which their said if do will each about how up out them then she many some so these would other into has more her two like him see time could no make than first been its who now people my made over did down only way find use may water long little very after words called just where most know")
	b := []byte(`{"event":"message","data":{"room":"lobby","seq":4711,"id":"01J9Z3V6T5Q8","user":{"id":"01J9Z3V6","name":"Ada Lovelace"},"text":"`)
	for len(b) < n-34 {
		b = append(append(b, words[rnd.IntN(len(words))]...), ' ')
	}
	return append(b, `","at":"2026-11-29T12:00:00.000Z"}}`...)
}

// BenchmarkDeflate is what compressing one broadcast costs, and how much shorter it is.
func BenchmarkDeflate(b *testing.B) {
	for _, n := range []int{256, 512, 1024, 4096, 16384} {
		message := chatText(n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			var d, f *socket.Frame
			for b.Loop() {
				f = socket.NewFrame(func(dst []byte) []byte { return append(dst, message...) })
				d = f.Deflated(1)
			}
			b.ReportMetric(float64(d.Len())/float64(f.Len()), "ratio")
		})
	}
}

// BenchmarkInflate is what a compressed message of a client costs.
func BenchmarkInflate(b *testing.B) {
	for _, n := range []int{256, 1024, 16384} {
		data := compressed(b, string(chatText(n)), 6)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if socket.Inflate(data, 64<<10, true, func([]byte) {}) != 0 {
					b.Fatal("not inflated")
				}
			}
		})
	}
}
