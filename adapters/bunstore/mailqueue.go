package bunstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/uptrace/bun"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

// MailQueue stores jobs: mails, or deliveries of webhooks. Its methods may be called from many goroutines and processes.
type MailQueue struct {
	db    *database
	table string
}

// The tables of jobs. They are alike.
const (
	mailJobs    = "parley_mail_jobs"
	webhookJobs = "parley_webhook_jobs"
)

// asRows is a table of jobs in a query of jobRow.
const asRows = "? AS job_row"

var (
	_ mail.Queue       = (*MailQueue)(nil)
	_ mail.DeadLetters = (*MailQueue)(nil)
	_ mail.Stats       = (*MailQueue)(nil)
)

// maxLastError is the longest failure that is kept, in characters.
const maxLastError = 2000

// What the queue refuses.
var (
	errLimit = fault.New(fault.Invalid, "limit_invalid", "the limit is out of range")
)

type jobRow struct {
	bun.BaseModel `bun:"table:parley_mail_jobs"`

	Position      int64  `bun:"position,pk,autoincrement"`
	ID            string `bun:"id"`
	Key           string `bun:"job_key"`
	Kind          string `bun:"kind"`
	Recipient     string `bun:"recipient"`
	RecipientName string `bun:"recipient_name"`
	Data          []byte `bun:"data"`
	State         string `bun:"state"`
	Attempts      int    `bun:"attempts"`
	Claims        int64  `bun:"claims"`
	RunAt         int64  `bun:"run_at"`
	LeasedUntil   *int64 `bun:"leased_until"`
	DeferredSince *int64 `bun:"deferred_since"`
	LastError     string `bun:"last_error"`
	History       []byte `bun:"history"`
	Replays       *int64 `bun:"replays"`
	CreatedAt     int64  `bun:"created_at"`
	UpdatedAt     int64  `bun:"updated_at"`
}

func (r *jobRow) job() mail.Job {
	j := mail.Job{
		ID: r.ID, Key: r.Key, Kind: mail.Kind(r.Kind), To: user.Email(r.Recipient), Name: r.RecipientName,
		State: mail.State(r.State), Attempts: r.Attempts, Claims: r.Claims,
		RunAt: instant(r.RunAt), LeasedUntil: optionalInstant(r.LeasedUntil), LastError: r.LastError,
		DeferredSince: optionalInstant(r.DeferredSince),
		CreatedAt:     instant(r.CreatedAt), UpdatedAt: instant(r.UpdatedAt),
	}
	if len(r.Data) > 0 {
		j.Data = r.Data
	}
	if r.Replays != nil {
		j.Replays = int(*r.Replays)
	}
	// What an operator damaged by hand costs the history, and not the mail.
	if len(r.History) > 0 && json.Unmarshal(r.History, &j.History) != nil {
		j.History = nil
	}
	return j
}

// Enqueue implements mail.Queue. Another job with j.ID is an error of kind Conflict.
func (s *MailQueue) Enqueue(ctx context.Context, j mail.Job) error {
	if !storable(j.ID, j.Key, string(j.Kind), string(j.To), j.Name) {
		return errText
	}
	row := jobRow{
		ID: j.ID, Key: j.Key, Kind: string(j.Kind), Recipient: string(j.To), RecipientName: j.Name, Data: notNull(j.Data),
		State: string(mail.Ready), RunAt: micros(j.RunAt), CreatedAt: micros(j.CreatedAt), UpdatedAt: micros(j.UpdatedAt),
	}
	const op = "enqueue mail"
	err := s.db.transact(ctx, op, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewInsert().Model(&row).ModelTableExpr("?", bun.Ident(s.table)).ExcludeColumn("history", "replays").Exec(ctx)
		return err
	})
	if !errors.Is(err, fault.Conflict) {
		return err
	}
	known, lookErr := s.db.read.NewSelect().Model((*jobRow)(nil)).ModelTableExpr(asRows, bun.Ident(s.table)).Where("job_key = ?", j.Key).Exists(ctx)
	if lookErr != nil {
		return s.db.fail(ctx, op, lookErr)
	}
	if known {
		return nil
	}
	return errIDTaken.Because(err)
}

