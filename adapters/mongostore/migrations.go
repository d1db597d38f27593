package mongostore

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// schemaVersion is the version of collections and indexes. It grows with every change that an older program
// cannot live with; a validator may change without.
const schemaVersion = 2

// schemaAdditions counts the collections and indexes that were added within this version: an older program of the version lives
// with them, and this one not without. 1: changes of messages. 2: marks. 3: restrictions. 4: deliveries of webhooks.
// 5: events of messages. 6: roles. 7: blocks. 8: settings of users. 9: events of rooms and memberships.
// 10: roles of users, users who are disabled, and the audit log. 11: what users say of themselves, and addresses that they want to have.
// 15: what became of the attempts of jobs. 16: second factors.
const schemaAdditions = 16

// schemaID names the document of the schema's collection.
const schemaID = "schema"

type schemaDoc struct {
	ID            string `bson:"_id"`
	Version       int64  `bson:"version"`
	Additions     int64  `bson:"additions,omitempty"`
	Confirmations int64  `bson:"confirmations"`
}

// Migrate brings collections, validators and indexes up to this program's version: it creates what is missing
// and replaces a validator that differs. Every step can be repeated, and taken by several processes
// at once; the version is written last. An index that a large collection lacks takes its time, in which MongoDB lets others read and write. Where the server takes no validators it says so to Config.Log, once,
// and goes on. To replace a validator the user needs the right to collMod, which the role
// dbAdmin has. It returns ErrSchemaNew when a newer program has been here.
func (s *Store) Migrate(ctx context.Context) error {
	const op = "migrate"
	if err := s.Check(ctx); err != nil && !errors.Is(err, ErrSchemaOld) {
		return err
	}
	there, err := s.db.validators(ctx)
	if err != nil {
		return s.db.fail(ctx, op, err)
	}
	var refusal error
	for _, c := range collections {
		refused, err := s.db.ensure(ctx, c, there)
		if err != nil {
			return s.db.fail(ctx, op, fmt.Errorf("%s: %w", c.name, err))
		}
		if refused != nil {
			refusal = refused
		}
	}
	if err := s.db.record(ctx); err != nil {
		return s.db.fail(ctx, op, err)
	}
	if refusal == nil {
		// Some servers take a validator and do not keep it.
		if kept, err := s.Validators(ctx); err != nil {
			return err
		} else if !kept {
			refusal = errors.New("they are not in the list of collections")
		}
	}
	if refusal != nil {
		s.db.refused.Do(func() {
			s.db.log.WarnContext(ctx, "the database server keeps no validators; documents are checked by this program alone", "error", refusal)
		})
	}
	s.db.checked.Store(true)
	return nil
}

// ensure makes the collection what it should be. refused is why the server does not take its validator.
func (d *database) ensure(ctx context.Context, c *collection, there map[string]bson.Raw) (refused, err error) {
	validator, err := bson.Marshal(c.validator())
	if err != nil {
		return nil, err
	}
	has, found := there[c.name]
	if !found {
		// Another process may be quicker: then the validator is still to be compared.
		err := d.db.CreateCollection(ctx, c.name, options.CreateCollection().SetValidator(bson.Raw(validator)))
		if takesNone(err) {
			refused, err = err, d.db.CreateCollection(ctx, c.name)
		}
		switch {
		case hasCode(err, codeNamespaceExists):
			if there, err = d.validators(ctx); err != nil {
				return nil, err
			}
			has = there[c.name]
		case err != nil:
			return nil, err
		default:
			has = validator
		}
	}
	if refused == nil && !bytes.Equal(has, validator) {
		err := d.db.RunCommand(ctx, bson.D{
			{Key: "collMod", Value: c.name}, {Key: "validator", Value: bson.Raw(validator)},
			{Key: "validationLevel", Value: "strict"}, {Key: "validationAction", Value: "error"},
		}).Err()
		if takesNone(err) {
			refused, err = err, nil
		}
		if err != nil {
			return nil, err
		}
	}
	// One by one, since FerretDB ends the connection when of several some are there.
	for _, model := range c.models() {
		if _, err := d.db.Collection(c.name).Indexes().CreateOne(ctx, model); err != nil {
			return nil, err
		}
	}
	return refused, nil
}

