package run

import (
	"context"
	"io"

	"github.com/parley-chat/parley/apps/internal/config"
)

// administerWebhooks asks a running server, as an administrator.
func administerWebhooks(ctx context.Context, action string, s config.Settings, w config.Webhook, stdout io.Writer) error {
	c, err := newAdminClient(s, w.URL, w.JSON)
	if err != nil {
		return err
	}
	q := jobQueue{
		path: "/webhooks", jobs: "deliveries", whom: "about", sort: "type", whole: "body", header: "ID\tSTATE\tTYPE\tATTEMPTS\tCREATED\tLAST ERROR",
		state: w.State, of: w.About, id: w.ID, dryRun: w.DryRun, showWhole: w.Body,
		kind: w.Type, failed: w.Error, all: w.All, force: w.Force,
	}
	return q.administer(ctx, c, action, stdout)
}
