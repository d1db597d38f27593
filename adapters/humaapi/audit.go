package humaapi

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/parley-chat/parley/core/audit"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/settings"
)

// errAuditAdminOff says that there is no token with which the audit log could be read.
var errAuditAdminOff = fault.New(fault.Forbidden, "audit_admin_disabled", "the audit log is switched off")

// AuditConfig is what [RegisterAudit] needs.
type AuditConfig struct {
	// Service reads the log. Required.
	Service *audit.Service
	// Token and CurrentToken are as in [MailConfig].
	Token        string
	CurrentToken func() string
}

type auditEntry struct {
	ID      string          `json:"id" example:"01kax9d8w2n4e6r8t0y2v4b6m8"`
	At      time.Time       `json:"at" doc:"When the action began."`
	Actor   string          `json:"actor" doc:"Who: token, the place of the token among those that there were, and the beginning of its hash." example:"token:1:3f2a9c1d"`
	Action  string          `json:"action" doc:"The ID of the operation." example:"change-user"`
	Target  string          `json:"target,omitempty" doc:"The ID of what it was done to." example:"01kax9d8w2n4e6r8t0y2v4b6m8"`
	Detail  json.RawMessage `json:"detail,omitempty" doc:"What was asked for, without names, addresses and texts."`
	Network string          `json:"network,omitempty" doc:"Where it came from: 24 bits of an IPv4 address, 48 of an IPv6 address." example:"192.0.2.0/24"`
	Outcome string          `json:"outcome,omitempty" doc:"done, or refused or failed with the status of the answer. Missing while the action goes on, and for ever if the program ended before." example:"done"`
}

type auditPage struct {
	Entries    []auditEntry `json:"entries" nullable:"false" doc:"Newest first."`
	NextCursor string       `json:"nextCursor,omitempty" doc:"For the next page; missing on the last one."`
}

