//go:build !linux

package forgetfs

import "fmt"

// FS is a mounted file system. There is none on this system.
type FS struct{}

// Available returns ErrUnavailable.
func Available() error { return fmt.Errorf("%w: it needs Linux", ErrUnavailable) }

// Mount returns ErrUnavailable.
func Mount(string, Config) (*FS, error) { return nil, Available() }

// Path is empty.
func (*FS) Path() string { return "" }

// Sync does nothing.
func (*FS) Sync() error { return nil }

// Cut does nothing.
func (*FS) Cut(Cut) (Lost, error) { return Lost{}, Available() }

// Restore does nothing.
func (*FS) Restore() error { return nil }

// Snapshot does nothing.
func (*FS) Snapshot(string) error { return nil }

// Stats is zero.
func (*FS) Stats() Stats { return Stats{} }

// Close does nothing.
func (*FS) Close() error { return nil }
