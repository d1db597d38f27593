package packet

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestWhatIsAPacketIsRead(t *testing.T) {
	for name, tt := range map[string]struct {
		in   string
		want Packet
	}{
		"connect":                  {"0", Packet{Namespace: "/"}},
		"connect with auth":        {`0{"token":"x"}`, Packet{Namespace: "/", Data: []byte(`{"token":"x"}`)}},
		"connect to a namespace":   {"0/admin,", Packet{Namespace: "/admin"}},
		"without the comma":        {"0/admin", Packet{Namespace: "/admin"}},
		"with a query":             {`0/admin?a=b&c=d,{"e":1}`, Packet{Namespace: "/admin", Query: "a=b&c=d", Data: []byte(`{"e":1}`)}},
		"the main one spelled out": {`2/,["a"]`, Packet{Type: Event, Namespace: "/", Data: []byte(`["a"]`)}},
		"disconnect":               {"1", Packet{Type: Disconnect, Namespace: "/"}},
		"disconnect from one":      {"1/admin,", Packet{Type: Disconnect, Namespace: "/admin"}},
		"event":                    {`2["hey","Jude"]`, Packet{Type: Event, Namespace: "/", Data: []byte(`["hey","Jude"]`)}},
		"event with id":            {`212["hey"]`, Packet{Type: Event, Namespace: "/", ID: 12, HasID: true, Data: []byte(`["hey"]`)}},
		"id 0":                     {`20["hey"]`, Packet{Type: Event, Namespace: "/", HasID: true, Data: []byte(`["hey"]`)}},
		"the largest id":           {`29007199254740991["hey"]`, Packet{Type: Event, Namespace: "/", ID: MaxID, HasID: true, Data: []byte(`["hey"]`)}},
		"event in a namespace":     {`2/a/b,3["hey",{}]`, Packet{Type: Event, Namespace: "/a/b", ID: 3, HasID: true, Data: []byte(`["hey",{}]`)}},
		"ack":                      {`312[]`, Packet{Type: Ack, Namespace: "/", ID: 12, HasID: true, Data: []byte(`[]`)}},
		"connect error":            {`4{"message":"no"}`, Packet{Type: ConnectError, Namespace: "/", Data: []byte(`{"message":"no"}`)}},
		"binary event":             {`51-["f",{"_placeholder":true,"num":0}]`, Packet{Type: BinaryEvent, Namespace: "/", Attachments: 1, Data: []byte(`["f",{"_placeholder":true,"num":0}]`)}},
		"binary event, ns, id":     {`52-/n,7["f",{"a":[{"num":1,"_placeholder":true}]}]`, Packet{Type: BinaryEvent, Namespace: "/n", ID: 7, HasID: true, Attachments: 2, Data: []byte(`["f",{"a":[{"num":1,"_placeholder":true}]}]`)}},
		"binary ack":               {`61-0[{"_placeholder":true,"num":0}]`, Packet{Type: BinaryAck, Namespace: "/", HasID: true, Attachments: 1, Data: []byte(`[{"_placeholder":true,"num":0}]`)}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Limits{}.Parse([]byte(tt.in))
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%q: got %+v, %v, want %+v", tt.in, got, err, tt.want)
			}
		})
	}
}

