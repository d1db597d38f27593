package humaapi

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/settings"
	"github.com/parley-chat/parley/core/user"
)

// errMailAdminOff says that there is no token with which the mails could be administered.
var errMailAdminOff = fault.New(fault.Forbidden, "mail_admin_disabled", "the administration of mails is switched off")

// errAdminOff says that there is no token which opens what administrators alone may see.
var errAdminOff = fault.New(fault.Forbidden, "admin_disabled", "what is for administrators is switched off")

// MinAdminToken is how many characters each token of administrators has at least.
const MinAdminToken = 16

// MailConfig is what [RegisterMail] needs.
type MailConfig struct {
	// Service looks into the queue, replays and discards. Required.
	Service *mail.DeadLetterService
	// Token is what administrators send as bearer, at least [MinAdminToken] characters. There may be several, between commas or on lines of their
	// own, so that they can be changed one after the other. Without one every call answers 403, and says how to change that.
	Token string
	// CurrentToken, if set, is asked for the token at each call instead, so that it can change while
	// the program runs. It must not block. Where one of them is too short, nothing is opened.
	CurrentToken func() string
}

// adminTokens returns what is asked for the token. It refuses one that can be guessed.
func adminTokens(c *settings.Check, token string, current func() string) func() string {
	if current != nil {
		return current
	}
	if len(AdminTokens(token)) > 0 && !longEnough(AdminTokens(token)) {
		c.Refuse("Token", "has one with fewer than %d characters", MinAdminToken)
	}
	return func() string { return token }
}

