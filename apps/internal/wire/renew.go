package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
)

// renewAt asks the auth service, which has the codes, for the data of a mail that is replayed. The
// service is where its keys are.
func renewAt(s config.Settings) func(context.Context, mail.Job) ([]byte, error) {
	return func(ctx context.Context, j mail.Job) ([]byte, error) {
		data, err := renew(ctx, s, j)
		if err != nil {
			return nil, fault.Wrap(fault.Unavailable, fmt.Errorf("asking the auth service for a fresh code: %w", err))
		}
		return data, nil
	}
}

func renew(ctx context.Context, s config.Settings, j mail.Job) ([]byte, error) {
	at, err := url.Parse(s.JWKSURL)
	if err != nil {
		return nil, err
	}
	at.Path, at.RawQuery = strings.TrimSuffix(at.Path, "/.well-known/jwks.json")+"/auth/mail/renew", ""
	body, err := json.Marshal(map[string]any{"kind": j.Kind, "data": j.Data})
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, at.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+s.AdminToken)
	r.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %s", answer.Status)
	}
	var out struct{ Data []byte }
	if err := json.Unmarshal(text, &out); err != nil {
		return nil, fmt.Errorf("its answer cannot be read: %w", err)
	}
	return out.Data, nil
}
