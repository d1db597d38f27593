package journal_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/apps/internal/campaign/journal"
)

// history is a journal as text. Each line is: kind, then words key=value of the entry.
func history(t *testing.T, lines string) string {
	t.Helper()
	var out bytes.Buffer
	w := journal.NewWriter(&out)
	for line := range strings.Lines(lines) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		require.NoError(t, w.Write(entry(t, words)), "%s", line)
	}
	require.NoError(t, w.Flush())
	return out.String()
}

func entry(t *testing.T, words []string) journal.Entry {
	t.Helper()
	e := journal.Entry{Kind: journal.Kind(words[0]), At: 1}
	number := func(s string) (n uint64) {
		_, err := fmt.Sscan(s, &n)
		require.NoError(t, err)
		return n
	}
	for _, word := range words[1:] {
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case "at":
			e.At = int64(number(value))
		case "who":
			e.Client = value
		case "user":
			e.User = value
		case "room":
			e.Room = value
		case "seq":
			e.Seq = number(value)
		case "id":
			e.ID = value
		case "key":
			e.ClientID = value
		case "text":
			e.Text = value
		case "from":
			e.From = new(number(value))
		case "recovered":
			e.Recovered = new(value == "true")
		case "members":
			e.Members = strings.Split(value, ",")
		case "settled":
			e.Settled = value == "true"
		case "more":
			e.More = value == "true"
		case "account":
			e.Account = value
		case "round":
			e.Round = int(number(value))
		case "fault":
			e.Fault = value
		case "victim":
			e.Victim = value
		case "what":
			e.What = value
		default:
			t.Fatalf("no field is called %q", name)
		}
	}
	return e
}

// two is a history of two clients and two messages, without the final log.
const two = `
	joined who=a room=r from=0
	joined who=b room=r from=0
	sent who=a room=r key=k1 text=t1
	saw who=a room=r seq=1 key=k1 id=i1 text=t1
	acknowledged who=a room=r seq=1 key=k1 id=i1
	saw who=b room=r seq=1 key=k1 id=i1 text=t1
	sent who=b room=r key=k2 text=t2
	saw who=a room=r seq=2 key=k2 id=i2 text=t2
	saw who=b room=r seq=2 key=k2 id=i2 text=t2
	acknowledged who=b room=r seq=2 key=k2 id=i2
`

// twoStored is its final log.
const twoStored = `
	stored room=r seq=1 key=k1 id=i1 text=t1
	stored room=r seq=2 key=k2 id=i2 text=t2
	complete what=log room=r
`

