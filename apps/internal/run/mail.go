package run

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/parley-chat/parley/adapters/humaapi"
	"github.com/parley-chat/parley/apps/internal/config"
)

// administerMail asks a running server, as an administrator.
func administerMail(ctx context.Context, action string, s config.Settings, m config.Mail, stdout io.Writer) error {
	switch action {
	case "preview":
		return previewMail(s, m.Preview, stdout)
	case "dkim":
		return printRecord(s, stdout)
	}
	c, err := newAdminClient(s, m.URL, m.JSON)
	if err != nil {
		return err
	}
	q := jobQueue{
		path: "/mail", jobs: "jobs", whom: "to", sort: "kind", whole: "data", header: "ID\tSTATE\tKIND\tATTEMPTS\tCREATED\tLAST ERROR",
		state: m.State, of: m.To, id: m.ID, dryRun: m.DryRun, showWhole: m.Data,
		kind: m.Kind, failed: m.Error, all: m.All, force: m.Force,
	}
	return q.administer(ctx, c, action, stdout)
}

// jobQueue is a queue of jobs, as the API has it, and what a command was told.
type jobQueue struct {
	path, jobs        string // of the queue, and the name of its jobs below that and in answers
	whom, sort, whole string // the parameters that choose by whom a job is to or about and by what it is, and show its data
	header            string // of the table

	state, of, kind, failed, id   string
	dryRun, showWhole, all, force bool
}

// administer looks into the queue, and replays and discards dead letters.
func (q jobQueue) administer(ctx context.Context, c *adminClient, action string, stdout io.Writer) error {
	all := q.path + "/" + q.jobs
	one := all + "/" + url.PathEscape(q.id)
	switch action {
	case "list":
		state := q.state
		if state == "any" {
			state = ""
		}
		return c.list(ctx, all, q.jobs, url.Values{"state": {state}, q.whom: {q.of}}, q.header, jobRow, stdout)
	case "show":
		if q.showWhole {
			one += "?" + q.whole + "=true"
		}
		return c.print(ctx, http.MethodGet, one, nil, stdout)
	case "stats":
		return c.print(ctx, http.MethodGet, q.path+"/stats", nil, stdout)
	case "discard":
		switch {
		case q.id != "" && (q.dryRun || q.all || len(q.filter()) > 0):
			return errors.New("an id and a choice of many do not go together: leave out one of them")
		case q.id != "":
			return c.print(ctx, http.MethodDelete, one, nil, stdout)
		case !q.all && len(q.filter()) == 0:
			return errors.New("say which: an id, --" + q.whom + ", --" + q.sort + ", --error, or --all")
		}
		return c.print(ctx, http.MethodPost, all+"/discard", map[string]any{"filter": q.filter(), "dryRun": q.dryRun}, stdout)
	case "replay":
		if q.id != "" {
			if q.dryRun {
				return errors.New("--dry-run is for replaying many: leave out the id")
			}
			if len(q.filter()) > 0 {
				return errors.New("an id and a choice of many do not go together: leave out one of them")
			}
			one += "/replay"
			if q.force {
				one += "?force=true"
			}
			return c.print(ctx, http.MethodPost, one, nil, stdout)
		}
		return c.print(ctx, http.MethodPost, all+"/replay", map[string]any{"filter": q.filter(), "dryRun": q.dryRun, "force": q.force}, stdout)
	}
	return fmt.Errorf("unknown command %s", action)
}

// filter is what chooses many jobs.
func (q jobQueue) filter() map[string]any {
	filter := map[string]any{}
	for name, value := range map[string]string{q.whom: q.of, q.sort: q.kind, "error": q.failed} {
		if value != "" {
			filter[name] = value
		}
	}
	return filter
}

// jobRow is the line of a job. A mail has a kind, a delivery a type.
func jobRow(item json.RawMessage) (string, error) {
	var j struct {
		ID, State, Kind, Type, LastError string
		Attempts                         int
		CreatedAt                        time.Time
	}
	err := json.Unmarshal(item, &j)
	return fmt.Sprintf("%s\t%s\t%s\t%d\t%s\t%s", j.ID, j.State, j.Kind+j.Type, j.Attempts, j.CreatedAt.Format(time.RFC3339), j.LastError), err
}