// takesNone reports whether a server says that it has no validators.
func takesNone(err error) bool {
	return hasCode(err, codeNotImplemented, codeCommandNotFound, codeCommandNotAllowed, codeUnsupported)
}

// record writes the version and its additions, never lower ones than there are.
func (d *database) record(ctx context.Context) error {
	raw, err := schema.encode(schemaDoc{ID: schemaID, Version: schemaVersion, Additions: schemaAdditions})
	if err != nil {
		return err
	}
	if _, err := d.schema.InsertOne(ctx, raw); !mongo.IsDuplicateKeyError(err) {
		return err
	}
	for _, behind := range []bson.D{
		{{Key: "version", Value: bson.D{{Key: "$lt", Value: int64(schemaVersion)}}}},
		{{Key: "version", Value: int64(schemaVersion)}, {Key: "additions", Value: bson.D{{Key: "$not", Value: bson.D{{Key: "$gte", Value: int64(schemaAdditions)}}}}}},
	} {
		_, err := d.schema.UpdateOne(ctx, append(byID(schemaID), behind...),
			bson.D{{Key: "$set", Value: bson.D{{Key: "version", Value: int64(schemaVersion)}, {Key: "additions", Value: int64(schemaAdditions)}}}})
		if err != nil {
			return err
		}
	}
	return nil
}

// validators returns the validator of each collection, empty where it has none.
func (d *database) validators(ctx context.Context) (map[string]bson.Raw, error) {
	cursor, err := d.db.ListCollections(ctx, bson.D{})
	if err != nil {
		return nil, err
	}
	var list []struct {
		Name    string `bson:"name"`
		Options struct {
			Validator bson.Raw `bson:"validator"`
		} `bson:"options"`
	}
	if err := cursor.All(ctx, &list); err != nil {
		return nil, err
	}
	found := make(map[string]bson.Raw, len(list))
	for _, c := range list {
		found[c.Name] = c.Options.Validator
	}
	return found, nil
}

// Validators reports whether the server holds a $jsonSchema validator for every collection, as it does
// after [Store.Migrate], unless it takes none.
func (s *Store) Validators(ctx context.Context) (bool, error) {
	const op = "read validators"
	if s.db.closed.Load() {
		return false, s.db.fail(ctx, op, mongo.ErrClientDisconnected)
	}
	there, err := s.db.validators(ctx)
	if err != nil {
		return false, s.db.fail(ctx, op, err)
	}
	for _, c := range collections {
		if _, err := there[c.name].LookupErr("$jsonSchema"); err != nil {
			return false, nil
		}
	}
	return true, nil
}

// Check returns nil if the schema is this program's, ErrSchemaOld if the database must be migrated, as an empty
// one must, and ErrSchemaNew if a newer program has migrated it. It changes nothing.
func (s *Store) Check(ctx context.Context) error {
	if s.db.closed.Load() {
		return s.db.fail(ctx, "check schema", mongo.ErrClientDisconnected)
	}
	return s.db.check(ctx)
}

func (d *database) check(ctx context.Context) error {
	var doc schemaDoc
	err := d.schema.FindOne(ctx, byID(schemaID)).Decode(&doc)
	switch {
	case errors.Is(err, mongo.ErrNoDocuments):
		return ErrSchemaOld.Detail("it was never migrated: run the command migrate, or call Store.Migrate")
	case err != nil:
		return d.fail(ctx, "check schema", err)
	case doc.Version < schemaVersion:
		return ErrSchemaOld.Detail("it has version %d, the program %d", doc.Version, schemaVersion)
	case doc.Version == schemaVersion && doc.Additions < schemaAdditions:
		return ErrSchemaOld.Detail("it has version %d without what was added later: run the command migrate, or call Store.Migrate", doc.Version)
	case doc.Version > schemaVersion:
		return ErrSchemaNew.Detail("it has version %d, the program %d; run a newer program", doc.Version, schemaVersion)
	}
	d.checked.Store(true)
	return nil
}