// without is text without the lines that begin with one of the prefixes.
func without(text string, prefixes ...string) string {
	var kept strings.Builder
	for line := range strings.Lines(text) {
		if !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(strings.TrimSpace(line), p) }) {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

// TestHistories shows the checker histories that are wrong in one way, and beside each its twin that is right.
func TestHistories(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name         string
		wrong, right string
		anomalies    map[journal.Anomaly]int
	}{
		{
			"an acknowledged message is not stored",
			without(two, "saw who=a room=r seq=2", "saw who=b room=r seq=2") + without(twoStored, "stored room=r seq=2"),
			two + twoStored, map[journal.Anomaly]int{journal.Lost: 1},
		},
		{
			"a message that was not acknowledged need not be stored",
			without(two, "saw who=a room=r seq=2", "saw who=b room=r seq=2") + without(twoStored, "stored room=r seq=2"),
			without(two, "saw who=a room=r seq=2", "saw who=b room=r seq=2", "acknowledged who=b") + without(twoStored, "stored room=r seq=2"),
			map[journal.Anomaly]int{journal.Lost: 1},
		},
		{
			"another message is where it was acknowledged",
			`sent who=a room=r key=k1
			acknowledged who=a room=r key=k1 seq=1
			sent who=a room=r key=k2
			stored room=r seq=1 key=k2
			stored room=r seq=2 key=k1
			complete what=log room=r`,
			`sent who=a room=r key=k1
			acknowledged who=a room=r key=k1 seq=1
			sent who=a room=r key=k2
			stored room=r seq=1 key=k1
			stored room=r seq=2 key=k2
			complete what=log room=r`,
			map[journal.Anomaly]int{journal.Lost: 1},
		},
		{
			"it is stored with another id than was acknowledged",
			`sent who=a room=r key=k1
			acknowledged who=a room=r key=k1 seq=1 id=i1
			stored room=r seq=1 key=k1 id=i9
			complete what=log room=r`,
			`sent who=a room=r key=k1
			acknowledged who=a room=r key=k1 seq=1 id=i1
			stored room=r seq=1 key=k1 id=i1
			complete what=log room=r`,
			map[journal.Anomaly]int{journal.Lost: 1},
		},
		{
			"an acknowledgement without a place",
			`sent who=a room=r key=k1
			acknowledged who=a room=r key=k1
			complete what=log room=r`,
			`sent who=a room=r key=k1
			acknowledged who=a room=r key=k1
			stored room=r seq=1 key=k1
			complete what=log room=r`,
			map[journal.Anomaly]int{journal.Lost: 1},
		},
		{
			"what is removed on purpose is not lost",
			`sent who=a room=r key=k1
			acknowledged who=a room=r key=k1 seq=1
			sent who=a room=r key=k2
			acknowledged who=a room=r key=k2 seq=2
			stored room=r seq=2 key=k2
			complete what=log room=r`,
			`sent who=a room=r key=k1
			acknowledged who=a room=r key=k1 seq=1
			sent who=a room=r key=k2
			acknowledged who=a room=r key=k2 seq=2
			stored room=r seq=2 key=k2
			complete what=log room=r from=1`,
			map[journal.Anomaly]int{journal.Lost: 1, journal.Gap: 1},
		},
		{
			"a client does not get the last one",
			without(two, "saw who=a room=r seq=2") + twoStored, two + twoStored, map[journal.Anomaly]int{journal.Missed: 1},
		},
		{
			"who has left need not get it",
			without(two, "saw who=a room=r seq=2") + twoStored,
			without(two, "saw who=a room=r seq=2") + "left who=a room=r\n" + twoStored, map[journal.Anomaly]int{journal.Missed: 1},
		},
		{
			"who is away need not get it",
			without(two, "saw who=a room=r seq=2") + "away who=a\nback who=a\n" + twoStored,
			without(two, "saw who=a room=r seq=2") + "away who=a\n" + twoStored, map[journal.Anomaly]int{journal.Missed: 1},
		},
		{
			"who joins later need not get what was before",
			two + "joined who=c room=r from=0\nsaw who=c room=r seq=2 key=k2\n" + twoStored,
			two + "joined who=c room=r\nsaw who=c room=r seq=2 key=k2\n" + twoStored,
			map[journal.Anomaly]int{journal.Gap: 1, journal.Missed: 1},
		},
		{
			"who joins again gets it once",
			two + "joined who=a room=r from=2\nsaw who=a room=r seq=2 key=k2\n" + twoStored,
			two + "joined who=a room=r from=1\nsaw who=a room=r seq=2 key=k2\n" + twoStored,
			map[journal.Anomaly]int{journal.Twice: 1},
		},
		{
			"who asks again for some gets them again",
			two + "joined who=a room=r from=0\nsaw who=a room=r seq=1 key=k1\n" + twoStored,
			two + "joined who=a room=r from=0\nsaw who=a room=r seq=1 key=k1\nsaw who=a room=r seq=2 key=k2\n" + twoStored,
			map[journal.Anomaly]int{journal.Missed: 1},
		},
		{
			"who asks for later ones need not get those in between",
			without(two, "saw who=a room=r seq=1") + twoStored,
			"joined who=a room=r from=0\njoined who=a room=r from=1\n" + without(two, "saw who=a room=r seq=1", "joined who=a") + twoStored,
			map[journal.Anomaly]int{journal.Gap: 1, journal.Missed: 1},
		},
		{
			"a message comes twice",
			two + "saw who=a room=r seq=1 key=k1\n" + twoStored, two + twoStored, map[journal.Anomaly]int{journal.Twice: 1},
		},
		{
			"after a reload it may come again",
			two + "saw who=a room=r seq=2 key=k2\n" + twoStored,
			two + "reload who=a room=r\nsaw who=a room=r seq=2 key=k2\n" + twoStored, map[journal.Anomaly]int{journal.Twice: 1},
		},
		{
			"a repetition is stored once",
			`sent who=a room=r key=k1
			sent who=a room=r key=k1
			acknowledged who=a room=r key=k1 seq=1
			stored room=r seq=1 key=k1
			stored room=r seq=2 key=k1
			complete what=log room=r`,
			`sent who=a room=r key=k1
			sent who=a room=r key=k1
			acknowledged who=a room=r key=k1 seq=1
			stored room=r seq=1 key=k1
			complete what=log room=r`,
			map[journal.Anomaly]int{journal.Twice: 1},
		},
		{
			"a repetition has the same answer",
			two + "acknowledged who=a room=r seq=3 key=k1 id=i3\n" + twoStored,
			two + "acknowledged who=a room=r seq=1 key=k1 id=i1\n" + twoStored, map[journal.Anomaly]int{journal.Twice: 1},
		},
		{
			"one client id is seen under two numbers",
			`sent who=a room=r key=k1
			joined who=a room=r
			joined who=b room=r
			saw who=a room=r seq=1 key=k1
			saw who=b room=r seq=2 key=k1`,
			`sent who=a room=r key=k1
			joined who=a room=r
			joined who=b room=r
			saw who=a room=r seq=1 key=k1
			saw who=b room=r seq=1 key=k1`,
			map[journal.Anomaly]int{journal.Twice: 1},
		},
		{
			"the final log has a place twice",
			two + twoStored + "stored room=r seq=2 key=k2\n", two + twoStored, map[journal.Anomaly]int{journal.Twice: 1},
		},
		{
			"an earlier one comes later",
			`sent who=a room=r key=k1
			sent who=a room=r key=k2
			joined who=b room=r from=0
			saw who=b room=r seq=2 key=k2
			saw who=b room=r seq=1 key=k1`,
			`sent who=a room=r key=k1
			sent who=a room=r key=k2
			joined who=b room=r from=0
			saw who=b room=r seq=1 key=k1
			saw who=b room=r seq=2 key=k2`,
			map[journal.Anomaly]int{journal.Gap: 1, journal.OutOfOrder: 1},
		},
		{
			"one that was sent later has an earlier place",
			`sent who=a room=r key=k1
			acknowledged who=a room=r key=k1 seq=2
			sent who=b room=r key=k2
			acknowledged who=b room=r key=k2 seq=1`,
			`sent who=a room=r key=k1
			sent who=b room=r key=k2
			acknowledged who=a room=r key=k1 seq=2
			acknowledged who=b room=r key=k2 seq=1`,
			map[journal.Anomaly]int{journal.OutOfOrder: 1},
		},
		{
			"a client gets one and not the one before",
			`sent who=a room=r key=k1
			sent who=a room=r key=k2
			joined who=b room=r from=0
			saw who=b room=r seq=2 key=k2`,
			`sent who=a room=r key=k1
			sent who=a room=r key=k2
			joined who=b room=r from=0
			reload who=b room=r
			saw who=b room=r seq=2 key=k2`,
			map[journal.Anomaly]int{journal.Gap: 1},
		},
		{
			"a client that comes back is told that some are missing",
			`sent who=a room=r key=k3
			joined who=b room=r from=0
			joined who=b room=r from=0 recovered=true
			saw who=b room=r seq=3 key=k3`,
			`sent who=a room=r key=k3
			joined who=b room=r from=0
			joined who=b room=r from=2 recovered=false
			saw who=b room=r seq=3 key=k3`,
			map[journal.Anomaly]int{journal.Gap: 1},
		},
		{
			"the final log has a hole",
			`sent who=a room=r key=k1
			sent who=a room=r key=k3
			stored room=r seq=1 key=k1
			stored room=r seq=3 key=k3
			complete what=log room=r`,
			`sent who=a room=r key=k1
			sent who=a room=r key=k3
			stored room=r seq=1 key=k1
			stored room=r seq=2 key=k3
			complete what=log room=r`,
			map[journal.Anomaly]int{journal.Gap: 1},
		},
		{
			"a message that nobody has sent is seen",
			`joined who=b room=r
			saw who=b room=r seq=1 key=k1`,
			`sent who=a room=r key=k1
			joined who=b room=r
			saw who=b room=r seq=1 key=k1`,
			map[journal.Anomaly]int{journal.Phantom: 1},
		},
		{
			"a message that nobody has sent is stored",
			"stored room=r seq=1 key=k1", "sent who=a room=r key=k1\nstored room=r seq=1 key=k1", map[journal.Anomaly]int{journal.Phantom: 1},
		},
		{
			"a message that nobody has sent is acknowledged",
			"acknowledged who=a room=r key=k1", "sent who=a room=r key=k1\nacknowledged who=a room=r key=k1", map[journal.Anomaly]int{journal.Phantom: 1},
		},
		{
			"a message that was seen is not stored",
			without(two, "acknowledged") + without(twoStored, "stored room=r seq=2"),
			without(two, "acknowledged") + twoStored, map[journal.Anomaly]int{journal.Phantom: 1},
		},
		{
			"what is removed on purpose may have been seen",
			two + "complete what=log room=r", two + "complete what=log room=r from=2", map[journal.Anomaly]int{journal.Phantom: 2, journal.Lost: 2},
		},
		{
			"two clients see different messages in one place",
			`sent who=a room=r key=k1
			sent who=a room=r key=k2
			joined who=a room=r
			joined who=b room=r
			saw who=a room=r seq=1 key=k1
			saw who=b room=r seq=1 key=k2`,
			`sent who=a room=r key=k1
			sent who=a room=r key=k2
			joined who=a room=r
			joined who=b room=r
			saw who=a room=r seq=1 key=k1
			saw who=b room=r seq=2 key=k2`,
			map[journal.Anomaly]int{journal.Phantom: 1},
		},
		{
			"a client sees another text than others",
			strings.ReplaceAll(two, "saw who=b room=r seq=2 key=k2 id=i2 text=t2", "saw who=b room=r seq=2 key=k2 id=i2 text=t9") + twoStored,
			strings.ReplaceAll(two, "saw who=b room=r seq=2 key=k2 id=i2 text=t2", "saw who=b room=r seq=2 key=k2") + twoStored,
			map[journal.Anomaly]int{journal.Phantom: 1},
		},
		{
			"another text is stored than was sent",
			`sent who=a room=r key=k1 text=t1
			stored room=r seq=1 key=k1 text=t9
			complete what=log room=r`,
			`sent who=a room=r key=k1 text=t1
			stored room=r seq=1 key=k1 text=t1
			complete what=log room=r`,
			map[journal.Anomaly]int{journal.Phantom: 1},
		},
		{
			"who has left is listed as present",
			two + "left who=a room=r\npresence room=r members=a,b settled=true\n",
			two + "left who=a room=r\npresence room=r members=b settled=true\n", map[journal.Anomaly]int{journal.Ghost: 1},
		},
		{
			"who is away is listed as present",
			two + "away who=a\npresence room=r members=a,b settled=true\n",
			two + "away who=a\npresence room=r members=a,b\n", map[journal.Anomaly]int{journal.Ghost: 1},
		},
		{
			"a user with two connections is present while one is there",
			"joined who=a1 user=a room=r\njoined who=a2 user=a room=r\naway who=a1\naway who=a2\npresence room=r members=a settled=true",
			"joined who=a1 user=a room=r\njoined who=a2 user=a room=r\naway who=a1\npresence room=r members=a settled=true",
			map[journal.Anomaly]int{journal.Ghost: 1},
		},
		{
			"who is present is not listed",
			two + "presence room=r members=b settled=true\n",
			two + "presence room=r members=b settled=true more=true\n", map[journal.Anomaly]int{journal.Absent: 1},
		},
		{
			"a sign-up has no mail",
			"signing-up account=x\nsigned-up account=x\ncomplete what=mail", "signing-up account=x\ncomplete what=mail",
			map[journal.Anomaly]int{journal.NoMail: 1},
		},
		{
			"an account has no mail",
			"signing-up account=x\naccount account=x\ncomplete what=mail", "signing-up account=x\nmail account=x\naccount account=x\ncomplete what=mail",
			map[journal.Anomaly]int{journal.NoMail: 1},
		},
		{
			"a sign-up has no account",
			"signing-up account=x\nsigned-up account=x\ncomplete what=accounts", "signing-up account=x\nsigned-up account=x\naccount account=x\ncomplete what=accounts",
			map[journal.Anomaly]int{journal.NoAccount: 1},
		},
		{
			"a mail for which nobody asked",
			"mail account=x", "signing-up account=x\nmail account=x", map[journal.Anomaly]int{journal.PhantomMail: 1},
		},
		{
			"more mails twice than faults",
			"round round=1 fault=kill victim=server\nsigning-up account=x\nmail account=x\nmail account=x\nmail account=x",
			"round round=1 fault=kill victim=server\nsigning-up account=x\nmail account=x\nmail account=x",
			map[journal.Anomaly]int{journal.MailTwice: 1},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			verdict, err := journal.Check(strings.NewReader(history(t, c.wrong)))
			require.NoError(t, err)
			counts := map[journal.Anomaly]int{}
			for a, f := range verdict.Anomalies {
				if f.Count > 0 {
					counts[a] = f.Count
					assert.Len(t, f.Examples, min(f.Count, 5))
				}
			}
			assert.Equal(t, c.anomalies, counts, "%v", verdict.Anomalies)
			assert.False(t, verdict.OK())
			verdict, err = journal.Check(strings.NewReader(history(t, c.right)))
			require.NoError(t, err)
			assert.True(t, verdict.OK(), "the twin is right: %v", verdict.Anomalies)
		})
	}
}

