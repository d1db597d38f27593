package kafkabus

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/IBM/sarama"

	"github.com/parley-chat/parley/core/fault"
)

// kinds translates what a broker says. Everything else is Unavailable.
var kinds = []struct {
	err  error
	kind fault.Kind
	says string
}{
	{sarama.ErrSASLAuthenticationFailed, fault.Unauthenticated, "the broker refuses the user or the password"},
	{sarama.ErrUnsupportedSASLMechanism, fault.Unauthenticated, "the broker does not offer this SASL mechanism"},
	{sarama.ErrIllegalSASLState, fault.Unauthenticated, "the broker does not want SASL now"},
	{sarama.ErrTopicAuthorizationFailed, fault.Forbidden, "the user has no right to the topic"},
	{sarama.ErrGroupAuthorizationFailed, fault.Forbidden, "the user has no right to the group"},
	{sarama.ErrClusterAuthorizationFailed, fault.Forbidden, "the user has no right to do this in the cluster"},
	{sarama.ErrFencedInstancedId, fault.Conflict, "another process has joined the group under the same node name"},
	{sarama.ErrMessageSizeTooLarge, fault.Invalid, "the event is larger than the broker allows"},
	{sarama.ErrMessageSetSizeTooLarge, fault.Invalid, "the event is larger than the broker allows"},
	{sarama.ErrUnknownTopicOrPartition, fault.NotFound, "the topic does not exist"},
	{sarama.ErrInvalidTopic, fault.Invalid, "the broker does not allow the name of the topic"},
	{sarama.ErrInvalidReplicationFactor, fault.Invalid, "the cluster has fewer brokers than the replication asks for"},
	{sarama.ErrInvalidGroupId, fault.Invalid, "the broker does not allow the name of the group"},
}

// translate gives a broker's error its kind and one line of text.
func translate(err error) error {
	if err == nil {
		return nil
	}
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			return fault.New(k.kind, k.kind.Code(), k.says).Because(oneLine{err})
		}
	}
	var (
		record  tls.RecordHeaderError
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		broken  *tls.CertificateVerificationError
		alert   tls.AlertError
		limit   sarama.ConfigurationError
		says    string
	)
	switch {
	case errors.As(err, &limit): // of Producer.MaxMessageBytes: the rest is constant
		return fault.New(fault.Invalid, fault.Invalid.Code(), "the event is too large").Because(oneLine{err})
	case errors.As(err, &record):
		says = "the broker does not speak TLS"
	case errors.As(err, &unknown), errors.As(err, &name), errors.As(err, &broken):
		says = "the broker's certificate is not trusted"
	case errors.As(err, &alert):
		says = "the broker refuses the TLS handshake"
	case errors.Is(err, syscall.ECONNREFUSED):
		says = "nothing listens there"
	case closed(err):
		says = "the broker closed the connection; perhaps it wants TLS, a user, or another password"
	case late(err):
		says = "the broker does not answer in time"
	}
	return unavailable(says, err)
}

// explain is translate for the first contact, where TLS may be what is wrong.
func (c Config) explain(err error) error {
	translated := translate(err)
	switch {
	case c.TLS == nil, fault.KindOf(translated) != fault.Unavailable:
	case closed(err):
		return unavailable("the broker closed the connection; perhaps it does not speak TLS, or wants a user or another password", err)
	case late(err):
		return unavailable("the broker does not answer in time; perhaps it does not speak TLS", err)
	}
	return translated
}

func unavailable(says string, err error) error {
	if says == "" {
		return fault.Wrap(fault.Unavailable, oneLine{err})
	}
	return fault.New(fault.Unavailable, fault.Unavailable.Code(), says).Because(oneLine{err})
}

func closed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}

func late(err error) bool {
	var network net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &network) && network.Timeout()
}

// refused reports whether trying again cannot help.
func refused(err error) bool {
	switch fault.KindOf(translate(err)) {
	case fault.Unauthenticated, fault.Forbidden, fault.Conflict, fault.Invalid:
		return true
	default:
		return false
	}
}

// oneLine is a vendor's error, whose text may have many lines.
type oneLine struct{ error }

func (e oneLine) Error() string { return strings.Join(strings.Fields(e.error.Error()), " ") }

func (e oneLine) Unwrap() error { return e.error }
