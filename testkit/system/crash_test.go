package system

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/testkit"
)

// onItsWay wraps the ports between a sign-up and its mail.
type onItsWay struct {
	*System
	faults *testkit.Faults
	outbox event.Outbox
}

func startFaulty(t *testing.T, cfg Config, rules ...testkit.Rule) *onItsWay {
	t.Helper()
	w := &onItsWay{faults: testkit.NewFaults(1, rules...)}
	cfg.Relay = event.RelayConfig{Poll: 5 * time.Millisecond, MaxBackoff: 5 * time.Millisecond, Timeout: time.Second}
	cfg.Worker = mail.WorkerConfig{
		SendTimeout: time.Second, Lease: 20 * time.Second,
		Poll: 5 * time.Millisecond, Backoff: time.Millisecond, MaxBackoff: 2 * time.Millisecond,
	}
	cfg.Ports = func(p *parley.Ports) {
		w.outbox = p.Outbox
		p.SignUps, p.Codes = testkit.FaultySignUps(p.SignUps, w.faults), testkit.FaultyCodes(p.Codes, w.faults)
		p.Outbox, p.Publisher = testkit.FaultyOutbox(p.Outbox, w.faults), testkit.FaultyPublisher(p.Publisher, w.faults)
		p.Subscriber = testkit.FaultySubscriber(p.Subscriber, w.faults)
		p.MailQueue, p.Sender = testkit.FaultyQueue(p.MailQueue, w.faults), testkit.FaultySender(p.Sender, w.faults)
	}
	w.System = Start(t, cfg)
	return w
}

// signUp asks for an account and returns the answer's status.
func (w *onItsWay) signUp(t *testing.T, email string) int {
	t.Helper()
	a, err := w.Do(t.Context(), http.MethodPost, "/auth/signup", "", map[string]string{"fullName": "Ada", "email": email, "password": "a first pass phrase"})
	require.NoError(t, err)
	return a.Status
}

func (w *onItsWay) stats(t *testing.T) map[mail.State]int {
	t.Helper()
	stats, err := w.Parts().DeadLetters.Stats(t.Context())
	require.NoError(t, err)
	return stats
}

// settles waits until nothing is on its way any more.
func (w *onItsWay) settles(t *testing.T) {
	t.Helper()
	eventually(t, "the mail does not settle", func() bool {
		pending, err := w.outbox.Pending(t.Context(), 1)
		stats := w.stats(t)
		return err == nil && len(pending) == 0 && stats[mail.Ready] == 0 && stats[mail.Running] == 0 && stats[mail.Sent] > 0
	})
}