type job struct {
	ID    string `json:"id" example:"01kax9d8w2n4e6r8t0y2v4b6m8"`
	Key   string `json:"key" doc:"The ID of the event that asked for the mail."`
	Kind  string `json:"kind" doc:"The template's name." example:"verification"`
	State string `json:"state" enum:"ready,running,sent,dead" example:"dead"`
	To    string `json:"to" example:"ada@example.com"`
	Name  string `json:"name,omitempty" example:"Ada Lovelace"`

	Attempts    int       `json:"attempts" doc:"Attempts since the job was enqueued or replayed." example:"3"`
	RunAt       time.Time `json:"runAt" doc:"The earliest time of the next attempt."`
	LeasedUntil time.Time `json:"leasedUntil,omitzero" required:"false" doc:"When a running job's lease ends."`
	LastError   string    `json:"lastError,omitempty" doc:"Why the last attempt failed."`

	DeferredSince time.Time `json:"deferredSince,omitzero" required:"false" doc:"When a server first put the mail off; what is put off is no attempt."`

	Replays int       `json:"replays" doc:"How often it was replayed; after 5 times a replay has to be forced." example:"0"`
	History []attempt `json:"history,omitempty" doc:"What became of the last attempts, at most 20, the oldest first."`

	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`

	Data json.RawMessage `json:"data,omitempty" doc:"What the template is rendered with: it holds codes. Only if asked for."`
}

// attempt is what became of an attempt at a job.
type attempt struct {
	Number int       `json:"number" doc:"Which of the attempts since the job was enqueued or replayed; what did not count has the number of the next one." example:"1"`
	At     time.Time `json:"at,omitzero" required:"false" doc:"When it ended; missing if nobody knows."`
	Error  string    `json:"error,omitempty" doc:"Why it failed; missing if it did not."`
}

func attemptsOf(j mail.Job) []attempt {
	all := make([]attempt, len(j.History))
	for i, a := range j.History {
		all[i] = attempt(a)
	}
	return all
}

type jobPage struct {
	Jobs       []job  `json:"jobs" nullable:"false" doc:"Ascending by ID."`
	NextCursor string `json:"nextCursor,omitempty" doc:"For the next page; missing on the last one."`
}

type mailFilter struct {
	To    string `json:"to,omitempty" doc:"Only mails to this address." example:"ada@example.com"`
	Kind  string `json:"kind,omitempty" maxLength:"64" doc:"Only mails of this kind." example:"verification"`
	Error string `json:"error,omitempty" maxLength:"500" doc:"Only mails whose last error contains this, in whatever letter case."`
	Limit int    `json:"limit,omitempty" minimum:"0" maximum:"1000" doc:"At most so many; 0 is all of them."`
}

// choice is which dead letters the filter chooses.
func (f mailFilter) choice(dryRun, force bool) (mail.Choice, error) {
	to, err := recipient(f.To, "body.filter.to")
	return mail.Choice{To: to, Kind: mail.Kind(f.Kind), Error: f.Error, Limit: f.Limit, DryRun: dryRun, Force: force}, err
}

type replayRequest struct {
	Filter mailFilter `json:"filter,omitempty" doc:"Which dead letters; without it any."`
	DryRun bool       `json:"dryRun,omitempty" doc:"Only say which."`
	Force  bool       `json:"force,omitempty" doc:"Also those that were replayed 5 times."`
}

type replayed struct {
	Jobs      []string `json:"jobs" nullable:"false" doc:"The IDs of the jobs that are, or would be, replayed."`
	Refused   []string `json:"refused" nullable:"false" doc:"The IDs of those that were replayed 5 times, and are left alone unless forced."`
	NotNeeded []string `json:"notNeeded" nullable:"false" doc:"The IDs of those that nobody needs any more, since an address is proved by now, say; they are left alone. A dry run does not find them."`
	DryRun    bool     `json:"dryRun"`
}

type discardRequest struct {
	Filter mailFilter `json:"filter" doc:"Which dead letters; an empty one is all of them."`
	DryRun bool       `json:"dryRun,omitempty" doc:"Only say which."`
}

type discardedJobs struct {
	Jobs   []string `json:"jobs" nullable:"false" doc:"The IDs of the jobs that are, or would be, removed."`
	DryRun bool     `json:"dryRun"`
}

type stats struct {
	Ready   int `json:"ready" doc:"Waiting for their time."`
	Running int `json:"running" doc:"On their way."`
	Sent    int `json:"sent" doc:"Done, and not yet forgotten."`
	Dead    int `json:"dead" doc:"Given up; a person decides."`
}

type (
	listInput struct {
		State  string `query:"state" enum:"ready,running,sent,dead" doc:"Only jobs in this state."`
		To     string `query:"to" doc:"Only mails to this address." example:"ada@example.com"`
		Cursor string `query:"cursor" maxLength:"200" doc:"nextCursor of the page before."`
		Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"50" doc:"Jobs a page."`
		Data   bool   `query:"data" doc:"Show the data too."`
	}
	getInput struct {
		ID   string `path:"id" maxLength:"200" doc:"The job's ID."`
		Data bool   `query:"data" doc:"Show the data too."`
	}
	jobInput struct {
		ID string `path:"id" maxLength:"200" doc:"The job's ID."`
	}
	replayJobInput struct {
		ID    string `path:"id" maxLength:"200" doc:"The job's ID."`
		Force bool   `query:"force" doc:"Also if it was replayed 5 times."`
	}
	replayInput   struct{ Body replayRequest }
	discardInput  struct{ Body discardRequest }
	discardOutput struct{ Body discardedJobs }
	listOutput    struct{ Body jobPage }
	jobOutput     struct{ Body job }
	replayOutput  struct{ Body replayed }
	statsOutput   struct{ Body stats }
)

func jobOf(j mail.Job, data bool) job {
	out := job{
		ID: j.ID, Key: j.Key, Kind: string(j.Kind), State: string(j.State), To: string(j.To), Name: j.Name,
		Attempts: j.Attempts, RunAt: j.RunAt, LeasedUntil: j.LeasedUntil, LastError: j.LastError,
		DeferredSince: j.DeferredSince, Replays: j.Replays, History: attemptsOf(j),
		CreatedAt: j.CreatedAt, UpdatedAt: j.UpdatedAt,
	}
	if data {
		out.Data = readable(j.Data)
	}
	return out
}

