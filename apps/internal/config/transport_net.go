//go:build !(linux || darwin || netbsd || freebsd || openbsd || dragonfly)

package config

// defaultTransport is the transport that runs everywhere.
const defaultTransport = "net"