// Claim implements mail.Queue.
func (s *MailQueue) Claim(ctx context.Context, now time.Time, lease time.Duration) (mail.Job, bool, error) {
	if err := mail.CheckLease(lease); err != nil {
		return mail.Job{}, false, err
	}
	var row jobRow
	var found bool
	err := s.db.transact(ctx, "claim mail", func(ctx context.Context, tx bun.Tx) (err error) {
		row, err = s.db.dialect.claim(ctx, tx, s.table, micros(now), micros(now.Add(lease)))
		found = err == nil
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
	if err != nil || !found {
		return mail.Job{}, false, err
	}
	return row.job(), true, nil
}

// Settle implements mail.Queue.
func (s *MailQueue) Settle(ctx context.Context, j mail.Job, o mail.Outcome) error {
	if err := o.Check(); err != nil {
		return err
	}
	if !storable(j.ID) {
		return mail.ErrLeaseLost
	}
	history, err := json.Marshal(o.History)
	if err != nil {
		return err
	}
	defer s.db.scrub.due()
	return s.db.transact(ctx, "settle mail", func(ctx context.Context, tx bun.Tx) error {
		q := tx.NewUpdate().Model((*jobRow)(nil)).ModelTableExpr(asRows, bun.Ident(s.table)).
			Set("state = ?", string(o.State)).Set("leased_until = NULL").
			Set("last_error = ?", keepable(o.Error)).Set("updated_at = ?", micros(o.At)).
			Where("id = ?", j.ID).Where("state = ?", string(mail.Running)).Where("claims = ?", j.Claims)
		if o.History != nil {
			q = q.Set("history = ?", history)
		}
		switch o.State {
		case mail.Ready:
			q = q.Set("run_at = ?", micros(o.RunAt))
			if o.Untried {
				q = q.Set("attempts = attempts - 1")
			}
			if !o.DeferredSince.IsZero() {
				q = q.Set("deferred_since = ?", micros(o.DeferredSince))
			}
		case mail.Sent:
			q = q.Set("data = ?", []byte{})
		}
		res, err := q.Exec(ctx)
		return changed(res, err, mail.ErrLeaseLost)
	})
}

// changed returns none if a statement changed no row.
func changed(res sql.Result, err, none error) error {
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err == nil && n == 0 {
		return none
	}
	return err
}

// keepable makes foreign text storable: a server's answer may hold anything, and must not
// keep an attempt from being settled.
func keepable(s string) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
	if utf8.RuneCountInString(s) > maxLastError {
		s = string([]rune(s)[:maxLastError])
	}
	return s
}

// Prune implements mail.Queue, in transactions of at most 1,000 rows.
func (s *MailQueue) Prune(ctx context.Context, before time.Time) (int, error) {
	return s.db.sweep(ctx, "prune mail", s.table, "id", "state = ? AND updated_at < ?", string(mail.Sent), micros(before))
}

// List implements mail.DeadLetters.
func (s *MailQueue) List(ctx context.Context, f mail.Filter) ([]mail.Job, error) {
	if err := f.CheckLimit(); err != nil {
		return nil, err
	}
	if !storable(string(f.State), string(f.To), f.After) {
		return nil, errText
	}
	var rows []jobRow
	q := s.db.read.NewSelect().Model(&rows).ModelTableExpr(asRows, bun.Ident(s.table)).Where("id > ?", f.After).OrderExpr("id").Limit(int64(f.Limit))
	if f.State != "" {
		q = q.Where("state = ?", string(f.State))
	}
	if f.To != "" {
		q = q.Where("recipient = ?", string(f.To))
	}
	if err := q.Scan(ctx); err != nil {
		return nil, s.db.fail(ctx, "list mail", err)
	}
	jobs := make([]mail.Job, len(rows))
	for i := range rows {
		jobs[i] = rows[i].job()
	}
	return jobs, nil
}

// Get implements mail.DeadLetters.
func (s *MailQueue) Get(ctx context.Context, id string) (mail.Job, error) {
	if !storable(id) {
		return mail.Job{}, mail.ErrJobNotFound
	}
	var row jobRow
	if err := s.db.read.NewSelect().Model(&row).ModelTableExpr(asRows, bun.Ident(s.table)).Where("id = ?", id).Scan(ctx); err != nil {
		return mail.Job{}, s.db.found(ctx, "read mail", err, mail.ErrJobNotFound)
	}
	return row.job(), nil
}

// Requeue implements mail.DeadLetters. UpdatedAt becomes runAt, the only time it is given.
func (s *MailQueue) Requeue(ctx context.Context, id string, runAt time.Time, data []byte) error {
	return s.decide(ctx, "requeue mail", id, func(ctx context.Context, tx bun.Tx) (sql.Result, error) {
		q := tx.NewUpdate().Model((*jobRow)(nil)).ModelTableExpr(asRows, bun.Ident(s.table)).
			Set("state = ?", string(mail.Ready)).Set("attempts = 0").Set("deferred_since = NULL").Set("replays = COALESCE(replays, 0) + 1").
			Set("run_at = ?", micros(runAt)).Set("updated_at = ?", micros(runAt)).
			Where("id = ?", id).Where("state = ?", string(mail.Dead))
		if data != nil {
			q = q.Set("data = ?", data)
		}
		return q.Exec(ctx)
	})
}

// Discard implements mail.DeadLetters.
func (s *MailQueue) Discard(ctx context.Context, id string) error {
	return s.decide(ctx, "discard mail", id, func(ctx context.Context, tx bun.Tx) (sql.Result, error) {
		return tx.NewDelete().Table(s.table).Where("id = ?", id).Where("state = ?", string(mail.Dead)).Exec(ctx)
	})
}

// DeleteTo implements mail.Eraser, in transactions of at most 1,000 rows.
func (s *MailQueue) DeleteTo(ctx context.Context, to user.Email) (int, error) {
	if !storable(string(to)) {
		return 0, nil
	}
	defer s.db.scrub.dueWiping()
	return s.db.sweep(ctx, "delete mail to a recipient", s.table, "id", "recipient = ?", string(to))
}

// decide runs a statement that changes the job if it is a dead letter, and otherwise says what it is.
func (s *MailQueue) decide(ctx context.Context, op, id string, do func(context.Context, bun.Tx) (sql.Result, error)) error {
	if !storable(id) {
		return mail.ErrJobNotFound
	}
	defer s.db.scrub.due()
	return s.db.transact(ctx, op, func(ctx context.Context, tx bun.Tx) error {
		res, err := do(ctx, tx)
		if err := changed(res, err, mail.ErrNotDead); !errors.Is(err, mail.ErrNotDead) {
			return err
		}
		exists, err := tx.NewSelect().Model((*jobRow)(nil)).ModelTableExpr(asRows, bun.Ident(s.table)).Where("id = ?", id).Exists(ctx)
		switch {
		case err != nil:
			return err
		case !exists:
			return mail.ErrJobNotFound
		}
		return mail.ErrNotDead
	})
}

// Stats implements mail.Stats.
func (s *MailQueue) Stats(ctx context.Context) (map[mail.State]int, error) {
	var counts []struct {
		State string
		Jobs  int
	}
	err := s.db.read.NewSelect().Model((*jobRow)(nil)).ModelTableExpr(asRows, bun.Ident(s.table)).Column("state").ColumnExpr("COUNT(*) AS jobs").Group("state").Scan(ctx, &counts)
	if err != nil {
		return nil, s.db.fail(ctx, "count mail", err)
	}
	stats := make(map[mail.State]int, len(counts))
	for _, c := range counts {
		stats[mail.State(c.State)] = c.Jobs
	}
	return stats, nil
}
