package bunstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"slices"

	"github.com/uptrace/bun"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// Blocks stores who has blocked whom. Its methods may be called from many goroutines.
type Blocks struct{ db *database }

var _ chat.Blocks = (*Blocks)(nil)

// blockTables hold who has blocked whom. An older program does not know the table: in a direct room it lets both write.
var blockTables = []string{
	`CREATE TABLE IF NOT EXISTS parley_blocks (
		by_id varchar(128) NOT NULL CHECK ({length}(by_id) BETWEEN 1 AND 128),
		whom_id varchar(128) NOT NULL CHECK ({length}(whom_id) BETWEEN 1 AND 128),
		at bigint NOT NULL,
		PRIMARY KEY (by_id, whom_id)
	) {clustered}`,
	`CREATE INDEX IF NOT EXISTS parley_blocks_whom ON parley_blocks (whom_id, by_id)`,
}

type blockRow struct {
	bun.BaseModel `bun:"table:parley_blocks"`

	By   string `bun:"by_id,pk"`
	Whom string `bun:"whom_id,pk"`
	At   int64  `bun:"at"`
}

// blockKey is the primary key that Among asks by.
var blockKey = []column{{name: "by_id", text: true}, {name: "whom_id", text: true}}

// sortedPairs are those of the pairs that can be stored, each once, in the order in which all who write take them.
func sortedPairs(pairs []chat.Pair) []chat.Pair {
	all := slices.DeleteFunc(slices.Clone(pairs), func(p chat.Pair) bool { return !storable(string(p.By), string(p.Whom)) })
	slices.SortFunc(all, func(a, b chat.Pair) int { return cmp.Or(cmp.Compare(a.By, b.By), cmp.Compare(a.Whom, b.Whom)) })
	return slices.Compact(all)
}

// Put implements chat.Blocks.
func (s *Blocks) Put(ctx context.Context, b chat.Block, limit int) (chat.Block, error) {
	if !storable(string(b.By), string(b.Whom)) {
		return chat.Block{}, errText
	}
	row := &blockRow{By: string(b.By), Whom: string(b.Whom), At: micros(b.At)}
	stored := new(blockRow)
	err := s.db.transactLocked(ctx, "put block", func(ctx context.Context, tx bun.Tx) error {
		read := func() error {
			*stored = blockRow{By: row.By, Whom: row.Whom}
			return tx.NewSelect().Model(stored).WherePK().Scan(ctx)
		}
		if err := read(); !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		n, err := tx.NewSelect().Model((*blockRow)(nil)).Where("by_id = ?", row.By).Count(ctx)
		switch {
		case err != nil:
			return err
		case n >= int64(limit):
			return chat.ErrTooManyBlocks
		}
		if _, err := s.db.dialect.insertNew(tx.NewInsert().Model(row), "by_id").Exec(ctx); err != nil {
			return err
		}
		return read() // somebody else may have been first
	})
	if err != nil {
		return chat.Block{}, err
	}
	b.At = instant(stored.At)
	return b, nil
}

// Remove implements chat.Blocks, in one transaction.
func (s *Blocks) Remove(ctx context.Context, pairs ...chat.Pair) error {
	return s.db.transact(ctx, "remove blocks", func(ctx context.Context, tx bun.Tx) error {
		for part := range slices.Chunk(sortedPairs(pairs), memberSizes[0]) {
			args := make([]any, 0, 2*len(part))
			for _, p := range part {
				args = append(args, string(p.By), string(p.Whom))
			}
			if _, err := tx.ExecContext(ctx, "DELETE FROM parley_blocks WHERE "+anyOfTerms(blockKey, len(part)), args...); err != nil {
				return err
			}
		}
		return nil
	})
}

const blockFields = "by_id, whom_id, at"

// blocksAmong reads blockFields of so many pairs.
func (d *dialect) blocksAmong(n int) string {
	if n == 1 {
		return "SELECT " + blockFields + " FROM parley_blocks WHERE by_id = ? AND whom_id = ?"
	}
	return "SELECT found.by_id, found.whom_id, found.at FROM " + d.find("parley_blocks", "PRIMARY", blockKey, blockKey, n, false)
}

// intoBlocks reads blockFields.
func intoBlocks(all *[]chat.Block) func(scan func(...any) error) error {
	return func(scan func(...any) error) error {
		var row blockRow
		err := scan(&row.By, &row.Whom, &row.At)
		*all = append(*all, chat.Block{Pair: chat.Pair{By: user.ID(row.By), Whom: user.ID(row.Whom)}, At: instant(row.At)})
		return err
	}
}

// Among implements chat.Blocks, by one statement for every 64 pairs.
func (s *Blocks) Among(ctx context.Context, pairs ...chat.Pair) ([]chat.Block, error) {
	found := []chat.Block{}
	for part := range slices.Chunk(sortedPairs(pairs), memberSizes[0]) {
		args := make([]any, 0, 2*memberSizes[0])
		for _, p := range part {
			args = append(args, string(p.By), string(p.Whom))
		}
		args = pad(args, "", "")
		if err := s.db.reads.query(ctx, s.db.blocks[len(args)/2], args, intoBlocks(&found)); err != nil {
			return nil, s.db.fail(ctx, "read blocks", err)
		}
	}
	return found, nil
}

// Whose they are is not named in the order: MariaDB would sort all of them.
const (
	listBlocks   = "SELECT " + blockFields + " FROM parley_blocks WHERE by_id = ? AND whom_id > ? ORDER BY whom_id LIMIT ?"
	listBlocksOf = "SELECT " + blockFields + " FROM parley_blocks WHERE whom_id = ? AND by_id > ? ORDER BY by_id LIMIT ?"
)

// List implements chat.Blocks.
func (s *Blocks) List(ctx context.Context, p chat.Pair, after user.ID, limit int) ([]chat.Block, error) {
	const op = "list blocks"
	text, of := listBlocks, string(p.By)
	if p.By == "" {
		text, of = listBlocksOf, string(p.Whom)
	}
	if !storable(of, string(after)) {
		return nil, errText
	}
	all := []chat.Block{}
	if limit < 1 {
		return all, s.db.fail(ctx, op, ctx.Err())
	}
	if err := s.db.reads.query(ctx, text, []any{of, string(after), int64(limit)}, intoBlocks(&all)); err != nil {
		return nil, s.db.fail(ctx, op, err)
	}
	return all, nil
}
