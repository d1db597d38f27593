package run

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/parley-chat/parley/apps/internal/config"
)

// administerUser asks running servers, one after the other, as an administrator.
func administerUser(ctx context.Context, action string, s config.Settings, u config.User, stdin *os.File, stdout, stderr io.Writer) error {
	if len(u.URLs) == 0 {
		u.URLs = []string{""}
	}
	var servers []*adminClient
	for _, base := range u.URLs {
		c, err := newAdminClient(s, base, true)
		if err != nil {
			return err
		}
		servers = append(servers, c)
	}
	if change, is := userChange(action, u); is {
		return servers[0].print(ctx, http.MethodPatch, userPath(u.ID), change, stdout)
	}
	servers[0].json = u.JSON
	switch action {
	case "list":
		return servers[0].list(ctx, "/admin/users", "users", url.Values{"query": {u.Query}, "limit": {"200"}}, "ID\tEMAIL\tNAME\tROLE\tSTATE\tCREATED", userLine, stdout)
	case "create":
		account := map[string]any{"email": u.ID, "fullName": u.FullName, "role": u.Role, "invite": u.Invite}
		return servers[0].print(ctx, http.MethodPost, "/admin/users", account, stdout)
	case "sessions":
		return servers[0].print(ctx, http.MethodDelete, userPath(u.ID)+"/sessions", nil, stdout)
	case "password":
		return servers[0].print(ctx, http.MethodPost, userPath(u.ID)+"/password", nil, stdout)
	case "show":
		return servers[0].print(ctx, http.MethodGet, userPath(u.ID), nil, stdout)
	case "export":
		return exportUser(ctx, servers, u, stdout)
	case "erase":
		return eraseUser(ctx, servers, s.Program != config.Socket, u, stdin, stdout, stderr)
	}
	return fmt.Errorf("unknown command user %s", action)
}

// userChange is the body of a command that changes an account, and whether action is one.
func userChange(action string, u config.User) (map[string]any, bool) {
	switch action {
	case "disable":
		return map[string]any{"disabled": true}, true
	case "enable":
		return map[string]any{"disabled": false}, true
	case "verify":
		return map[string]any{"verified": !u.Undo}, true
	case "role":
		return map[string]any{"role": u.Role}, true
	}
	return nil, false
}

// userLine is the line of a user in a list.
func userLine(item json.RawMessage) (string, error) {
	var u struct {
		ID, Email, FullName, Role string
		CreatedAt                 time.Time
		VerifiedAt, DisabledAt    time.Time
		Erased                    bool
	}
	err := json.Unmarshal(item, &u)
	state := "waits"
	switch {
	case u.Erased:
		state = "erased"
	case !u.DisabledAt.IsZero():
		state = "disabled"
	case !u.VerifiedAt.IsZero():
		state = "verified"
	}
	return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s", u.ID, u.Email, u.FullName, u.Role, state, u.CreatedAt.Format(time.RFC3339)), err
}

func userPath(id string) string { return "/admin/users/" + url.PathEscape(id) }

// openEnded sends a request whose answer takes as long as it needs, and returns it if it is a good one.
func (c *adminClient) openEnded(ctx context.Context, method, path string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+c.token)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode == http.StatusOK {
		return answer, nil
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	return nil, problemOf(answer.Status, text)
}

// exportUser writes what each server exports.
func exportUser(ctx context.Context, servers []*adminClient, u config.User, stdout io.Writer) (err error) {
	to := stdout
	if u.Output != "" {
		file, err := os.OpenFile(u.Output, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("--output: %w", err)
		}
		to = file
		defer func() {
			err = errors.Join(err, file.Sync(), file.Close())
			if err != nil { // an export that is not whole must not be taken for one
				err = errors.Join(err, os.Remove(u.Output))
			}
		}()
	}
	id := u.ID
	for _, c := range servers {
		answer, err := c.openEnded(ctx, http.MethodGet, userPath(id)+"/export")
		if err != nil {
			return err
		}
		user, err := copyExport(to, answer.Body)
		_ = answer.Body.Close()
		if err != nil {
			return err
		}
		id = user // the next server may know no addresses
	}
	return nil
}