// TestVerdictCounts wants every figure, and a finding of each anomaly.
func TestVerdictCounts(t *testing.T) {
	t.Parallel()
	verdict, err := journal.Check(strings.NewReader(history(t, two+`
		refused who=a room=r key=k3
		round round=1 fault=kill victim=server
		away who=a at=1000
		back who=a at=251000
		healed round=1
		reload who=b room=r
		round round=2 fault=freeze victim=store
		round round=3 fault=kill victim=server
		signing-up account=x
		signed-up account=x
		signed-up account=x
		mail account=x
		mail account=x
		sent who=a room=q key=k1
		`+twoStored)))
	require.NoError(t, err)
	assert.True(t, verdict.OK(), "%v", verdict.Anomalies)
	assert.Len(t, verdict.Anomalies, len(journal.Anomalies))
	assert.ElementsMatch(t, journal.Anomalies, slices.Collect(maps.Keys(verdict.Anomalies)))
	verdict.Anomalies = nil
	assert.Equal(t, journal.Verdict{
		Entries: 27, Rounds: 3, Faults: map[string]int{"kill server": 2, "freeze store": 1}, Clients: 2, Rooms: 2,
		Sent: 3, Acknowledged: 2, Refused: 1, Delivered: 4, Stored: 2, Reloads: 1, SignUps: 1, Mails: 2, MailsTwice: 1,
		LongestAbsence: 250 * time.Millisecond, Unread: []string{"q"},
	}, verdict)
}

