package smtpmail

import (
	"time"

	"github.com/parley-chat/parley/core/mail"
)

// Compose is a mail as it goes over the wire, with the addresses of its envelope.
func Compose(m mail.Message, now time.Time) (from, to string, data []byte, err error) {
	l, err := compose(m, now)
	return l.from, l.to, l.data, err
}