func TestWhatIsNoPacketIsRefused(t *testing.T) {
	deep := strings.Repeat("[", 70) + strings.Repeat("]", 70)
	for name, in := range map[string]string{
		"nothing": "", "no type": "abc", "unknown type": "7", "two bytes": "\xff\xfe", "not UTF-8": "2[\"\xff\"]",
		"connect with an array": "0[]", "connect with a string": `0"x"`, "connect with an id": "01", "connect, half JSON": "0{",
		"disconnect with data": "1{}", "disconnect with an id": "11",
		"event without data": "2", "event with an object": "2{}", "event with nothing in it": "2[]", "event with an id only": "21",
		"event named by a number": "2[1]", "event named by null": "2[null]", "reserved": `2["connect"]`,
		"reserved, escaped": `2["disc\u006fnnect"]`, "half an array": `2["a"`, "two arrays": `2["a"]["b"]`, "an id that is no number": `2abc["a"]`,
		"a signed id": `2-1["a"]`, "an id too large": `29007199254740992["a"]`, "an id that begins with 0": `201["a"]`, "an id out of all bounds": `2` + strings.Repeat("9", 40) + `["a"]`,
		"ack without id": "3[]", "ack with an object": "31{}", "ack without data": "31",
		"connect error without data": "4", "connect error with an array": "4[]",
		"binary without count": `5["a"]`, "binary without dash": `51["a"]`, "binary with only a count": "51", "too many attachments": `511-["a"]`,
		"a count that begins with 0": `501-["a"]`, "a negative count": `5-1-["a"]`, "binary without attachments": `50-["a"]`,
		"a placeholder for nothing": `51-["a",{"_placeholder":true,"num":1}]`, "a negative placeholder": `51-["a",{"_placeholder":true,"num":-1}]`,
		"a broken placeholder": `51-["a",{"_placeholder":true,"num":0.5}]`, "a placeholder without a number": `51-["a",{"_placeholder":true}]`,
		"a placeholder, as text": `51-["a",{"_placeholder":true,"num":"0"}]`, "a placeholder deep down": `51-["a",[{"b":{"_placeholder":true,"num":9}}]]`,
		"deep": `2["a",` + deep + `]`, "a long name": `2["` + strings.Repeat("n", 513) + `"]`, "a long namespace": "0/" + strings.Repeat("n", 256) + ",",
		"many arguments": `2["a"` + strings.Repeat(",1", 65) + `]`, "many in an ack": `30[1` + strings.Repeat(",1", 64) + `]`,
	} {
		t.Run(name, func(t *testing.T) {
			if p, err := (Limits{}).Parse([]byte(in)); !errors.Is(err, ErrBad) {
				t.Errorf("%.60q: got %+v, %v", in, p, err)
			}
		})
	}
}

