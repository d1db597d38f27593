package scenario

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestWhatANodeMayLeaveOutIsFilledIn(t *testing.T) {
	t.Parallel()
	tr := &transcript{t: t, names: map[string]string{"A1": `Ada "A"`, "B2": "Bob"}}
	ada, bob := &actor{transcript: tr, name: "ada", id: "A1"}, &actor{transcript: tr, name: "bob", id: "B2"}
	for name, c := range map[string]struct {
		told
		line, want string
	}{
		"nothing is missing": {
			told{by: ada, reason: "noise"},
			`{"event":"membership","data":{"room":"den","user":{"id":"B2","name":"Bob"},"role":null,"by":"A1","reason":"noise"}}`,
			`{"event":"membership","data":{"room":"den","user":{"id":"B2","name":"Bob"},"role":null,"by":"A1","reason":"noise"}}`,
		},
		"all of it is": {
			told{by: ada, reason: "noise"},
			`{"event":"membership","data":{"room":"den","user":{"id":"B2","name":""},"role":"member","mutedUntil":"2099-01-01T00:00:00.000000Z"}}`,
			`{"event":"membership","data":{"room":"den","user":{"id":"B2","name":"Bob"},"role":"member","mutedUntil":"2099-01-01T00:00:00.000000Z","by":"A1","reason":"noise"}}`,
		},
		"it was somebody else": {
			told{by: ada},
			`{"event":"membership","data":{"room":"den","user":{"id":"A1","name":""},"role":"reader","by":"B2"}}`,
			`{"event":"membership","data":{"room":"den","user":{"id":"A1","name":"Ada \"A\""},"role":"reader","by":"B2"}}`,
		},
		"nobody is to be told": {
			told{},
			`{"event":"membership","data":{"room":"den","user":{"id":"X9","name":""},"role":"reader"}}`,
			`{"event":"membership","data":{"room":"den","user":{"id":"X9","name":""},"role":"reader"}}`,
		},
	} {
		assert.Equal(t, c.want, string(tr.named(bob.whole([]byte(c.line), c.told))), name)
	}
	assert.Equal(t, `[{"user":{"id":"B2","name":"Bob"}},{"user":{"id":"A1","name":"Eve"}},{"user":{"id":"X9"}}]`,
		string(tr.named([]byte(`[{"user":{"id":"B2"}},{"user":{"id":"A1","name":"Eve"}},{"user":{"id":"X9"}}]`))), "an answer")
}

func TestToldIsWhatItSays(t *testing.T) {
	t.Parallel()
	bob := &actor{name: "bob", id: "B2"}
	var h heard
	h.Event, h.Data.User.ID = "left", "B2"
	for _, c := range []struct {
		told
		is   bool
		says string
	}{
		{told{event: "left"}, true, "left"},
		{told{event: "left", about: bob}, true, "left about bob"},
		{told{event: "joined", about: bob}, false, "joined about bob"},
		{told{event: "left", about: &actor{name: "ada", id: "A1"}}, false, "left about ada"},
	} {
		assert.Equal(t, c.is, c.told.is(h), c.says)
		assert.Equal(t, c.says, c.String())
	}
}
