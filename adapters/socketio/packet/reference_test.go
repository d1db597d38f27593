package packet

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/parley-chat/parley/testkit/nodejs"
)

// reference is a program in Node that reads packets with the parser of the reference implementation, and writes
// what it has read with its encoder. A packet comes with as many attachments as it announces, up to three.
const reference = `
const { Decoder, Encoder } = require("socket.io-parser");
const texts = JSON.parse(require("fs").readFileSync(0, "utf8"));
const plain = (v) => Buffer.isBuffer(v) ? { $binary: v.toString() } : Array.isArray(v) ? v.map(plain)
  : v && typeof v === "object" ? Object.fromEntries(Object.entries(v).map(([k, e]) => [k, plain(e)])) : v;
process.stdout.write(JSON.stringify(texts.map((text) => {
  const decoder = new Decoder();
  let got;
  decoder.on("decoded", (p) => { got = p; });
  try {
    decoder.add(text);
    for (let i = 0; !got && i < 3; i++) decoder.add(Buffer.from("attachment " + i));
  } catch (e) {
    return { refused: String(e.message) };
  }
  if (!got) return { refused: "more is expected" };
  const again = new Encoder().encode(got);
  return { type: got.type, nsp: got.nsp, id: got.id, data: plain(got.data), hasData: got.data !== undefined, again: again[0] };
})));
`

type read struct {
	Refused string
	Type    Type
	Nsp     string
	ID      *uint64
	Data    any
	HasData bool
	Again   string
}

// TestTheReferenceReadsTheSame compares Parse with the parser of the reference implementation, on packets that are
// right, and on thousands that were made of them by small changes.
func TestTheReferenceReadsTheSame(t *testing.T) {
	modules := nodejs.Modules(t, "socket.io-parser")
	seeds := []string{
		"0", `0{"token":"x"}`, "0/admin,", "0/admin", `0/admin?a=b,{"e":1}`, "1", "1/admin,", `2["hey","Jude"]`, `212["hey",{"a":[1,2.5e3,null]}]`, `2/a/b,3["hey"]`,
		"312[]", `3/n,0[{"b":false}]`, `4{"message":"no","data":{"c":[]}}`, `51-["f",{"_placeholder":true,"num":0}]`, `52-/n,7["f",{"a":[{"num":1,"_placeholder":true}]},"é\u00e9"]`,
		`61-0[{"_placeholder":true,"num":0}]`, `2/,["x"]`, `2["disconnect"]`, `2["connect_error",1]`, `50-["x"]`, `2["x"` + strings.Repeat(",1", 70) + `]`,
	}
	random := rand.New(rand.NewPCG(1, 2))
	pieces := append([]string{"0", "1", "-", ",", "/", "[", "]", "{", "}", `"`, ":", " ", "?", "\\", "null", "true", `"_placeholder"`, "num", "9007199254740993", "é"}, seeds...)
	texts := append([]string(nil), seeds...)
	for range 20_000 {
		b := []byte(seeds[random.IntN(len(seeds))])
		for range 1 + random.IntN(3) {
			at := random.IntN(len(b) + 1)
			switch random.IntN(3) {
			case 0:
				b = append(b[:at:at], append([]byte(pieces[random.IntN(len(pieces))]), b[at:]...)...)
			case 1:
				b = b[:at]
			default:
				b = append(b[:at:at], b[min(at+1+random.IntN(2), len(b)):]...)
			}
		}
		texts = append(texts, strings.ToValidUTF8(string(b), "?"))
	}
	var results []read
	if nodejs.Map(t, modules, reference, texts, &results); len(results) != len(texts) {
		t.Fatalf("node answers %d of %d", len(results), len(texts))
	}
	both, neither, stricter := 0, 0, map[string]int{}
	for i, text := range texts {
		theirs := results[i]
		ours, err := Limits{}.Parse([]byte(text))
		switch {
		case err != nil && !errors.Is(err, ErrBad):
			t.Errorf("%q: %v", text, err)
		case err != nil && theirs.Refused != "":
			neither++
		case err != nil:
			stricter[reason(err, text)]++
		case theirs.Refused != "":
			if !moreIsExpected(ours, theirs) {
				t.Errorf("%q is read as %+v, and refused by the reference: %s", text, ours, theirs.Refused)
			}
		default:
			both++
			if err := same(ours, theirs); err != nil {
				t.Errorf("%q: %v", text, err)
			}
		}
	}
	t.Logf("%d read the same, %d refused by both, refused by us alone: %v", both, neither, stricter)
	if both < 2000 || neither < 2000 {
		t.Errorf("too few were compared: %d read, %d refused", both, neither)
	}
	for why := range stricter {
		if !allowed[why] {
			t.Errorf("we alone refuse because: %s", why)
		}
	}
}