func TestExamplesAreTheFirst(t *testing.T) {
	t.Parallel()
	c := journal.NewChecker()
	for i := range 20 {
		require.NoError(t, c.Add(journal.Entry{Kind: journal.Mail, Account: fmt.Sprintf("a%02d", i)}))
	}
	f := c.Verdict().Anomalies[journal.PhantomMail]
	assert.Equal(t, 20, f.Count)
	require.Len(t, f.Examples, 5)
	assert.Contains(t, f.Examples[0], "a00")
}

// Several journals are merged by time: of two that each know one side, neither is right alone.
func TestSeveralJournals(t *testing.T) {
	t.Parallel()
	sender := history(t, "sent at=10 who=a room=r key=k1\nacknowledged at=20 who=a room=r key=k1 seq=2\nsent at=30 who=a room=r key=k2\nacknowledged at=60 who=a room=r key=k2 seq=3")
	reader := history(t, "sent at=40 who=b room=r key=k3\nacknowledged at=50 who=b room=r key=k3 seq=1")
	verdict, err := journal.Check(strings.NewReader(sender), strings.NewReader(reader))
	require.NoError(t, err)
	assert.Equal(t, 1, verdict.Count(journal.OutOfOrder), "sent after 2 was acknowledged: %v", verdict.Anomalies)
	verdict, err = journal.Check(strings.NewReader(sender), strings.NewReader(strings.ReplaceAll(reader, `"at":40`, `"at":15`)))
	require.NoError(t, err)
	assert.True(t, verdict.OK(), "%v", verdict.Anomalies)
}

