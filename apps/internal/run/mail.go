package run

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/parley-chat/parley/apps/internal/config"
)

// administerMail asks a running server, as an administrator.
func administerMail(ctx context.Context, action string, s config.Settings, m config.Mail, stdout io.Writer) error {
	if s.AdminToken == "" {
		return errors.New("--admin-token (PARLEY_ADMIN_TOKEN) is needed: the token that the server was started with")
	}
	base := m.URL
	if base == "" && s.Program == config.Parley {
		base = s.PublicURL // that of a mailer is another program's
	}
	if base == "" {
		base = localURL(s)
	}
	c := &adminClient{base: base, token: s.AdminToken, json: m.JSON}
	state := m.State
	if state == "any" {
		state = ""
	}
	switch action {
	case "list":
		return c.list(ctx, url.Values{"state": {state}, "to": {m.To}}, stdout)
	case "show":
		path := "/mail/jobs/" + url.PathEscape(m.ID)
		if m.Data {
			path += "?data=true"
		}
		return c.print(ctx, http.MethodGet, path, nil, stdout)
	case "stats":
		return c.print(ctx, http.MethodGet, "/mail/stats", nil, stdout)
	case "discard":
		return c.print(ctx, http.MethodDelete, "/mail/jobs/"+url.PathEscape(m.ID), nil, stdout)
	case "replay":
		if m.ID != "" {
			if m.DryRun {
				return errors.New("--dry-run is for replaying many: leave out the id")
			}
			return c.print(ctx, http.MethodPost, "/mail/jobs/"+url.PathEscape(m.ID)+"/replay", nil, stdout)
		}
		filter := map[string]any{}
		if m.To != "" {
			filter["to"] = m.To
		}
		return c.print(ctx, http.MethodPost, "/mail/jobs/replay", map[string]any{"filter": filter, "dryRun": m.DryRun}, stdout)
	}
	return fmt.Errorf("unknown command mail %s", action)
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
		var p struct{ Title, Detail string }
		if json.Unmarshal(text, &p) != nil || p.Title == "" {
			return nil, fmt.Errorf("the server answered %s", answer.Status)
		}
		if p.Detail != "" {
			p.Title += ": " + p.Detail
		}
		return nil, errors.New(p.Title)
	}
	return text, nil
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

func (c *adminClient) list(ctx context.Context, query url.Values, stdout io.Writer) error {
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	if !c.json {
		fmt.Fprintln(w, "ID\tSTATE\tKIND\tATTEMPTS\tCREATED\tLAST ERROR")
	}
	all := []json.RawMessage{} // [] and not null when there is none
	for {
		for key := range query {
			if query.Get(key) == "" {
				query.Del(key)
			}
		}
		text, err := c.call(ctx, http.MethodGet, "/mail/jobs?"+query.Encode(), nil)
		if err != nil {
			return err
		}
		var page struct {
			Jobs       []json.RawMessage
			NextCursor string
		}
		if err := json.Unmarshal(text, &page); err != nil {
			return fmt.Errorf("the answer of the server cannot be read: %w", err)
		}
		if c.json {
			all = append(all, page.Jobs...)
			page.Jobs = nil
		}
		for _, job := range page.Jobs {
			var j struct {
				ID, State, Kind, LastError string
				Attempts                   int
				CreatedAt                  time.Time
			}
			if err := json.Unmarshal(job, &j); err != nil {
				return fmt.Errorf("the answer of the server cannot be read: %w", err)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", j.ID, j.State, j.Kind, j.Attempts, j.CreatedAt.Format(time.RFC3339), j.LastError)
		}
		if page.NextCursor != "" {
			query.Set("cursor", page.NextCursor)
			continue
		}
		if !c.json {
			return w.Flush()
		}
		document, err := json.MarshalIndent(map[string]any{"jobs": all}, "", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(stdout, string(document))
		return err
	}
}
