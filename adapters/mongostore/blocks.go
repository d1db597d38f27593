package mongostore

import (
	"context"
	"errors"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// Blocks stores who has blocked whom. Its methods may be called from many goroutines.
type Blocks struct{ db *database }

var _ chat.Blocks = (*Blocks)(nil)

type blockDoc struct {
	ID   bson.ObjectID `bson:"_id"`
	By   string        `bson:"by"`
	Whom string        `bson:"whom"`
	At   int64         `bson:"at"`
}

func (d *blockDoc) block() chat.Block {
	return chat.Block{Pair: chat.Pair{By: user.ID(d.By), Whom: user.ID(d.Whom)}, At: instant(d.At)}
}

func blockOf(p chat.Pair) bson.D {
	return bson.D{{Key: "by", Value: string(p.By)}, {Key: "whom", Value: string(p.Whom)}}
}

// errNoBlock is never returned.
var errNoBlock = fault.New(fault.NotFound, "block_not_found", "there is no such block")

// Put implements chat.Blocks.
func (s *Blocks) Put(ctx context.Context, b chat.Block, limit int) (chat.Block, error) {
	const op = "put block"
	doc := blockDoc{ID: bson.NewObjectID(), By: string(b.By), Whom: string(b.Whom), At: micros(b.At)}
	if _, err := blocks.encode(doc); err != nil {
		return chat.Block{}, err
	}
	for attempt := 1; ; attempt++ {
		before, err := one[blockDoc](ctx, s.db, op, s.db.blocked, blockOf(b.Pair), errNoBlock)
		if err == nil {
			return before.block(), nil
		}
		if !errors.Is(err, errNoBlock) {
			return chat.Block{}, err
		}
		if err := s.room(ctx, op, b.By, limit); err != nil {
			return chat.Block{}, err
		}
		err = s.db.insertOnce(ctx, op, s.db.blocks, blocks, doc)
		if err == nil {
			return doc.block(), nil
		}
		// Somebody else was quicker, and may have removed it since.
		if !errors.Is(err, fault.Conflict) || attempt == attempts {
			return chat.Block{}, err
		}
		if err := pause(ctx, attempt); err != nil {
			return chat.Block{}, s.db.fail(ctx, op, err)
		}
	}
}

// room returns chat.ErrTooManyBlocks if a user has so many blocks already.
func (s *Blocks) room(ctx context.Context, op string, by user.ID, limit int) error {
	if limit < 1 {
		return chat.ErrTooManyBlocks
	}
	n, err := s.db.blocked.CountDocuments(ctx, bson.D{{Key: "by", Value: string(by)}}, options.Count().SetLimit(int64(limit)))
	switch {
	case err != nil:
		return s.db.fail(ctx, op, err)
	case n >= int64(limit):
		return chat.ErrTooManyBlocks
	}
	return nil
}

// blockTerms choose blocks, of those pairs that can be stored.
func blockTerms(pairs []chat.Pair) bson.A {
	terms, asked := make(bson.A, 0, len(pairs)), make(map[chat.Pair]bool, len(pairs))
	for _, p := range pairs {
		if !asked[p] && storable(string(p.By), string(p.Whom)) {
			terms = append(terms, blockOf(p))
		}
		asked[p] = true
	}
	return terms
}

// Remove implements chat.Blocks, by one call for every 100.
func (s *Blocks) Remove(ctx context.Context, pairs ...chat.Pair) error {
	if err := s.db.ready(ctx); err != nil {
		return err
	}
	for part := range slices.Chunk(blockTerms(pairs), branches) {
		if _, err := s.db.blocks.DeleteMany(ctx, bson.D{{Key: "$or", Value: part}}); err != nil {
			return s.db.fail(ctx, "remove blocks", err)
		}
	}
	return nil
}

// Among implements chat.Blocks, by one call for every 100.
func (s *Blocks) Among(ctx context.Context, pairs ...chat.Pair) ([]chat.Block, error) {
	if err := s.db.ready(ctx); err != nil {
		return nil, err
	}
	found := []chat.Block{}
	for part := range slices.Chunk(blockTerms(pairs), branches) {
		some, err := s.find(ctx, "read blocks", bson.D{{Key: "$or", Value: part}})
		if err != nil {
			return nil, err
		}
		found = append(found, some...)
	}
	return found, nil
}

// List implements chat.Blocks.
func (s *Blocks) List(ctx context.Context, p chat.Pair, after user.ID, limit int) ([]chat.Block, error) {
	side, of, other := "by", string(p.By), "whom"
	if p.By == "" {
		side, of, other = "whom", string(p.Whom), "by"
	}
	if !storable(of, string(after)) {
		return nil, errText
	}
	if limit < 1 {
		return []chat.Block{}, nil
	}
	return s.find(ctx, "list blocks", bson.D{{Key: side, Value: of}, {Key: other, Value: bson.D{{Key: "$gt", Value: string(after)}}}},
		options.Find().SetSort(ascending(other)).SetLimit(int64(limit)))
}

// find reads blocks as the majority has them, so that none that was told goes back.
func (s *Blocks) find(ctx context.Context, op string, filter bson.D, opts ...options.Lister[options.FindOptions]) ([]chat.Block, error) {
	docs, err := all[blockDoc](ctx, s.db, op, s.db.blocked, filter, opts...)
	if err != nil {
		return nil, err
	}
	found := make([]chat.Block, len(docs))
	for i := range docs {
		found[i] = docs[i].block()
	}
	return found, nil
}