func TestBadJournals(t *testing.T) {
	t.Parallel()
	const good = `{"kind":"mail","account":"x"}` + "\n"
	for _, c := range []struct{ text, says string }{
		{"", "it has no entries"},
		{"\n \n", "it has no entries"},
		{"hello", "line 1: "},
		{good + "\n{", "line 3: "},
		{good + `{"kind":"mail","account":"x"} {}`, "line 2: something follows"},
		{`[]`, "line 1: "},
		{`{"kind":"saw","client":"a","room":"r","clientId":"k"}`, `"saw" needs client, room, clientId and seq`},
		{`{"kind":"saw","client":"a","room":"r","clientId":"k","seq":-1}`, "line 1: "},
		{`{"kind":"sent","client":"a","room":"r"}`, `"sent" needs client, room and clientId`},
		{`{"kind":"stored","room":"r","seq":1}`, `"stored" needs room, clientId and seq`},
		{`{"kind":"joined","room":"r"}`, `"joined" needs client and room`},
		{`{"kind":"away"}`, `"away" needs client`},
		{`{"kind":"presence"}`, `"presence" needs room`},
		{`{"kind":"signed-up"}`, `"signed-up" needs account`},
		{`{"kind":"round","round":1,"fault":"kill"}`, `"round" needs round, fault and victim`},
		{`{"kind":"healed"}`, `"healed" needs round`},
		{`{"kind":"complete","what":"log"}`, `"complete" needs room`},
		{`{"kind":"complete","what":"everything"}`, `not "everything"`},
		{`{"kind":"seen"}`, `no entry is of kind "seen"`},
		{`{"kind":"mail","acount":"x"}`, "acount"},
		{`{"kind":"mail","account":"` + strings.Repeat("x", 1<<20) + `"}`, "line 1: it is longer than 1048576 bytes"},
	} {
		_, err := journal.Check(strings.NewReader(c.text))
		assert.ErrorContains(t, err, c.says, "%.60s", c.text)
	}
	_, err := journal.Check(strings.NewReader(good), strings.NewReader("?"))
	require.ErrorContains(t, err, "journal 2: line 1: ")
	_, err = journal.Check(io.MultiReader(strings.NewReader(good), failing{}))
	require.ErrorIs(t, err, errFull)
}