// readable is data as JSON; as a string where it is none, which may be why nobody could handle it.
func readable(data []byte) json.RawMessage {
	if len(data) > 0 && !json.Valid(data) {
		data, _ = json.Marshal(string(data)) // a string always marshals
	}
	return data
}

// RegisterMail puts the administration of mails onto a: looking into the queue, and replaying
// or discarding dead letters.
func RegisterMail(a *API, cfg MailConfig) error {
	c := settings.Of("humaapi: MailConfig")
	c.Argument("the API", a == nil)
	c.Require("Service", cfg.Service == nil)
	current := adminTokens(c, cfg.Token, cfg.CurrentToken)
	if err := c.Err(); err != nil {
		return err
	}
	operation := a.mailOperation(current)
	registerJobs(a, cfg, operation)
	registerReplays(a, cfg, operation)
	return nil
}

// mailOperation completes operations about mails.
func (a *API) mailOperation(current func() string) func(huma.Operation) huma.Operation {
	return a.adminOperation("mail", "The mail queue and its dead letters, for administrators.", current, errMailAdminOff)
}

// adminOperation returns what completes the operations of one tag, which only the token of administrators may call. off is their answer while there
// is no token.
func (a *API) adminOperation(tag, about string, current func() string, off *fault.Error) func(huma.Operation) huma.Operation {
	a.scheme(schemeAdmin, "The administrator's token.", "")
	a.tag(tag, about)
	return func(op huma.Operation) huma.Operation {
		op.Tags = []string{tag}
		op.Security = []map[string][]string{{schemeAdmin: {}}}
		op.Middlewares = huma.Middlewares{a.requireToken(current, off)}
		return op
	}
}

func adminFailures(off error, more ...error) []error {
	return storeFailures(append(more, fault.Unauthenticated, auth.ErrTokenInvalid, auth.ErrTooMany, off)...)
}

