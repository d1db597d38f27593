package engineio

import (
	"encoding/base64"
	"testing"

	"github.com/stretchr/testify/assert"
)

// A session is kept under a part of its identifier, and found by all of it alone.
func TestASessionIsFoundByItsWholeIdentifier(t *testing.T) {
	t.Parallel()
	srv := &Server{sessions: map[uint64]*Session{}}
	s := &Session{server: srv, id: srv.newID(), owner: 1}
	srv.sessions[s.id.key()] = s
	sid := s.ID()
	assert.Len(t, sid, 24)
	assert.Same(t, s, srv.find(sid, 1))
	assert.Nil(t, srv.find(sid, 2), "it is somebody else's")

	twin := s.id
	twin[17]++
	assert.Equal(t, s.id.key(), twin.key())
	wide := base64.URLEncoding.EncodeToString(append(s.id[:], 0))
	for name, other := range map[string]string{
		"nothing":                   "",
		"its beginning":             sid[:23],
		"its key alone":             sid[:11],
		"more":                      sid + "A",
		"more bytes":                wide,
		"another end":               twin.String(),
		"a line break in it":        sid[:23] + "\n",
		"a line break more":         sid + "\n",
		"letters of no identifier":  sid[:23] + "=",
		"letters of other alphabet": sid[:22] + "+/",
	} {
		assert.Nil(t, srv.find(other, 1), name)
	}
}
