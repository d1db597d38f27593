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
	"strconv"

	"github.com/parley-chat/parley/apps/internal/config"
)

// auditLines is how many entries a page has.
const auditLines = 500

// printAudit writes what operators have done, newest first, one JSON text a line.
func printAudit(ctx context.Context, s config.Settings, a config.Audit, stdout io.Writer) error {
	if a.Limit < 0 {
		return fmt.Errorf("--limit: %d is negative", a.Limit)
	}
	server, err := newAdminClient(s, a.URL, true)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(stdout)
	for left, cursor := a.Limit, ""; ; {
		page := auditLines
		if a.Limit > 0 {
			page = min(page, left)
		}
		query := url.Values{"limit": {strconv.Itoa(page)}}
		if cursor != "" {
			query.Set("cursor", cursor)
		}
		text, err := server.call(ctx, http.MethodGet, "/admin/audit?"+query.Encode(), nil)
		if err != nil {
			return errors.Join(err, out.Flush())
		}
		var got struct {
			Entries    []json.RawMessage
			NextCursor string
		}
		if err := json.Unmarshal(text, &got); err != nil {
			return errors.Join(fmt.Errorf("the answer of the server cannot be read: %w", err), out.Flush())
		}
		for _, e := range got.Entries {
			_, _ = out.Write(append(e, '\n')) // an error is the writer's from then on
		}
		left -= len(got.Entries)
		if cursor = got.NextCursor; cursor == "" || a.Limit > 0 && left <= 0 {
			return out.Flush()
		}
	}
}
