package mongostore

import (
	"context"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// What one command has at the most.
const (
	// chunk bounds the documents of an insert, the writes of a command, and the values that a query names, so that it is one message to the server.
	chunk = 1000
	// updates bounds the updates among the writes. FerretDB v1.24 holds one of its 100 connections for each until the command ends, and
	// would wait for the next one for ever.
	updates = 50
)

// bulk makes writes, in as many commands as the bounds ask for, one after the other, and returns what they did together. It makes none after a command
// that failed. ordered is as the driver has it.
func bulk(ctx context.Context, c *mongo.Collection, writes []mongo.WriteModel, ordered bool) (did mongo.BulkWriteResult, err error) {
	for len(writes) > 0 {
		n := commandOf(writes)
		res, err := c.BulkWrite(ctx, writes[:n], options.BulkWrite().SetOrdered(ordered))
		if err != nil {
			return did, err
		}
		did.MatchedCount += res.MatchedCount
		did.ModifiedCount += res.ModifiedCount
		did.DeletedCount += res.DeletedCount
		writes = writes[n:]
	}
	return did, nil
}

// commandOf is how many of the first writes are made at once.
func commandOf(writes []mongo.WriteModel) int {
	n := 0
	for i, w := range writes[:min(chunk, len(writes))] {
		if _, deletes := w.(*mongo.DeleteOneModel); !deletes {
			n++
		}
		if n > updates {
			return i
		}
	}
	return min(chunk, len(writes))
}