func registerJobs(a *API, cfg MailConfig, operation func(huma.Operation) huma.Operation) {
	register(a, operation(huma.Operation{
		OperationID: "list-mail-jobs", Method: http.MethodGet, Path: "/mail/jobs",
		Summary:   "A page of the mail queue",
		Responses: answers(http.StatusOK, "The jobs."),
	}), adminFailures(errMailAdminOff), func(ctx context.Context, in *listInput) (*listOutput, error) {
		to, err := recipient(in.To, "query.to")
		if err != nil {
			return nil, err
		}
		jobs, err := cfg.Service.List(ctx, mail.Filter{State: mail.State(in.State), To: to, After: in.Cursor, Limit: in.Limit})
		if err != nil {
			return nil, err
		}
		out := jobPage{Jobs: make([]job, len(jobs))}
		for i, j := range jobs {
			out.Jobs[i] = jobOf(j, in.Data)
		}
		if len(jobs) == in.Limit {
			out.NextCursor = jobs[len(jobs)-1].ID
		}
		return &listOutput{Body: out}, nil
	})
	register(a, operation(huma.Operation{
		OperationID: "get-mail-job", Method: http.MethodGet, Path: "/mail/jobs/{id}",
		Summary:   "One mail job",
		Responses: answers(http.StatusOK, "The job."),
	}), adminFailures(errMailAdminOff, mail.ErrJobNotFound), func(ctx context.Context, in *getInput) (*jobOutput, error) {
		j, err := cfg.Service.Get(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		return &jobOutput{Body: jobOf(j, in.Data)}, nil
	})
	register(a, operation(huma.Operation{
		OperationID: "discard-mail-job", Method: http.MethodDelete, Path: "/mail/jobs/{id}",
		Summary:   "Remove a dead letter for good",
		Responses: answers(http.StatusNoContent, "It is gone."),
	}), adminFailures(errMailAdminOff, mail.ErrJobNotFound, mail.ErrNotDead), func(ctx context.Context, in *jobInput) (*noOutput, error) {
		return nil, cfg.Service.Discard(ctx, in.ID)
	})
	register(a, operation(huma.Operation{
		OperationID: "mail-stats", Method: http.MethodGet, Path: "/mail/stats",
		Summary:   "How many mail jobs are in each state",
		Responses: answers(http.StatusOK, "The counts."),
	}), adminFailures(errMailAdminOff), statsOf(cfg.Service))
}

// statsOf answers how many jobs are in each state.
func statsOf(service *mail.DeadLetterService) func(context.Context, *noInput) (*statsOutput, error) {
	return func(ctx context.Context, _ *noInput) (*statsOutput, error) {
		counts, err := service.Stats(ctx)
		if err != nil {
			return nil, err
		}
		return &statsOutput{Body: stats{
			Ready: counts[mail.Ready], Running: counts[mail.Running], Sent: counts[mail.Sent], Dead: counts[mail.Dead],
		}}, nil
	}
}

func registerReplays(a *API, cfg MailConfig, operation func(huma.Operation) huma.Operation) {
	register(a, operation(huma.Operation{
		OperationID: "replay-mail-job", Method: http.MethodPost, Path: "/mail/jobs/{id}/replay",
		Summary:   "Try a dead letter again, with its full attempts",
		Responses: answers(http.StatusNoContent, "It is ready to be sent."),
	}), adminFailures(errMailAdminOff, mail.ErrJobNotFound, mail.ErrNotDead, mail.ErrReplayedTooOften, mail.ErrNotNeeded), func(ctx context.Context, in *replayJobInput) (*noOutput, error) {
		return nil, cfg.Service.Replay(ctx, in.ID, in.Force)
	})
	register(a, operation(huma.Operation{
		OperationID: "replay-mail-jobs", Method: http.MethodPost, Path: "/mail/jobs/replay",
		Summary:     "Try dead letters again",
		Description: "If a dependency fails on the way, the letters before it are replayed; the others can be replayed by the same call.",
		Responses:   answers(http.StatusOK, "Which."),
	}), adminFailures(errMailAdminOff), func(ctx context.Context, in *replayInput) (*replayOutput, error) {
		choice, err := in.Body.Filter.choice(in.Body.DryRun, in.Body.Force)
		if err != nil {
			return nil, err
		}
		done, err := cfg.Service.ReplayAll(ctx, choice)
		if err != nil {
			return nil, err
		}
		return &replayOutput{Body: replayed{Jobs: done.Jobs, Refused: done.Refused, NotNeeded: done.NotNeeded, DryRun: in.Body.DryRun}}, nil
	})
	register(a, operation(huma.Operation{
		OperationID: "discard-mail-jobs", Method: http.MethodPost, Path: "/mail/jobs/discard",
		Summary:     "Remove dead letters for good",
		Description: "If a dependency fails on the way, the letters before it are gone; the others can be removed by the same call.",
		Responses:   answers(http.StatusOK, "Which."),
	}), adminFailures(errMailAdminOff), func(ctx context.Context, in *discardInput) (*discardOutput, error) {
		choice, err := in.Body.Filter.choice(in.Body.DryRun, false)
		if err != nil {
			return nil, err
		}
		ids, err := cfg.Service.DiscardAll(ctx, choice)
		if err != nil {
			return nil, err
		}
		return &discardOutput{Body: discardedJobs{Jobs: ids, DryRun: in.Body.DryRun}}, nil
	})
}

// recipient reads an address to filter by; empty means any.
func recipient(address, place string) (user.Email, error) {
	if address == "" {
		return "", nil
	}
	to, err := user.ParseEmail(address)
	if err != nil {
		return "", invalidAt(place, fault.Public(err).Title)
	}
	return to, nil
}
