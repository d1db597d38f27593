package faultproxy

import (
	"net"
	"os"
	"strconv"
	"syscall"
)

// port is a port that stays ours while nothing listens on it: a socket is bound to it that never
// listens. Linux lets a listener have the same port as long as both have SO_REUSEADDR, which
// package net sets.
type port struct {
	address string
	fd      int
}

// reserve takes any free port of 127.0.0.1.
func reserve() (*port, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	number, err := bind(fd)
	if err != nil {
		_ = syscall.Close(fd) // err says what went wrong
		return nil, err
	}
	return &port{net.JoinHostPort("127.0.0.1", strconv.Itoa(number)), fd}, nil
}

func bind(fd int) (int, error) {
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return 0, os.NewSyscallError("setsockopt", err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, os.NewSyscallError("bind", err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		return 0, os.NewSyscallError("getsockname", err)
	}
	return name.(*syscall.SockaddrInet4).Port, nil
}

func (p *port) listen() (net.Listener, error) {
	return listen(p.address)
}

func (p *port) release() { _ = syscall.Close(p.fd) }
