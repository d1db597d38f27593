//go:build !unix

package jwtauth

// lock does nothing: where files cannot be locked, one program at a time may change the key file.
func lock(string) (release func(), err error) { return func() {}, nil }
