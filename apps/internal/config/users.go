package config

import "strings"

// User is what the user commands are told. Not every command uses every field.
type User struct {
	URLs      []string
	ID        string
	Output    string
	Yes, JSON bool
}

// userServers are flags of each user command.
type userServers struct {
	URL []string `name:"url" placeholder:"http://HOST:PORT" help:"Admin address of the server. Give it once for each service, that of accounts first, where they run apart. Default: that of this program (admin-listen)."`
}

type userCommands struct {
	Show struct {
		userServers
		ID string `arg:"" name:"id" help:"ID or e-mail address."`
	} `cmd:"" help:"Show the account of a user."`
	Export struct {
		userServers
		ID     string `arg:"" name:"id" help:"ID or e-mail address."`
		Output string `name:"output" placeholder:"FILE" help:"File to write to, which must not be there. Default: the standard output."`
	} `cmd:"" help:"Export what is kept of a user, as JSON texts, one a line. An export whose last line has not the type end is not whole, and the exit code is 1 then."`
	Erase struct {
		userServers
		ID   string `arg:"" name:"id" help:"ID or e-mail address."`
		Yes  bool   `name:"yes" help:"Do not ask. Without a terminal it is needed."`
		JSON bool   `name:"json" help:"Print one JSON document a server, for programs."`
	} `cmd:"" help:"Erase a user for good: account, sessions, codes, mails, memberships, reactions, and what their messages say. If it ends before, run it again: it goes on."`
}

// command returns what the user command of this name was told.
func (u *userCommands) command(name string) User {
	switch name {
	case "show":
		return User{URLs: u.Show.URL, ID: u.Show.ID}
	case "export":
		return User{URLs: u.Export.URL, ID: u.Export.ID, Output: u.Export.Output}
	}
	return User{URLs: u.Erase.URL, ID: u.Erase.ID, Yes: u.Erase.Yes, JSON: u.Erase.JSON}
}

// userCommand returns what a user command was told, and whether name is one.
func userCommand(name string, commands any) (User, bool) {
	of, is := strings.CutPrefix(name, "user ")
	if !is {
		return User{}, false
	}
	switch all := commands.(type) {
	case authCommands:
		return all.User.command(of), true
	case socketCommands:
		return all.User.command(of), true
	case parleyCommands:
		return all.User.command(of), true
	}
	return User{}, false
}
