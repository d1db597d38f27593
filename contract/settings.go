package contract

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

const (
	settingsPut    = "Put stores the settings of a user durably, in the place of those before."
	settingsOf     = "Of returns the settings of these users that are stored."
	settingsNone   = "A user without any is not among them."
	settingsRemove = "Remove removes the settings of a user durably."
	settingsAbsent = "To remove what is not there is no error."
)

// Settings is the suite of chat.Settings.
func Settings() []Case[chat.Settings] {
	return suite("Settings", []promise[chat.Settings]{
		{"what is put is kept", settingsPut + " " + settingsOf + " " + settingsNone, settingsKept},
		{"the last ones count", settingsPut, settingsLast},
		{"concurrent calls store one of them", "It may be called from many goroutines. " + settingsPut, settingsRace},
		{"what is removed is gone", settingsRemove, settingsRemoved},
		{"what is not there can be removed", settingsAbsent, settingsNotThere},
		{"many are asked about at once", settingsOf + " " + settingsNone, settingsMany},
		{"users are exact", sameUsers, settingsExact},
		{"long names are kept", settingsPut + " " + sameUsers, settingsLong},
		{"a context that has ended is an error", settingsPut, settingsContext},
	})
}

var (
	hidesRead = chat.UserSettings{HidesRead: true}
	setBack   chat.UserSettings // what holds for those who have set nothing, too
)

// set is settings by their users.
type set map[user.ID]chat.UserSettings

// wantSet puts settings.
func wantSet(ctx context.Context, p chat.Settings, all set) error {
	for id, s := range all {
		if err := p.Put(ctx, id, s); err != nil {
			return during(fmt.Sprintf("Put(%q)", id), err)
		}
	}
	return nil
}

// wantSettings wants these to be stored, of those who are asked about.
func wantSettings(ctx context.Context, p chat.Settings, want set, ids ...user.ID) error {
	got, err := p.Of(ctx, ids...)
	if err == nil && !maps.Equal(got, want) {
		err = fmt.Errorf("there are %v, want %v", got, map[user.ID]chat.UserSettings(want))
	}
	return during("Of", err)
}

func settingsKept(ctx context.Context, p chat.Settings) error {
	all := set{"user-1": hidesRead, "user-2": setBack}
	return first(
		func() error { return wantSettings(ctx, p, set{}, "user-1", "user-2") },
		func() error { return wantSet(ctx, p, all) },
		func() error { return wantSettings(ctx, p, all, "user-1", "user-2", "user-3") },
		func() error { return wantSettings(ctx, p, set{"user-1": hidesRead}, "user-1") },
		func() error { return wantSettings(ctx, p, set{"user-2": setBack}, "user-3", "user-2") },
		func() error { return wantSettings(ctx, p, set{}) },
	)
}

func settingsLast(ctx context.Context, p chat.Settings) error {
	return first(
		func() error { return wantSet(ctx, p, set{"user-1": hidesRead, "user-2": hidesRead}) },
		func() error { return wantSet(ctx, p, set{"user-1": setBack}) },
		func() error {
			return wantSettings(ctx, p, set{"user-1": setBack, "user-2": hidesRead}, "user-1", "user-2")
		},
		func() error { return wantSet(ctx, p, set{"user-1": hidesRead}) },
		func() error { return wantSet(ctx, p, set{"user-1": hidesRead}) },
		func() error { return wantSettings(ctx, p, set{"user-1": hidesRead}, "user-1") },
	)
}

func settingsRace(ctx context.Context, p chat.Settings) error {
	const n = 8
	asked, want := make([]user.ID, n), set{}
	for i := range n {
		asked[i] = user.ID(fmt.Sprintf("other-%d", i))
		want[asked[i]] = chat.UserSettings{HidesRead: i%2 == 0}
	}
	return first(
		func() error {
			return allTogether(n, func(i int) error {
				mine := want[asked[i]]
				return then(wantSet(ctx, p, set{asked[i]: mine}), func() error { return wantSet(ctx, p, set{"user-1": mine}) })
			})
		},
		func() error { return wantSettings(ctx, p, want, asked...) },
		func() error {
			got, err := p.Of(ctx, "user-1")
			if err == nil && len(got) != 1 {
				err = fmt.Errorf("%d concurrent calls have stored %v", n, got)
			}
			return during("Of", err)
		},
	)
}

