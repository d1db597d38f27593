package servers_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/parley-chat/parley/testkit/servers"
)

func TestSMTPHonoursItsVariable(t *testing.T) {
	t.Setenv(servers.SMTPVariable, "smtp://elsewhere:1")
	s := servers.SMTP(t)
	assert.Equal(t, "smtp://elsewhere:1", s.URL)
	assert.Nil(t, s.Roots, "the system's authorities")
	assert.False(t, s.Readable())
}