// TestSignUp_mailsOnceWhateverFails lets each step between a sign-up and its mail fail, and
// counts the mails.
func TestSignUp_mailsOnceWhateverFails(t *testing.T) {
	t.Parallel()
	const email = "ada@parley.test"
	fail, lose, twice := testkit.Fail(nil), testkit.LoseAnswer(), testkit.Duplicate()
	crash := testkit.Fail(fault.New(fault.Internal, "crashed", "the process ended here"))
	cases := []struct {
		method string
		what   string
		fault  testkit.Fault
		// status of the sign-up, 202 if zero; another one is followed by a second sign-up.
		status int
		// again says that the second sign-up finds the first done, and so asks for a second mail.
		again bool
		extra int  // mails that may come too many, recognisable by their id
		lease bool // a lease must end first
	}{
		{method: "Codes.Put", what: "fails", fault: fail, status: 503},
		{method: "Codes.Put", what: "answer lost", fault: lose, status: 503},
		{method: "SignUps.Create", what: "fails", fault: fail, status: 503},
		{method: "SignUps.Create", what: "answer lost", fault: lose, status: 503, again: true},
		{method: "Outbox.Pending", what: "fails", fault: fail},
		{method: "Outbox.Pending", what: "twice", fault: twice},
		{method: "Publisher.Publish", what: "fails", fault: fail},
		{method: "Publisher.Publish", what: "answer lost", fault: lose},
		{method: "Publisher.Publish", what: "twice", fault: twice},
		{method: "Publisher.Publish", what: "hangs", fault: testkit.Hang()},
		{method: "Subscriber.Handle", what: "fails", fault: fail},
		{method: "Subscriber.Handle", what: "answer lost", fault: lose},
		{method: "Subscriber.Handle", what: "twice", fault: twice},
		{method: "Outbox.Published", what: "fails", fault: fail},
		{method: "Outbox.Published", what: "answer lost", fault: lose},
		{method: "Outbox.Published", what: "twice", fault: twice},
		{method: "Queue.Enqueue", what: "fails", fault: fail},
		{method: "Queue.Enqueue", what: "answer lost", fault: lose},
		{method: "Queue.Enqueue", what: "twice", fault: twice},
		{method: "Sender.Send", what: "fails", fault: fail},
		{method: "Sender.Send", what: "hangs", fault: testkit.Hang()},
		{method: "Sender.Send", what: "answer lost", fault: lose, extra: 1},
		{method: "Sender.Send", what: "twice", fault: twice, extra: 1},
		{method: "Queue.Settle", what: "fails", fault: fail},
		{method: "Queue.Settle", what: "answer lost", fault: lose},
		{method: "Queue.Settle", what: "never stored", fault: crash, extra: 1, lease: true},
	}
	for _, store := range []Store{Memory, SQLite} {
		for _, c := range cases {
			t.Run(store.String()+"/"+c.method+" "+c.what, func(t *testing.T) {
				t.Parallel()
				w := startFaulty(t, Config{Store: store}, testkit.Rule{Method: c.method, Call: 1, Fault: c.fault})
				want := 1
				if c.status != 0 {
					require.Equal(t, c.status, w.signUp(t, email))
					if c.again {
						w.settles(t)
						require.Len(t, w.Mailbox.To(email), 1, "the sign-up waits, so its mail is owed")
						want++
					}
				}
				require.Equal(t, http.StatusAccepted, w.signUp(t, email))
				if c.lease {
					eventually(t, "the fault does not strike", func() bool { return w.faults.Struck(c.method) > 0 })
					w.Advance(time.Minute)
				}
				_, err := w.Mailbox.Await(within(t), email, want)
				require.NoError(t, err)
				w.settles(t)
				require.Equal(t, 1, w.faults.Struck(c.method), "the fault must have struck")
				mails := w.Mailbox.To(email)
				require.GreaterOrEqual(t, len(mails), want)
				require.LessOrEqual(t, len(mails), want+c.extra)
				ids := map[string]bool{}
				for _, m := range mails {
					ids[m.ID] = true
				}
				require.Len(t, ids, want, "a mail that came twice has the same id")
				w.Call(t, http.MethodPost, "/auth/verify", "", map[string]string{"code": w.Code(t, email, len(mails))}, http.StatusOK, nil)
			})
		}
	}
}

// TestSignUp_claimThatNobodyKnowsOf loses the answers to the worker's claims: the mail goes
// out when the lease has ended.
func TestSignUp_claimThatNobodyKnowsOf(t *testing.T) {
	t.Parallel()
	for _, store := range []Store{Memory, SQLite} {
		t.Run(store.String(), func(t *testing.T) {
			t.Parallel()
			const email = "ada@parley.test"
			w := startFaulty(t, Config{Store: store}, testkit.Rule{Method: "Queue.Claim", Fault: testkit.LoseAnswer()})
			require.Equal(t, http.StatusAccepted, w.signUp(t, email))
			eventually(t, "nobody claims the mail", func() bool { return w.stats(t)[mail.Running] == 1 })
			w.faults.Set()
			w.Advance(time.Minute)
			w.settles(t)
			require.Len(t, w.Mailbox.To(email), 1)
		})
	}
}

// TestSignUp_restartOnTheWay stops the system while a step hangs, and starts it again.
func TestSignUp_restartOnTheWay(t *testing.T) {
	t.Parallel()
	for _, store := range []Store{Memory, SQLite} {
		for _, method := range []string{"Outbox.Pending", "Publisher.Publish", "Outbox.Published", "Queue.Enqueue", "Sender.Send"} {
			t.Run(store.String()+"/"+method, func(t *testing.T) {
				t.Parallel()
				const email = "ada@parley.test"
				w := startFaulty(t, Config{Store: store}, testkit.Rule{Method: method, Fault: testkit.Hang()})
				require.Equal(t, http.StatusAccepted, w.signUp(t, email))
				require.NoError(t, w.faults.Await(within(t), method, 1))
				require.LessOrEqual(t, len(w.Mailbox.To(email)), 1)
				w.faults.Set()
				w.Restart(t)
				w.settles(t)
				require.Len(t, w.Mailbox.To(email), 1)
			})
		}
	}
}