func settingsRemoved(ctx context.Context, p chat.Settings) error {
	return first(
		func() error { return wantSet(ctx, p, set{"user-1": hidesRead, "user-2": hidesRead}) },
		func() error { return during("Remove", p.Remove(ctx, "user-1")) },
		func() error { return wantSettings(ctx, p, set{"user-2": hidesRead}, "user-1", "user-2") },
		func() error { return wantSet(ctx, p, set{"user-1": setBack}) },
		func() error { return wantSettings(ctx, p, set{"user-1": setBack}, "user-1") },
	)
}

func settingsNotThere(ctx context.Context, p chat.Settings) error {
	return first(
		func() error { return during("Remove", p.Remove(ctx, "user-1")) },
		func() error { return wantSet(ctx, p, set{"user-2": hidesRead}) },
		func() error { return during("Remove", p.Remove(ctx, "user-1")) },
		func() error { return wantSettings(ctx, p, set{"user-2": hidesRead}, "user-1", "user-2") },
	)
}

func settingsMany(ctx context.Context, p chat.Settings) error {
	const n = 250
	asked, want := make([]user.ID, n), set{}
	for i := range n {
		asked[i] = user.ID(fmt.Sprintf("user-%d", i))
		if i%30 == 11 || i == n-1 {
			want[asked[i]] = chat.UserSettings{HidesRead: i%4 != 1}
		}
	}
	return first(
		func() error { return wantSet(ctx, p, want) },
		func() error { return wantSet(ctx, p, set{"nobody": hidesRead}) },
		func() error { return wantSettings(ctx, p, want, asked...) },
		func() error { return wantSettings(ctx, p, want, append(asked, asked...)...) },
	)
}

func settingsExact(ctx context.Context, p chat.Settings) error {
	want := set{}
	var asked []user.ID
	for i, name := range names {
		asked = append(asked, user.ID(name))
		if i%2 == 0 {
			want[user.ID(name)] = chat.UserSettings{HidesRead: i%4 == 0}
		}
	}
	if err := wantSet(ctx, p, want); err != nil {
		return err
	}
	for i, id := range asked {
		one := set{}
		if i%2 == 0 {
			one[id] = want[id]
		}
		if err := during(fmt.Sprintf("%q", id), wantSettings(ctx, p, one, id)); err != nil {
			return err
		}
	}
	return first(
		func() error { return wantSettings(ctx, p, want, asked...) },
		func() error { return p.Remove(ctx, asked[1]) }, // not the one that looks like it
		func() error { return wantSettings(ctx, p, want, asked...) },
	)
}

func settingsLong(ctx context.Context, p chat.Settings) error {
	longest, other := user.ID(long(chat.MaxAuthorID)), user.ID(long(chat.MaxAuthorID-1)+"x")
	all := set{longest: hidesRead, other: setBack}
	return first(
		func() error { return wantSet(ctx, p, all) },
		func() error { return wantSettings(ctx, p, all, longest, other, longest[:len(longest)-1]) },
	)
}

func settingsContext(ctx context.Context, p chat.Settings) error {
	return first(
		func() error { return wantSet(ctx, p, set{"user-1": hidesRead}) },
		func() error {
			gone := ended(ctx)
			for name, do := range map[string]func() error{
				"Put":    func() error { return p.Put(gone, "user-2", hidesRead) },
				"Of":     func() error { return second(p.Of(gone, "user-1")) },
				"Remove": func() error { return p.Remove(gone, "user-1") },
			} {
				if do() == nil {
					return errors.New(name + " succeeded although its context had ended")
				}
			}
			return nil
		},
	)
}
