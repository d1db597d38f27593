package bunstore

import "github.com/uptrace/bun"

// Handles returns the handles for writing and for reading.
func Handles(s *Store) (write, read *bun.DB) { return s.db.write, s.db.read }
