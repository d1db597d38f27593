package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/parley-chat/parley/apps/internal/config"
)

// administerWebhooks asks a running server, as an administrator.
func administerWebhooks(ctx context.Context, action string, s config.Settings, w config.Webhook, stdout io.Writer) error {
	c, err := newAdminClient(s, w.URL, w.JSON)
	if err != nil {
		return err
	}
	state := w.State
	if state == "any" {
		state = ""
	}
	const path = "/webhooks/deliveries"
	switch action {
	case "list":
		return c.list(ctx, path, "deliveries", url.Values{"state": {state}, "about": {w.About}}, "ID\tSTATE\tTYPE\tATTEMPTS\tCREATED\tLAST ERROR", func(item json.RawMessage) (string, error) {
			var d struct {
				ID, State, Type, LastError string
				Attempts                   int
				CreatedAt                  time.Time
			}
			err := json.Unmarshal(item, &d)
			return fmt.Sprintf("%s\t%s\t%s\t%d\t%s\t%s", d.ID, d.State, d.Type, d.Attempts, d.CreatedAt.Format(time.RFC3339), d.LastError), err
		}, stdout)
	case "show":
		one := path + "/" + url.PathEscape(w.ID)
		if w.Body {
			one += "?body=true"
		}
		return c.print(ctx, http.MethodGet, one, nil, stdout)
	case "stats":
		return c.print(ctx, http.MethodGet, "/webhooks/stats", nil, stdout)
	case "discard":
		return c.print(ctx, http.MethodDelete, path+"/"+url.PathEscape(w.ID), nil, stdout)
	case "replay":
		if w.ID != "" {
			if w.DryRun {
				return errors.New("--dry-run is for replaying many: leave out the id")
			}
			return c.print(ctx, http.MethodPost, path+"/"+url.PathEscape(w.ID)+"/replay", nil, stdout)
		}
		filter := map[string]any{}
		if w.About != "" {
			filter["about"] = w.About
		}
		return c.print(ctx, http.MethodPost, path+"/replay", map[string]any{"filter": filter, "dryRun": w.DryRun}, stdout)
	}
	return fmt.Errorf("unknown command webhook %s", action)
}
