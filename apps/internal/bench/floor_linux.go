package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"syscall"
)

// Floor is the least that a server of rooms can do, to measure others by: one thread, one epoll instance, one write for each
// message and member, no account, no check, nothing kept. It speaks what the load generator says in the native wire, and is
// asked for its memory and processor time as [besides] are. It ends with in.
func Floor(ctx context.Context, in io.Reader, stdout io.Writer) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer listener.Close()
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	defer file.Close()
	f := &floor{listener: int(file.Fd()), conns: map[int]*floorConn{}, rooms: map[string][]*floorConn{}}
	ended := make(chan error, 1)
	go func() { ended <- f.serve() }()
	fmt.Fprintln(stdout, listener.Addr())
	asked := make(chan error, 1)
	go func() { asked <- answerBeside(in, stdout) }()
	select {
	case err := <-ended:
		return err
	case err := <-asked:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

type floor struct {
	listener, epoll int
	conns           map[int]*floorConn
	rooms           map[string][]*floorConn
}

type floorConn struct {
	fd      int
	open    bool // the handshake is over
	room    string
	partial []byte
	queued  []byte // what the operating system did not take
}

func (f *floor) serve() error {
	runtime.LockOSThread()
	var err error
	if f.epoll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return err
	}
	defer syscall.Close(f.epoll)
	if err := f.watch(syscall.EPOLL_CTL_ADD, f.listener, syscall.EPOLLIN); err != nil {
		return err
	}
	events := make([]syscall.EpollEvent, 256)
	buffer := make([]byte, 64<<10)
	for {
		n, err := syscall.EpollWait(f.epoll, events, -1)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return os.NewSyscallError("epoll_wait", err)
		}
		for _, e := range events[:n] {
			if int(e.Fd) == f.listener {
				if err := f.accept(); err != nil {
					return err
				}
				continue
			}
			c := f.conns[int(e.Fd)]
			if c == nil {
				continue
			}
			if e.Events&syscall.EPOLLOUT != 0 {
				f.flush(c)
			}
			if e.Events&^uint32(syscall.EPOLLOUT) != 0 {
				f.read(c, buffer)
			}
		}
	}
}

func (f *floor) watch(op, fd int, events uint32) error {
	return os.NewSyscallError("epoll_ctl", syscall.EpollCtl(f.epoll, op, fd, &syscall.EpollEvent{Events: events, Fd: int32(fd)})) //nolint:gosec // a descriptor
}

func (f *floor) accept() error {
	fd, _, err := syscall.Accept4(f.listener, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.ECONNABORTED) {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("accept4", err)
	}
	if err := syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	f.conns[fd] = &floorConn{fd: fd}
	return f.watch(syscall.EPOLL_CTL_ADD, fd, syscall.EPOLLIN)
}

func (f *floor) read(c *floorConn, buffer []byte) {
	n, err := syscall.Read(c.fd, buffer)
	if errors.Is(err, syscall.EAGAIN) {
		return
	}
	if n <= 0 {
		f.end(c)
		return
	}
	b := buffer[:n]
	if len(c.partial) > 0 {
		c.partial = append(c.partial, b...)
		b = c.partial
	}
	if !c.open {
		end := bytes.Index(b, []byte("\r\n\r\n"))
		if end < 0 {
			c.partial = append(c.partial[:0], b...)
			return
		}
		c.open = true
		b = b[end+4:]
		f.write(c, []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "+handshakeAccept+"\r\nSec-WebSocket-Protocol: parley.v1\r\n\r\n"))
	}
	for len(b) > 0 {
		op, payload, size := clientFrame(b)
		if size == 0 {
			break
		}
		b = b[size:]
		switch op {
		case 0x1:
			f.event(c, payload)
		case 0x8:
			f.end(c)
			return
		}
	}
	if len(b) == 0 {
		c.partial = nil
		return
	}
	c.partial = append(c.partial[:0], b...)
}

// clientFrame reads one whole frame of a client and takes its mask off; size is 0 if there is none.
func clientFrame(b []byte) (op byte, payload []byte, size int) {
	if len(b) < 6 {
		return 0, nil, 0
	}
	head, n := 2, int(b[1]&0x7f)
	switch n {
	case 126:
		head, n = 4, int(binary.BigEndian.Uint16(b[2:]))
	case 127:
		return 0x8, nil, len(b) // the load generator has no such messages
	}
	if len(b) < head+4+n {
		return 0, nil, 0
	}
	mask := b[head : head+4]
	payload = b[head+4 : head+4+n]
	for i := range payload {
		payload[i] ^= mask[i%4]
	}
	return b[0] & 0xf, payload, head + 4 + n
}

// event does what a client says: it joins a room, or sends to it.
func (f *floor) event(c *floorConn, text []byte) {
	rest, _ := bytes.CutPrefix(text, []byte(`{"id":`))
	id, rest := digits(rest)
	data, joins := bytes.CutPrefix(rest, []byte(`,"event":"join_room","data":{"room":"`))
	if joins {
		room, _, _ := bytes.Cut(data, []byte(`"`))
		c.room = string(room)
		f.rooms[c.room] = append(f.rooms[c.room], c)
	}
	f.write(c, serverFrame([]byte(`{"id":`+strconv.FormatUint(id, 10)+`,"event":"ack","data":{"room":"`+c.room+`"}}`)))
	if joins {
		return
	}
	said := after(rest, `"text":"`)
	frame := serverFrame(fmt.Appendf(nil, `{"event":"message","data":{"room":%q,"user":{"id":"bench-000000","name":"Bench 0"},"text":"%s`, c.room, said))
	for _, m := range f.rooms[c.room] {
		f.write(m, frame)
	}
}

func serverFrame(text []byte) []byte {
	if n := len(text); n >= 126 {
		return append([]byte{0x81, 126, byte(n >> 8), byte(n)}, text...)
	}
	return append([]byte{0x81, byte(len(text))}, text...)
}

func (f *floor) write(c *floorConn, b []byte) {
	if len(c.queued) > 0 {
		c.queued = append(c.queued, b...)
		return
	}
	n, err := syscall.Write(c.fd, b)
	if err != nil && !errors.Is(err, syscall.EAGAIN) {
		return // its end is read
	}
	if n = max(n, 0); n < len(b) {
		c.queued = append(c.queued, b[n:]...)
		_ = f.watch(syscall.EPOLL_CTL_MOD, c.fd, syscall.EPOLLIN|syscall.EPOLLOUT)
	}
}

func (f *floor) flush(c *floorConn) {
	n, err := syscall.Write(c.fd, c.queued)
	if err != nil && !errors.Is(err, syscall.EAGAIN) {
		return
	}
	if c.queued = c.queued[max(n, 0):]; len(c.queued) == 0 {
		c.queued = nil
		_ = f.watch(syscall.EPOLL_CTL_MOD, c.fd, syscall.EPOLLIN)
	}
}

func (f *floor) end(c *floorConn) {
	delete(f.conns, c.fd)
	room := f.rooms[c.room]
	for i := range room {
		if room[i] == c {
			f.rooms[c.room] = append(room[:i:i], room[i+1:]...)
			break
		}
	}
	_ = syscall.Close(c.fd)
}
