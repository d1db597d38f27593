package mongostore

import (
	"context"
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

// MailQueue stores jobs: mails, or deliveries of webhooks. Its methods may be called from many goroutines and processes.
type MailQueue struct {
	db   *database
	jobs *mongo.Collection
}

var (
	_ mail.Queue       = (*MailQueue)(nil)
	_ mail.DeadLetters = (*MailQueue)(nil)
	_ mail.Stats       = (*MailQueue)(nil)
)

// maxLastError is the longest failure that is kept, in characters.
const maxLastError = 2000

type jobDoc struct {
	ID string `bson:"_id"`
	// Position is higher than that of every job that was there when this one came.
	Position      int64  `bson:"position"`
	Key           string `bson:"key"`
	Kind          string `bson:"kind"`
	Recipient     string `bson:"recipient"`
	RecipientName string `bson:"recipient_name"`
	Data          []byte `bson:"data"`
	State         string `bson:"state"`
	// Open jobs are ready or running, and can be claimed from DueAt on.
	Open        bool   `bson:"open"`
	DueAt       int64  `bson:"due_at"`
	Attempts    int64  `bson:"attempts"`
	Claims      int64  `bson:"claims"`
	RunAt       int64  `bson:"run_at"`
	LeasedUntil *int64 `bson:"leased_until,omitempty"`
	// DeferredSince is when a server first put the mail off.
	DeferredSince *int64 `bson:"deferred_since,omitempty"`
	LastError     string `bson:"last_error"`
	// History is what became of the last attempts, as JSON.
	History   []byte `bson:"history,omitempty"`
	Replays   int64  `bson:"replays,omitempty"`
	CreatedAt int64  `bson:"created_at"`
	UpdatedAt int64  `bson:"updated_at"`
}

func (d *jobDoc) job() mail.Job {
	j := mail.Job{
		ID: d.ID, Key: d.Key, Kind: mail.Kind(d.Kind), To: user.Email(d.Recipient), Name: d.RecipientName,
		State: mail.State(d.State), Attempts: int(d.Attempts), Claims: d.Claims,
		RunAt: instant(d.RunAt), LeasedUntil: optionalInstant(d.LeasedUntil), LastError: d.LastError,
		DeferredSince: optionalInstant(d.DeferredSince),
		CreatedAt:     instant(d.CreatedAt), UpdatedAt: instant(d.UpdatedAt),
	}
	if len(d.Data) > 0 {
		j.Data = d.Data
	}
	j.Replays = int(d.Replays)
	// What an operator damaged by hand costs the history, and not the mail.
	if len(d.History) > 0 && json.Unmarshal(d.History, &j.History) != nil {
		j.History = nil
	}
	return j
}

// Enqueue implements mail.Queue. Another job with j.ID is an error of kind Conflict.
func (s *MailQueue) Enqueue(ctx context.Context, j mail.Job) error {
	const op = "enqueue mail"
	doc := jobDoc{
		ID: j.ID, Position: 1, Key: j.Key, Kind: string(j.Kind), Recipient: string(j.To), RecipientName: j.Name, Data: notNull(j.Data),
		State: string(mail.Ready), Open: true, DueAt: micros(j.RunAt), RunAt: micros(j.RunAt),
		CreatedAt: micros(j.CreatedAt), UpdatedAt: micros(j.UpdatedAt),
	}
	if _, err := mailJobs.encode(doc); err != nil {
		return err
	}
	// Jobs that come at the same time may get one position; then the ID decides. A job that went
	// meanwhile leaves no trace, nor does its place matter any more.
	newest, err := all[jobDoc](ctx, s.db, op, s.jobs, bson.D{},
		options.Find().SetSort(ascending("-position")).SetLimit(1).SetProjection(ascending("position")))
	if err != nil {
		return err
	}
	if len(newest) > 0 {
		doc.Position = newest[0].Position + 1
	}
	raw, err := mailJobs.encode(doc)
	if err != nil {
		return err
	}
	_, err = s.jobs.InsertOne(ctx, raw)
	if !mongo.IsDuplicateKeyError(err) {
		return s.db.fail(ctx, op, err)
	}
	taken := errIDTaken.Because(s.db.fail(ctx, op, err))
	if _, err := one[jobDoc](ctx, s.db, op, s.jobs, bson.D{{Key: "key", Value: j.Key}}, taken); err != nil {
		return err
	}
	return s.db.confirm(ctx, op)
}

// candidates is how many jobs Claim reads at once: others may be quicker with the first ones.
const candidates = 8

// Claim implements mail.Queue.
func (s *MailQueue) Claim(ctx context.Context, now time.Time, lease time.Duration) (mail.Job, bool, error) {
	const op = "claim mail"
	if err := mail.CheckLease(lease); err != nil {
		return mail.Job{}, false, err
	}
	until := micros(now.Add(lease))
	for attempt := 1; ; attempt++ {
		due, err := all[jobDoc](ctx, s.db, op, s.jobs,
			bson.D{{Key: "open", Value: true}, {Key: "due_at", Value: bson.D{{Key: "$lte", Value: micros(now)}}}},
			options.Find().SetSort(ascending("position", "_id")).SetLimit(candidates))
		if err != nil || len(due) == 0 {
			return mail.Job{}, false, err
		}
		for i := range due {
			d := &due[i]
			// A job that was claimed since has more claims; one that was settled since, another state or time.
			res, err := s.jobs.UpdateOne(ctx,
				bson.D{{Key: "_id", Value: d.ID}, {Key: "claims", Value: d.Claims}, {Key: "state", Value: d.State}, {Key: "due_at", Value: d.DueAt}},
				bson.D{{Key: "$set", Value: bson.D{
					{Key: "state", Value: string(mail.Running)}, {Key: "due_at", Value: until}, {Key: "leased_until", Value: until},
					{Key: "attempts", Value: d.Attempts + 1}, {Key: "claims", Value: d.Claims + 1}, {Key: "updated_at", Value: micros(now)},
				}}})
			if err != nil {
				return mail.Job{}, false, s.db.fail(ctx, op, err)
			}
			if res.MatchedCount == 1 {
				d.State, d.DueAt, d.LeasedUntil, d.UpdatedAt = string(mail.Running), until, &until, micros(now)
				d.Attempts++
				d.Claims++
				return d.job(), true, nil
			}
		}
		if err := pause(ctx, attempt); err != nil {
			return mail.Job{}, false, s.db.fail(ctx, op, err)
		}
	}
}

// Settle implements mail.Queue.
func (s *MailQueue) Settle(ctx context.Context, j mail.Job, o mail.Outcome) error {
	if err := o.Check(); err != nil {
		return err
	}
	if !storable(j.ID) {
		return mail.ErrLeaseLost
	}
	set := bson.D{
		{Key: "state", Value: string(o.State)}, {Key: "last_error", Value: keepable(o.Error)}, {Key: "updated_at", Value: micros(o.At)},
	}
	if o.History != nil {
		history, err := json.Marshal(o.History)
		if err != nil {
			return err
		}
		set = append(set, bson.E{Key: "history", Value: history})
	}
	switch o.State {
	case mail.Ready:
		set = append(set, bson.E{Key: "run_at", Value: micros(o.RunAt)}, bson.E{Key: "due_at", Value: micros(o.RunAt)})
		if !o.DeferredSince.IsZero() {
			set = append(set, bson.E{Key: "deferred_since", Value: micros(o.DeferredSince)})
		}
	case mail.Sent:
		set = append(set, bson.E{Key: "open", Value: false}, bson.E{Key: "data", Value: []byte{}})
	case mail.Dead:
		set = append(set, bson.E{Key: "open", Value: false})
	}
	update := bson.D{{Key: "$set", Value: set}, {Key: "$unset", Value: bson.D{{Key: "leased_until", Value: ""}}}}
	if o.State == mail.Ready && o.Untried {
		update = append(update, bson.E{Key: "$inc", Value: bson.D{{Key: "attempts", Value: -1}}})
	}
	changed, err := s.change(ctx, "settle mail",
		bson.D{{Key: "_id", Value: j.ID}, {Key: "state", Value: string(mail.Running)}, {Key: "claims", Value: j.Claims}}, update)
	if err == nil && !changed {
		return mail.ErrLeaseLost
	}
	return err
}

// change updates the job that the filter chooses, and reports whether there is one.
func (s *MailQueue) change(ctx context.Context, op string, filter, update bson.D) (bool, error) {
	if err := s.db.ready(ctx); err != nil {
		return false, err
	}
	res, err := s.jobs.UpdateOne(ctx, filter, update)
	if err != nil {
		return false, s.db.fail(ctx, op, err)
	}
	return res.MatchedCount == 1, nil
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

// Prune implements mail.Queue.
func (s *MailQueue) Prune(ctx context.Context, before time.Time) (int, error) {
	if err := s.db.ready(ctx); err != nil {
		return 0, err
	}
	res, err := s.jobs.DeleteMany(ctx,
		bson.D{{Key: "state", Value: string(mail.Sent)}, {Key: "updated_at", Value: bson.D{{Key: "$lt", Value: micros(before)}}}})
	if err != nil {
		return 0, s.db.fail(ctx, "prune mail", err)
	}
	return int(res.DeletedCount), nil
}

// List implements mail.DeadLetters.
func (s *MailQueue) List(ctx context.Context, f mail.Filter) ([]mail.Job, error) {
	if err := f.CheckLimit(); err != nil {
		return nil, err
	}
	if !storable(string(f.State), string(f.To), f.After) {
		return nil, errText
	}
	filter := bson.D{{Key: "_id", Value: bson.D{{Key: "$gt", Value: f.After}}}}
	if f.State != "" {
		filter = append(filter, bson.E{Key: "state", Value: string(f.State)})
	}
	if f.To != "" {
		filter = append(filter, bson.E{Key: "recipient", Value: string(f.To)})
	}
	docs, err := all[jobDoc](ctx, s.db, "list mail", s.jobs, filter, options.Find().SetSort(ascending("_id")).SetLimit(int64(f.Limit)))
	if err != nil {
		return nil, err
	}
	jobs := make([]mail.Job, len(docs))
	for i := range docs {
		jobs[i] = docs[i].job()
	}
	return jobs, nil
}

// Get implements mail.DeadLetters.
func (s *MailQueue) Get(ctx context.Context, id string) (mail.Job, error) {
	if !storable(id) {
		return mail.Job{}, mail.ErrJobNotFound
	}
	doc, err := one[jobDoc](ctx, s.db, "read mail", s.jobs, byID(id), mail.ErrJobNotFound)
	if err != nil {
		return mail.Job{}, err
	}
	return doc.job(), nil
}

// deadOne chooses the job if it is a dead letter.
func deadOne(id string) bson.D {
	return bson.D{{Key: "_id", Value: id}, {Key: "state", Value: string(mail.Dead)}}
}

// Requeue implements mail.DeadLetters. UpdatedAt becomes runAt, the only time it is given.
func (s *MailQueue) Requeue(ctx context.Context, id string, runAt time.Time, data []byte) error {
	if !storable(id) {
		return mail.ErrJobNotFound
	}
	set := bson.D{
		{Key: "state", Value: string(mail.Ready)}, {Key: "open", Value: true}, {Key: "attempts", Value: int64(0)},
		{Key: "run_at", Value: micros(runAt)}, {Key: "due_at", Value: micros(runAt)}, {Key: "updated_at", Value: micros(runAt)},
	}
	if data != nil {
		set = append(set, bson.E{Key: "data", Value: data})
	}
	changed, err := s.change(ctx, "requeue mail", deadOne(id), bson.D{
		{Key: "$set", Value: set}, {Key: "$unset", Value: bson.D{{Key: "deferred_since", Value: ""}}},
		{Key: "$inc", Value: bson.D{{Key: "replays", Value: int64(1)}}},
	})
	if err != nil || changed {
		return err
	}
	return s.notDead(ctx, id)
}

// Discard implements mail.DeadLetters.
func (s *MailQueue) Discard(ctx context.Context, id string) error {
	if !storable(id) {
		return mail.ErrJobNotFound
	}
	if err := s.db.ready(ctx); err != nil {
		return err
	}
	res, err := s.jobs.DeleteOne(ctx, deadOne(id))
	if err != nil {
		return s.db.fail(ctx, "discard mail", err)
	}
	if res.DeletedCount == 1 {
		return nil
	}
	return s.notDead(ctx, id)
}

// DeleteTo implements mail.Eraser.
func (s *MailQueue) DeleteTo(ctx context.Context, to user.Email) (int, error) {
	if !storable(string(to)) {
		return 0, nil
	}
	if err := s.db.ready(ctx); err != nil {
		return 0, err
	}
	res, err := s.jobs.DeleteMany(ctx, bson.D{{Key: "recipient", Value: string(to)}})
	if err != nil {
		return 0, s.db.fail(ctx, "delete mail to a recipient", err)
	}
	return int(res.DeletedCount), nil
}

// notDead says why a job is no dead letter.
func (s *MailQueue) notDead(ctx context.Context, id string) error {
	if _, err := s.Get(ctx, id); err != nil {
		return err
	}
	return mail.ErrNotDead
}

// Stats implements mail.Stats.
func (s *MailQueue) Stats(ctx context.Context) (map[mail.State]int, error) {
	const op = "count mail"
	if err := s.db.ready(ctx); err != nil {
		return nil, err
	}
	var counts []struct {
		State string `bson:"_id"`
		Jobs  int    `bson:"jobs"`
	}
	cursor, err := s.jobs.Aggregate(ctx, mongo.Pipeline{{{Key: "$group", Value: bson.D{
		{Key: "_id", Value: "$state"}, {Key: "jobs", Value: bson.D{{Key: "$sum", Value: int32(1)}}},
	}}}})
	if err == nil {
		err = cursor.All(ctx, &counts)
	}
	if err != nil {
		return nil, s.db.fail(ctx, op, err)
	}
	stats := make(map[mail.State]int, len(counts))
	for _, c := range counts {
		stats[mail.State(c.State)] = c.Jobs
	}
	return stats, nil
}
