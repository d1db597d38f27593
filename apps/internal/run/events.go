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

// administerEvents asks a running server, as an administrator.
func administerEvents(ctx context.Context, action string, s config.Settings, e config.Events, stdout io.Writer) error {
	c, err := newAdminClient(s, e.URL, e.JSON)
	if err != nil {
		return err
	}
	const path = "/events/aside"
	filter := map[string]string{}
	for name, value := range map[string]string{"topic": e.Topic, "type": e.Type, "key": e.Key} {
		if value != "" {
			filter[name] = value
		}
	}
	switch action {
	case "list":
		query := url.Values{}
		for name, value := range filter {
			query.Set(name, value)
		}
		return c.list(ctx, path, "events", query, "ID\tTOPIC\tTYPE\tKEY\tTIME\tREASON", func(item json.RawMessage) (string, error) {
			var e struct {
				ID, Topic, Type, Key, Reason string
				Time                         time.Time
			}
			err := json.Unmarshal(item, &e)
			return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s", e.ID, e.Topic, e.Type, e.Key, e.Time.Format(time.RFC3339), e.Reason), err
		}, stdout)
	case "show":
		one := path + "/" + url.PathEscape(e.ID)
		if e.Data {
			one += "?data=true"
		}
		return c.print(ctx, http.MethodGet, one, nil, stdout)
	case "discard":
		return c.print(ctx, http.MethodDelete, path+"/"+url.PathEscape(e.ID), nil, stdout)
	case "replay":
		if e.ID == "" {
			return c.print(ctx, http.MethodPost, path+"/replay", map[string]any{"filter": filter, "dryRun": e.DryRun}, stdout)
		}
		if e.DryRun || len(filter) > 0 {
			return errors.New("--dry-run, --topic, --type and --key are for replaying many: leave out the id")
		}
		return c.print(ctx, http.MethodPost, path+"/"+url.PathEscape(e.ID)+"/replay", nil, stdout)
	}
	return fmt.Errorf("unknown command events %s", action)
}
