//go:build !linux

package faultproxy

import (
	"context"
	"net"
)

// port is a port that is ours while something listens on it.
type port struct {
	address string
	first   net.Listener // for the first call of listen
}

// reserve takes any free port of 127.0.0.1.
func reserve() (*port, error) {
	var c net.ListenConfig
	l, err := c.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return &port{l.Addr().String(), l}, nil
}

func (p *port) listen() (net.Listener, error) {
	if l := p.first; l != nil {
		p.first = nil
		return l, nil
	}
	return listen(p.address)
}

func (p *port) release() {}