// newAdminClient asks the server at base, or that of this program.
func newAdminClient(s config.Settings, base string, asJSON bool) (*adminClient, error) {
	tokens := humaapi.AdminTokens(s.AdminToken)
	if len(tokens) == 0 {
		return nil, errors.New("--admin-token (PARLEY_ADMIN_TOKEN) is needed: the token that the server was started with")
	}
	if base == "" {
		if s.AdminListen == config.Off {
			return nil, errors.New("--admin-listen (PARLEY_ADMIN_LISTEN) is off: name the admin address of the server with --url")
		}
		_, port, _ := net.SplitHostPort(s.AdminListen) // config has checked it
		base = s.AdminURL(port, adminOverTLS(s))
	}
	return &adminClient{base: base, token: tokens[0], json: asJSON}, nil
}

type adminClient struct {
	base, token string
	json        bool // what is printed is for programs
}

// call sends a request and returns the body of a good answer. A problem becomes an error.
func (c *adminClient) call(ctx context.Context, method, path string, body any) ([]byte, error) {
	var in io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		in = bytes.NewReader(text)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, in)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+c.token)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 64<<20))
	if err != nil {
		return nil, err
	}
	if answer.StatusCode >= 300 {
		return nil, problemOf(answer.Status, text)
	}
	return text, nil
}

// problemOf is the error that a problem says, which came with a status.
func problemOf(status string, text []byte) error {
	var p struct{ Title, Detail string }
	if json.Unmarshal(text, &p) != nil || p.Title == "" {
		return fmt.Errorf("the server answered %s", status)
	}
	if p.Detail != "" {
		p.Title += ": " + p.Detail
	}
	return errors.New(p.Title)
}

func (c *adminClient) print(ctx context.Context, method, path string, body any, stdout io.Writer) error {
	text, err := c.call(ctx, method, path, body)
	if err != nil {
		return err
	}
	var pretty bytes.Buffer
	if json.Indent(&pretty, text, "", "  ") != nil || pretty.Len() == 0 {
		done := "done"
		if c.json {
			done = "{}"
		}
		_, err = fmt.Fprintln(stdout, done)
		return err
	}
	_, err = fmt.Fprintln(stdout, pretty.String())
	return err
}

// list prints every page of what path lists, which stands under a name in each: a line of a table for each, which row makes, or
// one document.
func (c *adminClient) list(ctx context.Context, path, name string, query url.Values, header string, row func(json.RawMessage) (string, error), stdout io.Writer) error {
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	if !c.json {
		fmt.Fprintln(w, header)
	}
	all := []json.RawMessage{} // [] and not null when there is none
	for {
		for key := range query {
			if query.Get(key) == "" {
				query.Del(key)
			}
		}
		text, err := c.call(ctx, http.MethodGet, path+"?"+query.Encode(), nil)
		if err != nil {
			return err
		}
		var page map[string]json.RawMessage
		var items []json.RawMessage
		var next string
		err = json.Unmarshal(text, &page)
		if err == nil {
			err = json.Unmarshal(page[name], &items)
		}
		if cursor, ok := page["nextCursor"]; ok && err == nil {
			err = json.Unmarshal(cursor, &next)
		}
		for _, item := range items {
			if c.json {
				all = append(all, item)
				continue
			}
			line, failed := row(item)
			err = errors.Join(err, failed)
			fmt.Fprintln(w, line)
		}
		if err != nil {
			return fmt.Errorf("the answer of the server cannot be read: %w", err)
		}
		if next != "" {
			query.Set("cursor", next)
			continue
		}
		if !c.json {
			return w.Flush()
		}
		document, err := json.MarshalIndent(map[string]any{name: all}, "", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(stdout, string(document))
		return err
	}
}

// printRecord prints the DNS record of the key that signs mails.
func printRecord(s config.Settings, stdout io.Writer) error {
	d, err := s.DKIM()
	switch {
	case err != nil:
		return err
	case d == nil:
		return errors.New("mails are not signed: PARLEY_MAIL_DKIM_KEY or PARLEY_MAIL_DKIM_KEY_FILE is not set")
	}
	name, text := d.Record()
	fmt.Fprintf(stdout, "%s. IN TXT", name)    // what cannot be written is seen
	for ; len(text) > 255; text = text[255:] { // RFC 1035 section 3.3: a string has 255 bytes at most
		fmt.Fprintf(stdout, " %q", text[:255])
	}
	_, err = fmt.Fprintf(stdout, " %q\n", text)
	return err
}
