package system

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/testkit/packed"
	"github.com/parley-chat/parley/testkit/scenario"
	"github.com/parley-chat/parley/testkit/wsraw"
)

// packedWire says in the packed format what the story says in parley.v1.
type packedWire struct {
	asked []string // the events that were said, by their IDs: the first has the ID 1
}

func (*packedWire) Protocol() string { return packed.Protocol }

// Says packs every field of the event, in the order of their names.
func (w *packedWire) Says(line []byte) (wsraw.Frame, error) {
	var said struct {
		ID    uint64
		Event string
		Data  json.RawMessage
	}
	if err := json.Unmarshal(line, &said); err != nil {
		return wsraw.Frame{}, err
	}
	if w.asked = append(w.asked, said.Event); int(said.ID) != len(w.asked) { // a test does not say that much
		return wsraw.Frame{}, fmt.Errorf("%d was asked before", len(w.asked)-1)
	}
	tokens := json.NewDecoder(bytes.NewReader(said.Data))
	if _, err := tokens.Token(); err != nil { // the brace
		return wsraw.Frame{}, err
	}
	var fields []packed.Field
	for tokens.More() {
		name, err := tokens.Token()
		var raw json.RawMessage
		if err = errors.Join(err, tokens.Decode(&raw)); err != nil {
			return wsraw.Frame{}, err
		}
		field := packed.Field{Name: fmt.Sprint(name)}
		switch raw[0] {
		case '{':
			field.Value = protocol.FreeObject(raw)
		case '"', 't', 'f':
			err = json.Unmarshal(raw, &field.Value)
		default:
			field.Value, err = strconv.ParseUint(string(raw), 10, 64)
		}
		if err != nil {
			return wsraw.Frame{}, err
		}
		fields = append(fields, field)
	}
	return wsraw.Frame{Final: true, Opcode: wsraw.OpBinary, Payload: packed.Said(&said.ID, said.Event, fields...)}, nil
}

// Hears writes what was packed with the fields in the order of the schema.
func (w *packedWire) Hears(f wsraw.Frame) ([]byte, error) {
	if f.Opcode != wsraw.OpBinary {
		return nil, errors.New("it is not binary")
	}
	h, err := packed.Read(f.Payload)
	if err != nil {
		return nil, err
	}
	head := fmt.Appendf(nil, `{"event":%q,"data":`, h.Event)
	var data *protocol.Object
	switch h.Kind {
	case 'v':
		e := protocol.Own().ServerEvent(h.Event)
		if e == nil {
			return nil, fmt.Errorf("there is no event %s", h.Event)
		}
		data = e.Data
	case 'a', 'e':
		if !h.HasID || h.ID < 1 || int(h.ID) > len(w.asked) { // a test does not say that much
			return nil, errors.New("an answer to nothing")
		}
		if h.Kind == 'e' {
			detail := ""
			if d := h.Data.Text("detail"); d != "" {
				detail = fmt.Sprintf(`,"detail":%q`, d)
			}
			return fmt.Appendf(nil, `{"id":%d,"event":"error","error":{"code":%q,"title":%q%s}}`, h.ID, h.Event, h.Data.Text("title"), detail), nil
		}
		event := w.asked[h.ID-1]
		if h.Event != event {
			return nil, fmt.Errorf("the answer to %s is one to %s", event, h.Event)
		}
		own := protocol.Own().ClientEvents()
		i := slices.IndexFunc(own, func(e protocol.ClientEvent) bool { return e.Name == event })
		head, data = fmt.Appendf(nil, `{"id":%d,"event":"ack","data":`, h.ID), own[i].Ack
	default:
		return nil, fmt.Errorf("there is no kind %q", h.Kind)
	}
	return append(protocol.AppendData(head, data, h.Data), '}'), data.Fits(h.Data)
}

// TestScenarioOverEveryWire tells the story to people of whom one or both speak another format than parley.v1, on one node and on two.
func TestScenarioOverEveryWire(t *testing.T) {
	t.Parallel()
	for name, speaks := range map[string][2]bool{"both packed": {true, true}, "Ada packed": {true, false}, "Bob packed": {false, true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			transports(t, func(t *testing.T, cfg Config) {
				for nodes := 1; nodes <= 2; nodes++ {
					cfg := cfg // the subtests run when the loop is over
					cfg.Nodes = nodes
					cfg.Protocols = []string{socket.Protocol, packed.Protocol}
					cfg.Hub.Formats = map[string]protocol.NewFormat{packed.Protocol: packed.New}
					t.Run(fmt.Sprint(nodes), func(t *testing.T) {
						t.Parallel()
						var wires [2]scenario.Wire
						for i := range wires {
							if speaks[i] {
								wires[i] = &packedWire{}
							}
						}
						require.Equal(t, scenario.Golden(), tell(t, cfg, scenario.Stage{Wires: wires}))
					})
				}
			})
		})
	}
}