func TestLimitsAreMet(t *testing.T) {
	l := Limits{Attachments: 2, Namespace: 4, Name: 3, Arguments: 1, Depth: 2}
	for in, ok := range map[string]bool{
		`52-["abc",{}]`: true, `53-["abc"]`: false, "0/abc,": true, "0/abcd,": false, `2["abcd"]`: false,
		`2["a",1]`: true, `2["a",1,2]`: false, `2["a",[1]]`: true, `2["a",[[1]]]`: false, `30[1]`: true, `30[1,2]`: false,
		`2["a","[[[[{{{{"]`: true, `2["a","\"[[[["]`: true,
	} {
		if _, err := l.Parse([]byte(in)); (err == nil) != ok {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func TestElementsAndNames(t *testing.T) {
	got := Elements([]byte("[ \"a,\\\"]\" , {\"b\":[1,2]},\t[3,[4]] ,null,-1.5e3 ]"))
	want := []string{`"a,\"]"`, `{"b":[1,2]}`, `[3,[4]]`, `null`, `-1.5e3`}
	if len(got) != len(want) {
		t.Fatalf("got %s", got)
	}
	for i := range want {
		if string(got[i]) != want[i] {
			t.Errorf("element %d: got %s, want %s", i, got[i], want[i])
		}
	}
	if n := Name(got[0]); n != `a,"]` {
		t.Errorf("name: %q", n)
	}
	if e := Elements([]byte(" [] ")[1:3]); len(e) != 0 {
		t.Errorf("of an empty array: %q", e)
	}
}

func TestPlaceholder(t *testing.T) {
	for in, want := range map[string]int{
		`{"_placeholder":true,"num":3}`: 3, `{"num":0,"_placeholder":true,"x":1}`: 0, `{"\u005fplaceholder":true,"num":1}`: 1,
		`{"_placeholder":false,"num":3}`: -1, `{"_PLACEHOLDER":true,"num":3}`: -1, `{"_placeholder":true}`: -1, `[]`: -1, `{}`: -1, ``: -1, `"_placeholder"`: -1,
		`{"_placeholder":true,"num":-3}`: -1,
	} {
		got, ok := Placeholder(json.RawMessage(in))
		if ok != (want >= 0) || ok && got != want {
			t.Errorf("%s: got %d, %v", in, got, ok)
		}
	}
	if s := string(AppendPlaceholder(nil, 12)); s != `{"_placeholder":true,"num":12}` {
		t.Error(s)
	}
}

// FuzzParse holds that whatever is accepted is written again so that it reads the same.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"0", `0/a?b=c,{"d":1}`, "1/a,", `2["a",1]`, `2/n,12["a",{"b":[]}]`, `30[]`, `4{"message":"x"}`, `51-["a",{"_placeholder":true,"num":0}]`,
		`62-/n,1[{"_placeholder":true,"num":1}]`, `2["\u0061",  "\"]" ]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		var l Limits
		p, err := l.Parse(payload)
		if err != nil {
			if !errors.Is(err, ErrBad) {
				t.Fatalf("%q: %v", payload, err)
			}
			return
		}
		again, err := l.Parse(Append(nil, p))
		if err != nil || !reflect.DeepEqual(p, again) {
			t.Fatalf("%q: %+v was read as %+v, %v", payload, p, again, err)
		}
		if p.Data == nil || p.Data[0] != '[' {
			return
		}
		var want []json.RawMessage
		if err := json.Unmarshal(p.Data, &want); err != nil {
			t.Fatal(err)
		}
		got := Elements(p.Data)
		if len(got) != len(want) {
			t.Fatalf("%q: %d elements, want %d", p.Data, len(got), len(want))
		}
		for i := range want {
			if string(got[i]) != string(want[i]) {
				t.Fatalf("%q: element %d is %q, want %q", p.Data, i, got[i], want[i])
			}
		}
	})
}

func TestFields(t *testing.T) {
	var got []string
	err := Fields(json.RawMessage("{ \"a\\n\" :1, \"b\":{\"c\":[2,\"}\"]}\n,\"a\\n\": \"x,:\" }"), func(name string, value json.RawMessage) error {
		got = append(got, name+"="+string(value))
		return nil
	})
	if want := []string{"a\n=1", `b={"c":[2,"}"]}`, `a` + "\n" + `="x,:"`}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
	if err := Fields(json.RawMessage("{}"), func(string, json.RawMessage) error { return errors.New("called") }); err != nil {
		t.Error(err)
	}
	if err := Fields(json.RawMessage(`{"\ud800":1}`), func(string, json.RawMessage) error { return nil }); err == nil {
		t.Error("a name that is no text")
	}
	no := errors.New("no")
	if err := Fields(json.RawMessage(`{"a":1}`), func(string, json.RawMessage) error { return no }); !errors.Is(err, no) {
		t.Error(err)
	}
}

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		`""`: "", `"a"`: "a", `"\u0061\n\\"`: "a\n\\", `"\ud83d\ude00"`: "😀", `"\ufffd\\ud800"`: "\ufffd\\ud800", `"é\/"`: "é/",
	} {
		if got, err := Text(json.RawMessage(in)); err != nil || got != want {
			t.Errorf("%s: %q, %v", in, got, err)
		}
		if again, err := Text(AppendText(nil, want)); err != nil || again != want {
			t.Errorf("%q is written as %s", want, AppendText(nil, want))
		}
	}
	for _, in := range []string{`"\ud800"`, `"\udc00"`, `"\ud800x"`, `"\ud800\ud800\udc00"`, `"\ud800\n"`, `"\ude00\ud83d"`, `1`, `null`, `{}`, ``} {
		if got, err := Text(json.RawMessage(in)); err == nil {
			t.Errorf("%s: %q", in, got)
		}
	}
	if got := string(AppendText(nil, "a\xff\x1e\x00\"\\é\u2028\xc3")); got != "\"a\ufffd\\u001e\\u0000\\\"\\\\é\u2028\ufffd\"" {
		t.Errorf("%q", got)
	}
}