// allowed are the reasons for which we refuse what the reference reads, although no client sends it.
var allowed = map[string]bool{
	blank:              true,
	"an ack has no id": true, "a connect holds an object or nothing": true, "a disconnect holds nothing": true, "a connect error holds an object": true,
	"attachments": true, "id": true, "more than 64 arguments": true, "the name of the event is missing": true,
	"the data is neither an array nor an object": true, "an array is expected": true, "a placeholder without a number": true,
	"a placeholder for an attachment that is not there": true,
}

// blank groups what the reference reads because JavaScript takes no text, and a space, for the number 0.
const blank = "a blank is no number"

func reason(err error, text string) string {
	_, why, _ := strings.Cut(err.Error(), ErrBad.Error()+": ")
	switch why {
	case "it is empty":
		return blank
	case "unknown type", "the data is not JSON", "the number of attachments is missing":
		if strings.ContainsRune(text, ' ') {
			return blank
		}
	}
	for _, group := range []string{"attachments", "id"} {
		if strings.HasPrefix(why, group+":") {
			return group
		}
	}
	return why
}

func moreIsExpected(ours Packet, theirs read) bool {
	return theirs.Refused == "more is expected" && ours.Attachments > 3
}

func same(ours Packet, theirs read) error {
	namespace := ours.Namespace
	if ours.Query != "" {
		namespace += "?" + ours.Query
	}
	if theirs.Nsp != namespace && strings.TrimSuffix(theirs.Nsp, "?") != namespace {
		return fmt.Errorf("the namespace is %q, theirs is %q", namespace, theirs.Nsp)
	}
	if theirs.Type != ours.Type && theirs.Type != ours.Type-(BinaryEvent-Event) {
		return fmt.Errorf("the type is %d, theirs is %d", ours.Type, theirs.Type)
	}
	if (theirs.ID != nil) != ours.HasID || ours.HasID && *theirs.ID != ours.ID {
		return fmt.Errorf("the id is %d, %t", ours.ID, ours.HasID)
	}
	if (ours.Data != nil) != theirs.HasData {
		return fmt.Errorf("the data is %q", ours.Data)
	}
	if ours.Data == nil {
		return nil
	}
	var data any
	if err := json.Unmarshal(ours.Data, &data); err != nil {
		return err
	}
	if ours.Type >= BinaryEvent {
		data = fill(data)
	}
	if !reflect.DeepEqual(data, theirs.Data) {
		return fmt.Errorf("the data is %v, theirs is %v", data, theirs.Data)
	}
	again, err := Limits{}.Parse([]byte(theirs.Again))
	if err != nil {
		return fmt.Errorf("what they write of it is refused: %q: %w", theirs.Again, err)
	}
	if again.Type != ours.Type && again.Attachments > 0 || again.ID != ours.ID || again.HasID != ours.HasID {
		return fmt.Errorf("what they write of it is read as %+v", again)
	}
	return nil
}

// fill puts attachments in for their placeholders.
func fill(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = fill(v[i])
		}
	case map[string]any:
		raw, _ := json.Marshal(v)
		if n, ok := Placeholder(raw); ok {
			return map[string]any{"$binary": fmt.Sprint("attachment ", n)}
		}
		for k := range v {
			v[k] = fill(v[k])
		}
	}
	return v
}
