package scenario

import (
	"encoding/json"
	"fmt"
)

// Messages of the private and of the direct room, which are nobody else's business.
const (
	whispered = "only for you"
	unseen    = "he will never read this"
)

// second goes on where first has ended, in rooms that others do not see. A change of what somebody is in a room is made over REST; it has happened on the
// other node when somebody there has heard of it. Each waits for all that is told: what is told once more, or to the wrong one, stands where the story
// wants something else.
func (tr *transcript) second(ada, bob *actor) {
	tr.part("Both come back. Ada makes a private room, whose name the server makes; to Bob it looks as if it was not there.")
	bob.connect("", bearer(bob.token))
	ada.connect("", bearer(ada.token))
	room := text(ada.call(post, "/rooms", object{"kind": "private", "title": "The kitchen", "data": json.RawMessage(`{"icon":"pot"}`)}, 201), "name")
	at := "/rooms/" + room
	bobIn, adaIn := at+"/members/"+bob.id, at+"/members/"+ada.id
	ada.says("join_room", object{"room": room})
	ada.does("message", object{"room": room, "text": "Who cooks?"}, "message") // behind it nobody is told any more that she has joined
	bob.asks("join_room", object{"room": room}, "error")
	hidden, missing := bob.call(get, at, nil, 404), bob.call(get, "/rooms/nowhere", nil, 404)
	tr.check(fmt.Sprint(hidden) == fmt.Sprint(missing), "a private room is answered %v, and one that is not there %v", hidden, missing)

	both := func(all ...told) {
		tr.t.Helper()
		ada.takes(all...)
		bob.takes(all...)
	}
	isNow := told{event: "membership", about: bob, by: ada}
	tr.part("Ada invites Bob as a reader, and he comes in; he speaks when she has made him a member.")
	ada.call(put, bobIn, object{"role": "reader"}, 200)
	both(isNow)
	bob.says("join_room", object{"room": room})
	ada.takes(told{event: "joined", about: bob})
	bob.asks("message", object{"room": room, "text": "May I?"}, "error")
	bob.call(post, at+"/messages", object{"text": "May I?"}, 403)
	ada.call(put, bobIn, object{"role": "member"}, 200)
	both(isNow)
	ada.call(get, at+"/members", nil, 200)

	tr.part("They talk: a reply with data, an edit, a reaction that is taken back, a deletion. Nobody but a moderator deletes what others have written.")
	bob.does("message", object{"room": room, "text": "I do.", "replyTo": 1, "data": json.RawMessage(`{"at":"20:00"}`)}, "message")
	ada.hears("message")
	ada.does("message", object{"room": room, "text": "Sooop?"}, "message")
	bob.hears("message")
	ada.does("edit", object{"room": room, "seq": 1, "text": "Who cooks today?"}, "changed")
	bob.hears("changed")
	for _, on := range []bool{true, false} {
		bob.does("react", object{"room": room, "seq": 1, "key": "🍲", "on": on}, "changed")
		ada.hears("changed")
	}
	bob.does("delete", object{"room": room, "seq": 2}, "changed")
	ada.hears("changed")
	bob.asks("delete", object{"room": room, "seq": 3}, "error")

	tr.part("Bob has one message to read; his mark tells both that he has read it.")
	bob.call(get, "/rooms/mine", nil, 200)
	bob.call(put, at+"/read", object{"seq": 3}, 200)
	both(told{event: "marked", about: bob})
	bob.call(get, "/rooms/mine", nil, 200)

	tr.part("As a moderator Bob deletes a message of Ada's, and gives nobody a role. Ada takes the role from him, and mutes him for a while.")
	ada.call(put, bobIn, object{"role": "moderator"}, 200)
	both(isNow)
	bob.call(del, at+"/messages/3", nil, 200)
	both(told{event: "changed"})
	bob.call(put, adaIn, object{"role": "member"}, 403)
	ada.call(put, bobIn, object{"role": "member"}, 200)
	both(isNow)
	mute := at + "/mutes/" + bob.id
	ada.call(put, mute, object{"until": "2099-01-01T00:00:00Z", "reason": "all capitals"}, 204)
	both(told{event: "membership", about: bob, by: ada, reason: "all capitals"})
	bob.asks("message", object{"room": room, "text": "WHY?"}, "error")
	ada.call(get, at+"/mutes", nil, 200)
	ada.call(del, mute, nil, 204)
	both(isNow)
	bob.does("message", object{"room": room, "text": "Thank you."}, "message")
	ada.hears("message")

	tr.part("The two have one direct room, whoever asks for it. Who blocks the other ends talk in it, for both.")
	direct := "/rooms/direct/"
	between := text(ada.call(put, direct+bob.id, nil, 201), "name")
	ada.takes(told{event: "membership", about: ada, by: ada})
	bob.takes(isNow)
	bob.call(put, direct+ada.id, nil, 200)
	bob.says("join_room", object{"room": between})
	ada.call(post, "/rooms/"+between+"/messages", object{"text": whispered, "clientId": "ada-1"}, 201)
	bob.hears("message")
	block := "/me/blocks/" + bob.id
	curbed := func() {
		tr.t.Helper()
		ada.takes(told{event: "membership", about: ada}) // she is not in the room
		bob.takes(told{event: "membership", about: ada}, told{event: "membership", about: bob})
	}
	ada.call(put, block, nil, 204)
	curbed()
	bob.asks("message", object{"room": between, "text": "Ada?"}, "error")
	bob.call(put, direct+ada.id, nil, 404)
	ada.call(get, "/me/blocks", nil, 200)
	ada.call(del, block, nil, 204)
	curbed()
	bob.does("message", object{"room": between, "text": "Friends again."}, "message")

	tr.part("Bob's connection breaks while much changes; he comes back with `rev`, and has each changed message once.")
	bob.cut()
	ada.takes(told{event: "left", about: bob})
	for _, text := range []string{"Who cooks, today?", "Who cooks tonight?"} {
		ada.does("edit", object{"room": room, "seq": 1, "text": text}, "changed")
	}
	ada.does("react", object{"room": room, "seq": 4, "key": "❤️"}, "changed")
	ada.does("message", object{"room": room, "text": "Not me."}, "message")
	ada.does("message", object{"room": room, "text": "I bring bread.", "replyTo": 4}, "message")
	ada.does("delete", object{"room": room, "seq": 5}, "changed")
	bob.call(get, "/rooms/mine", nil, 200)
	bob.connect("", bearer(bob.token))
	bob.says("join_room", object{"room": room, "since": 4, "rev": 5})
	ada.takes(told{event: "joined", about: bob})
	bob.says("history", object{"room": room, "changedAfter": 7, "limit": 1})
	bob.does("mark", object{"room": room, "read": 6}, "marked")
	ada.takes(told{event: "marked", about: bob})

	tr.part("Ada removes Bob: he is told, and nothing more of the room reaches him. To him it is as if it was never there.")
	bob.says("join_room", object{"room": between})
	ada.call(del, bobIn, nil, 204)
	bob.takes(isNow)
	ada.takes(isNow, told{event: "left", about: bob})
	ada.does("message", object{"room": room, "text": unseen}, "message")
	bob.asks("history", object{"room": room}, "error")
	bob.asks("join_room", object{"room": room}, "error")
	hidden = bob.call(get, at+"/messages", nil, 404)
	tr.check(fmt.Sprint(hidden) == fmt.Sprint(missing), "a room that Bob was removed from is answered %v, and one that is not there %v", hidden, missing)
	ada.call(post, "/rooms/"+between+"/messages", object{"text": "Sorry."}, 201)
	bob.hears("message")
	bob.call(get, "/rooms/mine", nil, 200)

	tr.part("The last owner cannot leave, and deletes the room.")
	ada.asks("leave_room", object{"room": room}, "error")
	ada.call(del, adaIn, nil, 409)
	ada.call(del, at, nil, 204)
	ada.takes(told{event: "membership", about: ada, by: ada})
	ada.asks("message", object{"room": room, "text": "Anybody?"}, "error")
	missing = ada.call(get, at, nil, 404)
	tr.check(fmt.Sprint(hidden) == fmt.Sprint(missing), "a deleted room is answered %v, and one that is not there %v", missing, hidden)
	ada.call(get, "/rooms/mine", nil, 200)

	tr.part("Both ask whether the server is well: nothing else came for them.")
	for _, a := range []*actor{ada, bob} {
		a.says("healthCheck", object{})
		a.hearsClose(1000)
	}
}
