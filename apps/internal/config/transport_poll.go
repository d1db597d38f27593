//go:build linux || darwin || netbsd || freebsd || openbsd || dragonfly

package config

// defaultTransport is the transport without a goroutine for each connection.
const defaultTransport = "nbio"
