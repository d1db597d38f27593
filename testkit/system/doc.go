// Package system runs the whole of Parley in the test's own process, on a free port of the
// loopback interface: accounts, mail and chat over HTTP and WebSocket, as a program would
// serve them. It is for tests alone.
//
//	s := system.Start(t, system.Config{})
//	ada := s.User(t, "Ada")
//	client := s.Dial(t, ada, func(e wsclient.Event) { … })
//	_, err := client.Join(ctx, "tea")
//
// It serves the accounts (/auth/…), the administration of mails (/mail/…), the health checks,
// the public keys and the sockets (/socket). API documents and pages are an application's.
//
// Mails go to a mailbox that the test can read ([System.Mailbox]); time is the real one, and
// [System.Advance] lets it jump. Passwords are hashed fast, and limits of accounts are wide.
// Everything else has the defaults that a program has. To let dependencies fail, wrap them in
// Config.Ports with the decorators of testkit.
//
// # Closing
//
// [Start] registers its clean-up with the test. It stops the system as a program is stopped,
// and fails the test if a part returned an error or left a goroutine behind. Systems of
// parallel tests do not disturb each other: goroutines are told apart by a profiler label.
package system
