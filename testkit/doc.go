// Package testkit helps to test systems that are built on core: time that a test moves
// ([Clock]), identifiers and secrets that repeat ([IDs], [Random]), mails that a test can
// wait for ([Mailbox]), and dependencies that fail in the ways in which dependencies fail
// ([Faults], and one decorator a port).
//
// It stands on the standard library and core alone, and does not import testing. Everything
// in it may be used from many goroutines.
package testkit
