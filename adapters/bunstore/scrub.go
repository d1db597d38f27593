package bunstore

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"sync"
	"time"
)

// scrubber cuts the log of writes off a while after something was deleted that must not remain: the log holds pages as
// they were before. Deleted bytes are zeros in the file, by secure_delete. A row that moves to another page leaves a copy in the free space
// of the old one. The copy outlives the row. So a while after a message was erased, the free space of every page is wiped.
type scrubber struct {
	db    *sql.DB // the one that writes
	read  *sql.DB
	cfg   SQLiteConfig
	ctx   context.Context // ends with the store
	end   context.CancelFunc
	tasks sync.WaitGroup

	mu     sync.Mutex
	timer  *time.Timer // nil when nothing is due
	erased bool        // since the last wiping began
	wiping bool
	closed bool
}

func newScrubber(write, read *sql.DB, cfg SQLiteConfig) *scrubber {
	ctx, end := context.WithCancel(context.Background())
	return &scrubber{db: write, read: read, cfg: cfg, ctx: ctx, end: end}
}

// scrubPatience is how long everybody may be kept from writing for the sake of readers of what is in the log.
const scrubPatience = 50 * time.Millisecond

// due says that something was deleted. It does not wait. There may be no scrubber.
func (s *scrubber) due() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil || s.closed {
		return
	}
	s.tasks.Add(1)
	s.timer = time.AfterFunc(s.cfg.ScrubAfter, s.run)
}

// dueWiping is due, and lets free space be wiped as well. There may be no scrubber.
func (s *scrubber) dueWiping() {
	if s == nil {
		return
	}
	s.mu.Lock()
	s.erased = true
	s.mu.Unlock()
	s.due()
}

// wipeAgain lets free space be wiped if messages of the file were ever changed, or removed by age: the process before may have ended before it had done so.
func (s *Store) wipeAgain(ctx context.Context) error {
	var changed bool
	err := s.db.read.NewRaw("SELECT EXISTS (SELECT 1 FROM parley_changes)").Scan(ctx, &changed)
	if changed {
		s.db.scrub.dueWiping()
	}
	return err
}

func (s *scrubber) run() {
	defer s.tasks.Done()
	s.mu.Lock()
	s.timer = nil // what is deleted from here on is due again
	s.mu.Unlock()
	if done, err := s.cut(); err != nil || !done {
		s.due()
		return
	}
	s.mu.Lock()
	now := s.erased && !s.wiping
	if now {
		s.erased, s.wiping = false, true
	}
	s.mu.Unlock()
	if !now {
		return
	}
	wiped, err := s.wipe()
	s.mu.Lock()
	s.wiping = false
	s.erased = s.erased || err != nil
	again := s.erased || wiped > 0 // the log holds the pages as they were before
	s.mu.Unlock()
	if again {
		s.due()
	}
}

const (
	// wipeChunk is how many pages are looked at together.
	wipeChunk = 256
	// wipeRest is how many times as long as it took to look at them, nothing is done then.
	wipeRest = 9
	// wipeMost bounds the pages of a file whose free space can be told from what is stored: no page number begins with a byte that a page
	// of rows begins with.
	wipeMost = 1 << 25
)

// wipe writes zeros over the free space of every page in which there is something else, and returns how many these were. What is erased
// before it begins is in no page after it: only rows that are stored are ever copied to another page.
func (s *scrubber) wipe() (wiped int, err error) {
	var pages, vacuum int
	if err := s.read.QueryRowContext(s.ctx, "PRAGMA page_count").Scan(&pages); err != nil {
		return 0, err
	}
	if err := s.read.QueryRowContext(s.ctx, "PRAGMA auto_vacuum").Scan(&vacuum); err != nil {
		return 0, err
	}
	if pages >= wipeMost || vacuum != 0 { // there are pages of other kinds then
		return 0, nil
	}
	rest := time.NewTimer(0)
	defer rest.Stop()
	for from := 2; from <= pages; from += wipeChunk {
		select {
		case <-rest.C:
		case <-s.ctx.Done():
			return wiped, s.ctx.Err()
		}
		began := time.Now()
		dirty, err := s.dirty(from, min(from+wipeChunk-1, pages))
		if err == nil && len(dirty) > 0 {
			err = s.wipePages(dirty)
		}
		if err != nil {
			return wiped, err
		}
		wiped += len(dirty)
		rest.Reset(wipeRest * time.Since(began))
	}
	return wiped, nil
}

// dirty returns the pages among those from first to last whose free space is not empty.
func (s *scrubber) dirty(first, last int) (pages []int, err error) {
	rows, err := s.read.QueryContext(s.ctx, "WITH RECURSIVE n (i) AS (SELECT ? UNION ALL SELECT i + 1 FROM n WHERE i < ?) "+
		"SELECT pgno, data FROM n CROSS JOIN sqlite_dbpage ON pgno = i", first, last)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var page int
		var data sql.RawBytes
		if err := rows.Scan(&page, &data); err != nil {
			return nil, err
		}
		if !empty(freeSpace(data)) {
			pages = append(pages, page)
		}
	}
	return pages, rows.Err()
}

// wipePages empties the free space of pages in one transaction.
func (s *scrubber) wipePages(pages []int) (err error) {
	tx, err := s.db.BeginTx(s.ctx, nil)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tx.Rollback())
		}
	}()
	for _, page := range pages {
		var data []byte
		if err := tx.QueryRowContext(s.ctx, "SELECT data FROM sqlite_dbpage WHERE pgno = ?", page).Scan(&data); err != nil {
			return err
		}
		free := freeSpace(data)
		if empty(free) {
			continue
		}
		clear(free)
		if _, err := tx.ExecContext(s.ctx, "UPDATE sqlite_dbpage SET data = ? WHERE pgno = ?", data, page); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// freeSpace returns what a page of rows, which is not the first of a file, has between the places of its rows and the rows: see "B-tree Pages"
// in SQLite's file format. It returns nothing of any other page.
func freeSpace(page []byte) []byte {
	const inner, innerKeys, leaf, leafKeys = 5, 2, 13, 10
	if len(page) < smallest {
		return nil
	}
	header := 8
	switch page[0] {
	case leaf, leafKeys:
	case inner, innerKeys:
		header = 12
	default:
		return nil
	}
	rows, content := int(binary.BigEndian.Uint16(page[3:])), int(binary.BigEndian.Uint16(page[5:]))
	if content == 0 {
		content = 1 << 16
	}
	if from := header + 2*rows; from < content && content <= len(page) {
		return page[from:content]
	}
	return nil
}

// noBytes are as many zeros as a page has at most.
var noBytes [1 << 16]byte

func empty(b []byte) bool { return bytes.Equal(b, noBytes[:len(b)]) }

// cut folds the log into the file and cuts it off, unless somebody reads from it.
func (s *scrubber) cut() (done bool, err error) {
	conn, err := s.db.Conn(s.ctx)
	if err != nil {
		return false, err
	}
	var busy, pages, folded int
	err = withBusyTimeout(s.ctx, conn, scrubPatience, func() error {
		return conn.QueryRowContext(s.ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &folded)
	})
	return err == nil && busy == 0, err
}

// close waits for what is under way. Nothing is due any more: closing the last connection removes the log.
func (s *scrubber) close() {
	if s == nil {
		return
	}
	s.mu.Lock()
	s.closed = true
	if s.timer != nil && s.timer.Stop() {
		s.tasks.Done()
	}
	s.mu.Unlock()
	s.end()
	s.tasks.Wait()
}