type (
	auditInput struct {
		Cursor string `query:"cursor" maxLength:"200" doc:"nextCursor of the page before."`
		Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"50" doc:"Entries a page."`
	}
	auditOutput struct{ Body auditPage }
)

// RegisterAudit puts the reading of the audit log onto a. What is recorded there is chosen by Config.Audit.
func RegisterAudit(a *API, cfg AuditConfig) error {
	c := settings.Of("humaapi: AuditConfig")
	c.Argument("the API", a == nil)
	c.Require("Service", cfg.Service == nil)
	current := adminTokens(c, cfg.Token, cfg.CurrentToken)
	if err := c.Err(); err != nil {
		return err
	}
	register(a, a.adminOperation("audit", "What administrators have done.", current, errAuditAdminOff)(huma.Operation{
		OperationID: "list-audit", Method: http.MethodGet, Path: "/admin/audit",
		Summary:   "A page of what administrators have done",
		Responses: answers(http.StatusOK, "The entries."),
	}), adminFailures(errAuditAdminOff), func(ctx context.Context, in *auditInput) (*auditOutput, error) {
		entries, more, err := cfg.Service.List(ctx, in.Cursor, in.Limit)
		if err != nil {
			return nil, err
		}
		out := &auditOutput{Body: auditPage{Entries: []auditEntry{}}}
		for _, e := range entries {
			one := auditEntry{ID: e.ID, At: e.At, Actor: e.Actor, Action: e.Action, Target: e.Target, Network: e.Network, Outcome: e.Outcome}
			if json.Valid([]byte(e.Detail)) {
				one.Detail = json.RawMessage(e.Detail)
			}
			out.Body.Entries = append(out.Body.Entries, one)
		}
		if more {
			out.Body.NextCursor = entries[len(entries)-1].ID
		}
		return out, nil
	})
	return nil
}

// spoken are operations by which an application speaks in rooms. What they do is stored with its author and its time, and there may be
// thousands a second: they are not recorded.
var spoken = []string{"admin-send-message", "admin-add-reaction", "admin-remove-reaction"}

// recorded reports whether an operation is one of administrators that changes something.
func (a *API) recorded(op *huma.Operation) bool {
	ofAdmin := slices.ContainsFunc(op.Security, func(schemes map[string][]string) bool { _, is := schemes[schemeAdmin]; return is })
	return a.audit != nil && ofAdmin && op.Method != http.MethodGet && !slices.Contains(spoken, op.OperationID)
}

type (
	actorKey  struct{}
	madeIDKey struct{}
)

// madeID is the ID that an entry names as that of what is made.
func madeID(ctx context.Context) string {
	if id, ok := ctx.Value(madeIDKey{}).(string); ok {
		return id
	}
	return event.NewID()
}

// record is middleware: it records an action before it is taken, and how it has ended. An action that cannot be recorded is refused.
func (a *API) record(ctx huma.Context, next func(huma.Context)) {
	op := ctx.Operation()
	actor, _ := ctx.Context().Value(actorKey{}).(string)
	e := audit.Entry{Actor: actor, Action: op.OperationID, Target: a.target(ctx), Network: auth.NetworkOf(from(ctx.Context()).Address)}
	if op.OperationID == "create-user" {
		e.Target = event.NewID()
		ctx = huma.WithValue(ctx, madeIDKey{}, e.Target)
	}
	body := ctx.BodyReader()
	if body != nil && op.RequestBody != nil {
		data, err := io.ReadAll(body) // requireJSON has read and bounded it
		if err != nil {
			refuse(ctx, bodyFailure(err))
			return
		}
		e.Detail = detailOf(data)
		ctx = &readContext{humaContext: ctx, body: bytes.NewReader(data)}
	}
	end, err := a.audit.Begin(ctx.Context(), e)
	if err != nil {
		a.note(ctx.Context(), op.OperationID, err)
		refuse(ctx, err)
		return
	}
	outcome := "failed 500" // if next panics
	defer func() { end(outcome) }()
	next(ctx)
	outcome = outcomeOf(ctx.Status())
}

// outcomeOf says how an action ended that was answered with this status.
func outcomeOf(status int) string {
	switch {
	case status >= http.StatusInternalServerError:
		return "failed " + strconv.Itoa(status)
	case status >= http.StatusBadRequest:
		return "refused " + strconv.Itoa(status)
	}
	return "done"
}

// target is what an action is done to: the values in the path, in their order. The address of a user becomes the ID; another value that may be
// an address is left out, unless it is the name of a room.
func (a *API) target(ctx huma.Context) string {
	var parts []string
	for part := range strings.SplitSeq(ctx.Operation().Path, "/") {
		name, is := strings.CutPrefix(part, "{")
		if !is {
			continue
		}
		name = strings.TrimSuffix(name, "}")
		value := ctx.Param(name)
		if strings.Contains(value, "@") && name != "room" {
			if value = ""; a.userOf != nil && strings.HasPrefix(ctx.Operation().Path, "/admin/users/") {
				value = a.userOf(ctx.Context(), ctx.Param(name))
			}
		}
		parts = append(parts, value)
	}
	return strings.Join(parts, "/")
}

// details are properties of bodies that an entry repeats, and the texts that they may have: they name nobody.
var details = map[string][]string{
	"disabled": nil, "verified": nil, "invite": nil, "dryRun": nil,
	"role": {"user", "admin", "owner", "moderator", "member", "reader"}, "kind": {"public", "private"},
}

// detailOf is what an entry says of a body.
func detailOf(body []byte) string {
	var all map[string]any
	if json.Unmarshal(body, &all) != nil {
		return ""
	}
	said := map[string]any{}
	for name, texts := range details {
		switch v := all[name].(type) {
		case bool:
			said[name] = v
		case string:
			if slices.Contains(texts, v) {
				said[name] = v
			}
		}
	}
	if len(said) == 0 {
		return ""
	}
	text, err := json.Marshal(said) // sorted by name
	if err != nil {
		return ""
	}
	return string(text)
}