// copyExport copies the lines of an export, and returns whose it is. It is an error if they are not whole.
func copyExport(to io.Writer, from io.Reader) (user string, err error) {
	in, out := bufio.NewReaderSize(from, 64<<10), bufio.NewWriter(to)
	type line struct {
		Type, User, Title string
		Lines             int
	}
	for n := 0; ; n++ {
		text, err := in.ReadBytes('\n')
		if len(text) == 0 || err != nil {
			return "", errors.Join(fmt.Errorf("the export is not whole: it ends after %d lines", n), out.Flush())
		}
		if _, err := out.Write(text); err != nil {
			return "", err
		}
		var l line
		if err := json.Unmarshal(text, &l); err != nil {
			return "", errors.Join(fmt.Errorf("line %d of the export cannot be read: %w", n+1, err), out.Flush())
		}
		switch l.Type {
		case "export":
			user = l.User
		case "error":
			return "", errors.Join(fmt.Errorf("the export is not whole: %s", l.Title), out.Flush())
		case "end":
			if l.Lines != n {
				return "", errors.Join(fmt.Errorf("the export is not whole: it has %d lines, and should have %d", n, l.Lines), out.Flush())
			}
			return user, out.Flush()
		}
	}
}

// erased is what a server says that it has erased.
type erased struct {
	ID      string
	Account *struct {
		Emptied                  bool
		Sessions, Codes, SignUps int
	}
	Mails *struct{ Jobs, Events int }
	Chat  *struct{ Memberships, Messages, Reactions, Blocks int }
}

// eraseUser erases a user at each server. knows says that the first of them knows users.
func eraseUser(ctx context.Context, servers []*adminClient, knows bool, u config.User, stdin *os.File, stdout, stderr io.Writer) error {
	id, who := u.ID, u.ID
	if knows {
		text, err := servers[0].call(ctx, http.MethodGet, userPath(u.ID), nil)
		if err != nil {
			return err
		}
		var account struct {
			ID, FullName, Email string
			Erased              bool
		}
		if err := json.Unmarshal(text, &account); err != nil || account.ID == "" {
			return errors.New("the answer of the server cannot be read")
		}
		id, who = account.ID, fmt.Sprintf("%s <%s> (%s)", account.FullName, account.Email, account.ID)
		if account.Erased {
			who = account.ID + ", whose account was erased before"
		}
	}
	if !u.Yes {
		if err := confirm(stdin, stderr, who, id); err != nil {
			return err
		}
	}
	for _, c := range servers {
		answer, err := c.openEnded(ctx, http.MethodDelete, userPath(id))
		if err != nil {
			return fmt.Errorf("erasing %s was begun, and is not done: %w; run it again by this ID, it goes on", id, err)
		}
		text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
		_ = answer.Body.Close()
		var done erased
		if err == nil {
			err = json.Unmarshal(text, &done)
		}
		if err != nil {
			return fmt.Errorf("erasing %s was begun, and may not be done: the answer cannot be read: %w; run it again by this ID, it goes on", id, err)
		}
		if !u.JSON {
			text = []byte(done.String())
		}
		if _, err := stdout.Write(text); err != nil {
			return err
		}
	}
	return nil
}

func (e *erased) String() string {
	w := &strings.Builder{}
	fmt.Fprintf(w, "Erased %s\n", e.ID)
	if a := e.Account; a != nil {
		emptied := "emptied"
		if !a.Emptied {
			emptied = "was emptied before"
		}
		fmt.Fprintf(w, "  account  %s; %d sessions, %d codes, %d sign-ups removed\n", emptied, a.Sessions, a.Codes, a.SignUps)
	}
	if m := e.Mails; m != nil {
		fmt.Fprintf(w, "  mails    %d on the queue, %d set aside removed\n", m.Jobs, m.Events)
	}
	if c := e.Chat; c != nil {
		fmt.Fprintf(w, "  rooms    %d messages erased, %d reactions taken back, %d memberships and %d blocks ended\n", c.Messages, c.Reactions, c.Memberships, c.Blocks)
	}
	return w.String()
}

// confirm asks whoever sits at the terminal.
func confirm(stdin *os.File, stderr io.Writer, who, id string) error {
	if !isTerminal(stdin) {
		return errors.New("erasing a user cannot be undone: say --yes, or run it at a terminal")
	}
	fmt.Fprintf(stderr, "This erases %s for good.\nType the ID to go on: ", who)
	answer, err := bufio.NewReader(stdin).ReadString('\n')
	if err != nil || strings.TrimSpace(answer) != id {
		return errors.New("nothing was erased: that is not the ID")
	}
	return nil
}

// isTerminal reports whether somebody can be asked. The null device is of the same kind, and nobody sits at it.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}
