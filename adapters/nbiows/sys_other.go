//go:build !unix

package nbiows

import (
	"errors"
	"net"

	"github.com/lesismal/nbio"
)

// supported is false: New refuses, and nothing below is ever called.
const supported = false

func adopt(net.Conn) (*nbio.Conn, error) { return nil, errors.ErrUnsupported }

func write(*nbio.Conn, []byte) (int, error) { return 0, errors.ErrUnsupported }

func endWriting(*nbio.Conn) {}

func cut(*nbio.Conn) {}

func awaitPoller(*nbio.Engine) error { return errors.ErrUnsupported }
