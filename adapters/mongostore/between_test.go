package mongostore_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// between stands between the driver and a server. It sees every command, and does to it what no server can be asked to do
// at a certain moment: lose the answer, refuse it, or let somebody else be quicker.
type between struct {
	url    string
	target string

	mu     sync.Mutex
	handle func(command string, doc bson.Raw) fate
	size   func(command string, n int)
}

// fate is what becomes of a command. Its zero value leaves it alone.
type fate struct {
	// answer takes the place of the server, which does not get the command.
	answer bson.D
	// lost cuts the connection after the server has answered, dropped before it gets the command.
	lost, dropped bool
	// edit changes the server's answer.
	edit func(bson.D) bson.D
}

// refusal is how a server refuses a command.
func refusal(code int32, name string) fate {
	return fate{answer: bson.D{{Key: "ok", Value: 0.0}, {Key: "errmsg", Value: "refused"}, {Key: "code", Value: code}, {Key: "codeName", Value: name}}}
}

// newBetween stands in front of the server of a URL. handle may be called from several goroutines.
func newBetween(t *testing.T, server string, handle func(command string, doc bson.Raw) fate) *between {
	t.Helper()
	u, err := url.Parse(server)
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	b := &between{target: u.Host, handle: handle}
	u.Host = l.Addr().String()
	// To this one host, also of a replica set, and with one answer to each question.
	query := u.Query()
	query.Set("directConnection", "true")
	query.Set("serverMonitoringMode", "poll")
	u.RawQuery = query.Encode()
	b.url = u.String()
	var wg sync.WaitGroup
	var open sync.Map
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			open.Store(client, true)
			wg.Go(func() {
				defer func() { _ = client.Close() }() // it may be closed already
				if err := b.serve(client); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") {
					assert.NoError(t, err)
				}
			})
		}
	})
	t.Cleanup(func() {
		assert.NoError(t, l.Close())
		open.Range(func(c, _ any) bool { _ = c.(net.Conn).Close(); return true })
		wg.Wait()
	})
	return b
}

// then changes what becomes of commands from now on.
func (b *between) then(handle func(command string, doc bson.Raw) fate) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.handle = handle
}

// sees is told from now on how many documents come with a command, where some do: those to insert, or what is to be written.
func (b *between) sees(size func(command string, n int)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.size = size
}

func (b *between) serve(client net.Conn) error {
	server, err := net.Dial("tcp", b.target)
	if err != nil {
		return err
	}
	defer func() { _ = server.Close() }() // nothing is pending
	for {
		request, err := readMessage(client)
		if err != nil {
			return err
		}
		f := fate{}
		if doc := request.document(); doc != nil {
			b.mu.Lock()
			handle, size := b.handle, b.size
			b.mu.Unlock()
			elements, err := doc.Elements()
			if err != nil {
				return err
			}
			if n := request.documents(); n > 0 && size != nil {
				size(elements[0].Key(), n)
			}
			f = handle(elements[0].Key(), doc)
		}
		switch {
		case f.dropped:
			return nil
		case f.answer != nil:
			if err := answer(client, request, f.answer); err != nil {
				return err
			}
			continue
		}
		if _, err := server.Write(request); err != nil {
			return err
		}
		reply, err := readMessage(server)
		if err != nil {
			return err
		}
		switch {
		case f.lost:
			return nil
		case f.edit != nil:
			var doc bson.D
			if err := bson.Unmarshal(reply.document(), &doc); err != nil {
				return err
			}
			err = answer(client, request, f.edit(doc))
		default:
			_, err = client.Write(reply)
		}
		if err != nil {
			return err
		}
	}
}

// wire is one message: header and body.
type wire []byte

const (
	headerSize = 16
	opMsg      = 2013
)

func readMessage(r io.Reader) (wire, error) {
	header := make(wire, headerSize)
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, err
	}
	size := binary.LittleEndian.Uint32(header)
	if size < headerSize || size > 48<<20 {
		return nil, fmt.Errorf("a message has %d bytes", size)
	}
	message := append(header, make([]byte, size-headerSize)...)
	_, err := io.ReadFull(r, message[headerSize:])
	return message, err
}

// document is the body of an OP_MSG, or nil for the messages of a handshake that is older than it.
func (m wire) document() bson.Raw {
	if binary.LittleEndian.Uint32(m[12:]) != opMsg {
		return nil
	}
	for rest := m[headerSize+4:]; len(rest) > 0; {
		size := binary.LittleEndian.Uint32(rest[1:])
		if rest[0] == 0 {
			return bson.Raw(rest[1 : 1+size])
		}
		rest = rest[1+size:]
	}
	return nil
}

// documents is how many documents an OP_MSG has beside its body.
func (m wire) documents() (n int) {
	for rest := m[headerSize+4:]; len(rest) > 0; {
		size := binary.LittleEndian.Uint32(rest[1:])
		if rest[0] == 1 {
			_, docs, _ := bytes.Cut(rest[5:1+size], []byte{0}) // behind the name
			for ; len(docs) > 0; n++ {
				docs = docs[binary.LittleEndian.Uint32(docs):]
			}
		}
		rest = rest[1+size:]
	}
	return n
}

func answer(w io.Writer, to wire, doc bson.D) error {
	body, err := bson.Marshal(doc)
	if err != nil {
		return err
	}
	m := make(wire, headerSize+5, headerSize+5+len(body))
	binary.LittleEndian.PutUint32(m, uint32(headerSize+5+len(body)))
	copy(m[8:12], to[4:8]) // whose answer it is
	binary.LittleEndian.PutUint32(m[12:], opMsg)
	_, err = w.Write(append(m, body...))
	return err
}

// inserts reports whether a command inserts into the collection.
func inserts(command string, doc bson.Raw, collection string) bool {
	name, ok := doc.Lookup(command).StringValueOK()
	return command == "insert" && ok && name == collection
}
