package config

import "strings"

// User is what the user commands are told. Not every command uses every field.
type User struct {
	URLs      []string
	ID        string
	Output    string
	Yes, JSON bool
	// Query is what list looks for. FullName, Role and Invite are those of create; Role also that of role.
	Query, FullName, Role string
	Invite                bool
	// Undo asks verify for the contrary.
	Undo bool
}

// userServers are flags of each user command.
type userServers struct {
	URL []string `name:"url" placeholder:"http://HOST:PORT" help:"Admin address of the server. Give it once for each service, that of accounts first, where they run apart. Default: that of this program (admin-listen)."`
}

// userOf are arguments of the commands about one account.
type userOf struct {
	userServers
	ID   string `arg:"" name:"id" help:"ID or e-mail address."`
	JSON bool   `name:"json" help:"Print one JSON document, for programs."`
}

// accountCommands are for programs that keep accounts.
type accountCommands struct {
	List struct {
		userServers
		Query string `arg:"" optional:"" name:"query" help:"What the address or the full name begins with. Default: all users."`
		JSON  bool   `name:"json" help:"Print one JSON document, for programs."`
	} `cmd:"" help:"List users, by age."`
	Create struct {
		userServers
		Email    string `arg:"" name:"email" help:"Address of the user."`
		FullName string `arg:"" name:"name" help:"Full name of the user."`
		Role     string `name:"role" default:"user" enum:"user,admin" help:"What the user may do."`
		Invite   bool   `name:"invite" help:"Mail the user a link by which a password is chosen. Without it the user asks for one, as for a forgotten password."`
		JSON     bool   `name:"json" help:"Print one JSON document, for programs."`
	} `cmd:"" help:"Make an account, without a password and with an address that is not proven."`
	Disable userOf `cmd:"" help:"Shut a user out: sessions and sockets end, mails that wait are forgotten, and the password counts as wrong."`
	Enable  userOf `cmd:"" help:"Let a user who was disabled sign in again."`
	Verify  struct {
		userOf
		Undo bool `name:"undo" help:"Say that the address is not proven: the user is signed out, and must prove it again."`
	} `cmd:"" help:"Say that the address of a user is proven."`
	Role struct {
		userOf
		Role string `arg:"" name:"role" enum:"user,admin" help:"user or admin."`
	} `cmd:"" help:"Change what a user may do. Whoever loses a role is signed out."`
	Password userOf `cmd:"" help:"Mail a user a link by which a new password is chosen. The old one stays good until then."`
	Sessions userOf `cmd:"" help:"End every session of a user. Open sockets close."`
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

// accountUserCommands are all user commands of a program that keeps accounts.
type accountUserCommands struct {
	accountCommands
	userCommands
}

// command returns what the command of this name was told, and whether it is one of these.
func (a *accountCommands) command(name string) (User, bool) {
	of := func(u userOf) User { return User{URLs: u.URL, ID: u.ID, JSON: u.JSON} }
	switch name {
	case "list":
		return User{URLs: a.List.URL, Query: a.List.Query, JSON: a.List.JSON}, true
	case "create":
		c := a.Create
		return User{URLs: c.URL, ID: c.Email, FullName: c.FullName, Role: c.Role, Invite: c.Invite, JSON: c.JSON}, true
	case "disable":
		return of(a.Disable), true
	case "enable":
		return of(a.Enable), true
	case "verify":
		u := of(a.Verify.userOf)
		u.Undo = a.Verify.Undo
		return u, true
	case "role":
		u := of(a.Role.userOf)
		u.Role = a.Role.Role
		return u, true
	case "password":
		return of(a.Password), true
	case "sessions":
		return of(a.Sessions), true
	}
	return User{}, false
}

// userCommand returns what a user command was told, and whether name is one.
func userCommand(name string, commands any) (User, bool) {
	of, is := strings.CutPrefix(name, "user ")
	if !is {
		return User{}, false
	}
	switch all := commands.(type) {
	case authCommands:
		if u, is := all.User.accountCommands.command(of); is {
			return u, true
		}
		return all.User.userCommands.command(of), true
	case socketCommands:
		return all.User.command(of), true
	case parleyCommands:
		if u, is := all.User.accountCommands.command(of); is {
			return u, true
		}
		return all.User.userCommands.command(of), true
	}
	return User{}, false
}
