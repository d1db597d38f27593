package realtime_test

import (
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// hidesRead sets whether anybody else is told how far a user has read.
func (n *node) hidesRead(name string, on bool) {
	n.t.Helper()
	require.NoError(n.t, n.chat.SetUserSettings(n.t.Context(), user.ID("u-"+name), chat.UserSettings{HidesRead: on}))
}

// heardBy waits until another node has heard what this one told every node before.
func (n *node) heardBy(other *node, sign string) {
	n.t.Helper()
	witness := other.connect("witness")
	require.Equal(n.t, "not_joined", witness.refused("history", map[string]any{"room": "nowhere"}), "the hub knows of it")
	n.makes("owner", sign, chat.Private)
	n.gives(actor("owner"), sign, "witness", chat.Regular)
	witness.until("membership")
}

// markedUntil returns what is said of who has read how far before the next message: what comes in a room comes to everybody in one order.
func (e *end) markedUntil(message string) []string {
	e.t.Helper()
	all := []string{}
	for {
		v := e.next()
		switch v.Event {
		case "marked":
			var m struct {
				User struct{ ID string }
				Read uint64
			}
			require.NoError(e.t, json.Unmarshal(v.Data, &m))
			all = append(all, fmt.Sprint(m.User.ID, " ", m.Read))
		case "message":
			require.Contains(e.t, string(v.Data), message)
			return all
		}
	}
}

func TestWhoHidesHowFarTheyHaveReadTellsTheirOwnConnectionsAlone(t *testing.T) {
	_, one, two := pair(t, nil)
	ada, phone, bob, eve, voice := one.connect("ada"), two.connect("ada"), two.connect("bob"), one.connect("eve"), one.connect("voice")
	joins("hall", ada, phone, bob, eve, voice)
	all := []*end{ada, phone, bob, eve}
	for range 9 {
		voice.say("hall", "first")
		for _, e := range all {
			assert.Empty(t, e.markedUntil("first"))
		}
	}
	tells := func(read int, to ...*end) {
		t.Helper()
		for _, e := range []*end{ada, phone} { // one on each node: there it is told
			assert.Equal(t, fmt.Sprint("hall u-ada ada ", read), e.marked())
		}
		text := fmt.Sprint("behind ", read)
		voice.say("hall", text)
		for i, e := range all {
			want := []string{}
			if slices.Contains(to, e) {
				want = append(want, fmt.Sprint("u-ada ", read))
			}
			assert.Equal(t, want, e.markedUntil(text), "connection %d", i)
		}
	}
	ada.mark("hall", 1)
	tells(1, bob, eve)
	phone.mark("hall", 2) // both nodes know what she has set
	tells(2, bob, eve)
	one.hidesRead("ada", true)
	now, unread := ada.mark("hall", 3)
	assert.Equal(t, []uint64{3, 8}, []uint64{now, unread})
	tells(3)
	one.heardBy(two, "first")
	phone.mark("hall", 4)
	tells(4)
	_, err := two.chat.Mark(t.Context(), chat.Mark{Room: "hall", User: chat.Author{ID: "u-ada", Name: "ada"}, Read: 5}) // as over REST
	require.NoError(t, err)
	tells(5)
	assert.EqualValues(t, 5, two.connect("ada").join("hall").Read, "she is told herself")
	mine, _, err := two.chat.MyRooms(t.Context(), chat.Author{ID: "u-ada"}, chat.Place{}, 10)
	require.NoError(t, err)
	assert.Equal(t, []uint64{5, 9}, []uint64{mine[0].Read, mine[0].Unread})

	// What others have read she is told all the same.
	eve.mark("hall", 7)
	for _, e := range all {
		assert.Equal(t, "hall u-eve eve 7", e.marked())
	}

	two.hidesRead("ada", false)
	phone.mark("hall", 8)
	tells(8, bob, eve)
	two.heardBy(one, "second")
	ada.mark("hall", 9)
	tells(9, bob, eve)
}

// A node that hears nothing looks into the store, which has a note of who has changed their settings.
func TestANodeThatHearsNothingFindsWhatUsersHaveSet(t *testing.T) {
	_, one, two := deafPair(t, chat.Config{})
	phone, bob, voice := two.connect("ada"), two.connect("bob"), two.connect("voice")
	joins("hall", phone, bob, voice)
	voice.say("hall", "first")
	bob.markedUntil("first")
	read := 0
	tellsBob := func() bool {
		read++
		phone.mark("hall", uint64(read))
		require.Equal(t, fmt.Sprint("hall u-ada ada ", read), phone.marked())
		text := fmt.Sprint("behind ", read)
		voice.say("hall", text)
		heard := bob.markedUntil(text)
		if len(heard) > 0 {
			require.Equal(t, []string{fmt.Sprint("u-ada ", read)}, heard)
		}
		return len(heard) > 0
	}
	require.True(t, tellsBob())
	for _, hides := range []bool{true, false, true} {
		one.hidesRead("ada", hides)
		for began := time.Now(); tellsBob() == hides; {
			require.Less(t, time.Since(began), patience)
			runtime.Gosched()
		}
	}
}
