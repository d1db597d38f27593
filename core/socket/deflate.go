package socket

import (
	"compress/flate"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"unicode/utf8"
)

// Compression of messages is permessage-deflate (RFC 7692) without context takeover in either direction: each message is
// compressed by itself. So one compressed frame serves all connections, and an idle connection holds no memory for it.

// deflateAnswer is what the server agrees to.
const deflateAnswer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

// Extensions is what to answer as Sec-WebSocket-Extensions to r: [deflateAnswer] if cfg.Compress is set and r offers what can be done,
// otherwise nothing. The connection compresses if there is an answer.
//
// The first offer that can be done counts. It cannot be done to compress within a window that is smaller than 32 KiB
// (server_max_window_bits), nor what a parameter wants that RFC 7692 does not know.
func (cfg *TransportConfig) Extensions(r *http.Request) string {
	if !cfg.Compress {
		return ""
	}
	for _, line := range r.Header.Values("Sec-WebSocket-Extensions") {
		for offer := range strings.SplitSeq(line, ",") {
			if answer, ok := acceptDeflate(offer); ok {
				return answer
			}
		}
	}
	return ""
}

// acceptDeflate decides about one offer (RFC 7692 section 7.1). No value of a parameter that could be accepted holds a comma or a
// semicolon, so quotes need not be looked for before.
func acceptDeflate(offer string) (answer string, ok bool) {
	name, rest, more := strings.Cut(offer, ";")
	if strings.TrimSpace(name) != "permessage-deflate" {
		return "", false
	}
	answer = deflateAnswer
	seen := map[string]bool{}
	for more {
		var parameter string
		parameter, rest, more = strings.Cut(rest, ";")
		key, value, has := strings.Cut(parameter, "=")
		key, value = strings.TrimSpace(key), unquote(strings.TrimSpace(value))
		if seen[key] {
			return "", false
		}
		seen[key] = true
		switch {
		case (key == "server_no_context_takeover" || key == "client_no_context_takeover") && !has:
		case key == "server_max_window_bits" && value == "15":
			answer += "; server_max_window_bits=15" // accepting it is saying it
		case key == "client_max_window_bits" && (!has || windowBits(value)): // whatever the client uses can be read
		default:
			return "", false
		}
	}
	return answer, true
}

func unquote(value string) string {
	if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
		return value[1 : len(value)-1]
	}
	return value
}

// windowBits reports whether value is a number from 8 to 15 (RFC 7692 section 7.1.2).
func windowBits(value string) bool {
	return len(value) == 1 && (value == "8" || value == "9") || len(value) == 2 && value[0] == '1' && value[1] >= '0' && value[1] <= '5'
}

// syncTail is what a flush ends with, and what a message on the wire lacks (RFC 7692 section 7.2.1).
const syncTail = "\x00\x00\xff\xff"

// deflaters are *deflater. How many there are follows from how many goroutines compress at the same time.
var deflaters = sync.Pool{New: func() any {
	d := new(deflater)
	// Level 1: the others clear tables of half a megabyte before each message.
	d.w, _ = flate.NewWriter(&d.out, flate.BestSpeed) // fails for levels that do not exist
	return d
}}

type deflater struct {
	w   *flate.Writer
	out appender
}

type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}

// deflate compresses one message for use, which must not keep it.
func deflate(message []byte, use func(compressed []byte)) {
	d := deflaters.Get().(*deflater)
	defer deflaters.Put(d)
	d.out.b = d.out.b[:0]
	d.w.Reset(&d.out)
	_, _ = d.w.Write(message) // appender never fails
	_ = d.w.Flush()
	use(d.out.b[:len(d.out.b)-len(syncTail)])
	if cap(d.out.b) > keptBuffer {
		d.out.b = nil
	}
}

// keptBuffer is the longest buffer that is kept for the next message.
const keptBuffer = 128 << 10

// deflated is what a frame is as compressed.
type deflated struct {
	from  int
	once  sync.Once
	frame *Frame
}

// Deflated is f for connections that compress: each message of at least from bytes is one compressed frame, unless that would be longer.
// It is made once, by the first who asks, and shared like f. Only its WebSocket and Len are of use.
//
// All who ask should do so with the same from: only the first one's is kept.
func (f *Frame) Deflated(from int) *Frame {
	if f.joined == nil && len(f.wire)-f.head < from {
		return f
	}
	d := f.deflated.Load()
	if d == nil {
		d = &deflated{from: from}
		if !f.deflated.CompareAndSwap(nil, d) {
			d = f.deflated.Load()
		}
	}
	if d.from != from {
		return f.deflate(from)
	}
	d.once.Do(func() { d.frame = f.deflate(from) })
	return d.frame
}