var errFull = errors.New("no space")

// failing can be neither read nor written.
type failing struct{}

func (failing) Read([]byte) (int, error)  { return 0, errFull }
func (failing) Write([]byte) (int, error) { return 0, errFull }

func TestWriter(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	w := journal.NewWriter(&out)
	require.ErrorContains(t, w.Write(journal.Entry{Kind: journal.Sent}), "needs client")
	before := time.Now().UnixMicro()
	var writing sync.WaitGroup
	const writers, each = 8, 500
	for i := range writers {
		writing.Go(func() {
			for j := range each {
				if err := w.Write(journal.Entry{Kind: journal.Mail, Account: fmt.Sprintf("a%d", i), ID: fmt.Sprint(j)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
	require.NoError(t, w.Flush())
	verdict, err := journal.Check(&out)
	require.NoError(t, err)
	assert.Equal(t, writers*each, verdict.Entries)
	assert.Equal(t, writers*(each-1), verdict.MailsTwice)

	require.NoError(t, w.Write(journal.Entry{Kind: journal.Away, Client: "a"}))
	require.NoError(t, w.Write(journal.Entry{Kind: journal.Away, Client: "a", At: 7}))
	require.NoError(t, w.Flush())
	var stamped, given int64
	_, err = fmt.Fscanf(&out, `{"kind":"away","at":%d,"client":"a"}`+"\n"+`{"kind":"away","at":%d,"client":"a"}`, &stamped, &given)
	require.NoError(t, err)
	assert.GreaterOrEqual(t, stamped, before)
	assert.EqualValues(t, 7, given)
}

func TestAWriterThatCannotWriteSaysSo(t *testing.T) {
	t.Parallel()
	w := journal.NewWriter(failing{})
	require.NoError(t, w.Write(journal.Entry{Kind: journal.Away, Client: "a"}), "it waits in the buffer")
	require.ErrorIs(t, w.Flush(), errFull)
	require.ErrorIs(t, w.Write(journal.Entry{Kind: journal.Away, Client: "a"}), errFull)
	require.ErrorIs(t, w.Flush(), errFull)
}

// FuzzCheck wants no panic, and the same verdict again.
func FuzzCheck(f *testing.F) {
	f.Add(`{"kind":"saw","client":"a","room":"r","clientId":"k","seq":18446744073709551615}` + "\n" + `{"kind":"joined","client":"a","room":"r","from":18446744073709551615}`)
	f.Add(`{"kind":"joined","client":"a","room":"r","from":0}` + "\n" + `{"kind":"joined","client":"a","room":"r","from":18446744073709551615}` + "\n" + `{"kind":"joined","client":"a","room":"r","from":3}`)
	f.Add(`{"kind":"sent","client":"a","room":"r","clientId":"k"}` + "\n" + `{"kind":"acknowledged","client":"a","room":"r","clientId":"k","seq":3}` + "\n" + `{"kind":"stored","room":"r","clientId":"k","seq":1}` + "\n" + `{"kind":"complete","what":"log","room":"r"}`)
	f.Add(`{"kind":"presence","room":"r","members":["a"],"settled":true}` + "\n" + `{"kind":"round","round":1,"fault":"kill","victim":"server"}` + "\n" + `{"kind":"mail","account":"x"}`)
	f.Fuzz(func(t *testing.T, text string) {
		verdict, err := journal.Check(strings.NewReader(text))
		if err != nil {
			return
		}
		again, err := journal.Check(strings.NewReader(text))
		require.NoError(t, err)
		require.Equal(t, verdict, again)
	})
}
