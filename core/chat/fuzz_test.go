package chat_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
)

// hostileTexts are where the fuzzing of names, keys and texts begins.
var hostileTexts = []string{
	"", " ", "hall", "hall ", "a\x00b", "a\u200db", "\u200d", "👩\u200d💻", "\u202eevil", "e\u0301", "\u00e9", "\xff\xfe", "\ufeff", "\u2028", "\r\nX: y",
	"<script>alert(1)</script>", "' OR 1=1 --", "{{.}}", "../../etc/passwd", "\U000e0061", strings.Repeat("𝕏", 70), strings.Repeat("a", 5000), "dm:a:b", "क्\u200dष",
}

// told fails unless err is nil or of kind Invalid, with words that are valid UTF-8 and short.
func told(t *testing.T, err error) bool {
	t.Helper()
	if err == nil {
		return true
	}
	if fault.KindOf(err) != fault.Invalid {
		t.Fatalf("%v is not of kind Invalid", err)
	}
	if text := err.Error(); !utf8.ValidString(text) || len(text) > 500 {
		t.Fatalf("what is said is %q", text)
	}
	return false
}

// keeps fails unless a text that was let through survives what every store and wire does to it.
func keeps(t *testing.T, s string, most int) {
	t.Helper()
	if s == "" || !utf8.ValidString(s) || strings.ContainsRune(s, 0) || utf8.RuneCountInString(s) > most {
		t.Fatalf("%q was let through", s)
	}
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var back string
	if err := json.Unmarshal(raw, &back); err != nil || back != s {
		t.Fatalf("%q came back as %q: %v", s, back, err)
	}
}

func FuzzCheckRoom(f *testing.F) {
	for _, s := range hostileTexts {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if !told(t, chat.CheckRoom(name)) {
			return
		}
		keeps(t, name, chat.MaxRoomName)
		if strings.Trim(name, " ") != name || strings.ContainsAny(name, "\r\n\t\u2028\u2029\u202e\ufeff") {
			t.Fatalf("%q is no name that people can tell from others", name)
		}
	})
}

func FuzzCheckReaction(f *testing.F) {
	for _, s := range hostileTexts {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if !told(t, chat.CheckReaction(key)) {
			return
		}
		keeps(t, key, chat.MaxReactionKey)
		// What is let through can be put on a message, found there and taken off again.
		m := chat.Message{Room: "hall", Seq: 1, Author: bob, Text: "x"}
		on := chat.Change{Kind: chat.React, Room: "hall", Seq: 1, By: bob, Key: key}
		after, changed, err := on.Apply(m, false)
		if err != nil || !changed || len(after.Reactions) != 1 || after.Reactions[0].Key != key {
			t.Fatalf("%q: %v, %v, %v", key, after.Reactions, changed, err)
		}
		off := on
		off.Kind = chat.Unreact
		if after, changed, err = off.Apply(after, true); err != nil || !changed || len(after.Reactions) != 0 {
			t.Fatalf("%q stays: %v, %v, %v", key, after.Reactions, changed, err)
		}
	})
}

func FuzzCheckText(f *testing.F) {
	for _, s := range hostileTexts {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if told(t, chat.CheckText(text)) {
			keeps(t, text, chat.MaxText)
		}
	})
}

func FuzzCheckClientID(f *testing.F) {
	for _, s := range hostileTexts {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, id string) {
		if told(t, chat.CheckClientID(id)) && id != "" {
			keeps(t, id, chat.MaxClientID)
		}
	})
}