func (f *Frame) deflate(from int) *Frame {
	if f.joined != nil {
		frames := make([]*Frame, len(f.joined))
		changed := false
		for i, m := range f.joined {
			frames[i] = m.Deflated(from)
			changed = changed || frames[i] != m
		}
		if !changed {
			return f
		}
		return Join(frames...)
	}
	smaller := f
	deflate(f.Payload(), func(compressed []byte) {
		if len(compressed) < len(f.Payload()) {
			smaller = newFrame(f.wire[0]|rsv1, func(dst []byte) []byte { return append(dst, compressed...) })
		}
	})
	return smaller
}

// rsv1 is set in the first frame of a compressed message.
const rsv1 = 0x40

// CompressedLimit is how long a compressed message may be on the wire of which inflated at most limit bytes are wanted: compression may
// lengthen what cannot be compressed.
func CompressedLimit(limit int) int { return limit + limit/8 + 64 }

// Inflate gives use the message that a client sent compressed, which is use's until it returns. Otherwise it returns the code with which the
// connection fails: [CloseTooLarge] if the message has more than limit bytes, of which it makes no more than one too many, or
// [CloseInvalidUTF8], also for data that cannot be inflated. Of the forms that RFC 7692 section 7.2.3 shows it knows
// all; behind a block that says that it is the last (BFINAL) no further one may come.
func Inflate(data []byte, limit int, text bool, use func(message []byte)) (code int) {
	i := inflaters.Get().(*inflater)
	defer inflaters.Put(i)
	defer func() { i.from.data = nil }()
	message, code := i.inflate(data, limit)
	if code == 0 && text && !utf8.Valid(message) {
		code = CloseInvalidUTF8
	}
	if code == 0 {
		use(message)
	}
	if i.out = message[:0]; cap(message) > keptBuffer {
		i.out = nil
	}
	return code
}

// inflaters are *inflater.
var inflaters = sync.Pool{New: func() any {
	i := new(inflater)
	i.r = flate.NewReader(&i.from)
	return i
}}

type inflater struct {
	r    io.ReadCloser // a flate.Resetter
	from tailed
	out  []byte
}

// ending makes data a complete stream: what the message lacks, and an empty last block.
const ending = syncTail + "\x01\x00\x00\xff\xff"

func (i *inflater) inflate(data []byte, limit int) (message []byte, code int) {
	i.from = tailed{data: data, tail: ending}
	_ = i.r.(flate.Resetter).Reset(&i.from, nil) // never fails
	if message = i.out[:0]; cap(message) == 0 {
		message = make([]byte, 0, min(limit+1, 4<<10))
	}
	for {
		if len(message) == cap(message) {
			message = append(message, 0)[:len(message)]
		}
		n, err := i.r.Read(message[len(message):min(cap(message), limit+1)])
		message = message[:len(message)+n]
		switch {
		case len(message) > limit:
			return message, CloseTooLarge
		case errors.Is(err, io.EOF):
			// A last block of the client's own may be followed by the beginning of an empty one alone.
			if rest := i.from.data; len(rest) > 1 || (len(rest) == 1 && rest[0] != 0) {
				return message, CloseInvalidUTF8
			}
			return message, 0
		case err != nil:
			return message, CloseInvalidUTF8
		}
	}
}

// tailed reads data and then tail, without a copy.
type tailed struct {
	data []byte
	tail string
}

func (t *tailed) Read(p []byte) (int, error) {
	n := copy(p, t.data)
	t.data = t.data[n:]
	if n == 0 {
		n = copy(p, t.tail)
		t.tail = t.tail[n:]
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// ReadByte is there so that flate reads no further than it needs.
func (t *tailed) ReadByte() (byte, error) {
	if len(t.data) > 0 {
		b := t.data[0]
		t.data = t.data[1:]
		return b, nil
	}
	if len(t.tail) > 0 {
		b := t.tail[0]
		t.tail = t.tail[1:]
		return b, nil
	}
	return 0, io.EOF
}
