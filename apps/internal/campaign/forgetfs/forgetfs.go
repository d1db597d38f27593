// Package forgetfs is a file system that forgets what was not synced when its power is cut. Programs that keep
// data are run on it to find out whether what they acknowledge is on the disk: the end of a process, by kill -9
// too, leaves the cache of the operating system as it is, and a power cut does not.
//
// It is a file system in user space (FUSE), and lives on Linux, for the superuser.
//
// # Rules
//
// What is on the disk is what a cut cannot take:
//
//   - The content of a file, its length, its owner and its mode, as they were when fsync, fdatasync or msync of it
//     was called last. A write to a file that was opened with O_SYNC or O_DSYNC is followed by a sync of the file.
//   - The names in a folder, as they were when fsync of the folder was called last. Syncing a file does not keep its
//     name: that is stricter than most file systems are, and is all that POSIX promises.
//   - Only what can be reached: a synced folder is gone with a parent whose name was never synced.
//   - sync_file_range, close, sync(2) and syncfs(2) keep nothing. The last two do not reach a FUSE file system; see [FS.Sync].
//   - What a program writes through a mapping of a file (mmap) is in the kernel until msync or fsync, and is forgotten.
//
// What was not synced is forgotten, or survives in part, as [Survival] says. What survives is drawn from a seed:
//
//   - Each change of names (a file made, removed or renamed) has happened or has not. A rename is one change: the file has
//     the old name or the new one, also across folders. The changes of a folder happen in order: if one is lost, so are
//     all later ones of the folder.
//   - Each page of 4,096 bytes that was written has its new content or its old. A file grows no further than to
//     its first new page that is lost, unless [Torn] is given.
//
// A power cut takes the machine and leaves the disk. A disk that lies about its syncs is not simulated.
package forgetfs

import (
	"errors"
	"time"
)

// PageSize is the unit in which unsynced content survives, in bytes.
const PageSize = 4096

// Config is how a file system behaves. Its zero value is a good choice.
type Config struct {
	// Seed draws what survives.
	Seed uint64
	// SyncTime is how long a sync takes, as that of a disk does: programs that gather what they sync do so as they
	// would on one. Default 0: as long as it takes to write to the cache of the system below.
	SyncTime time.Duration
	// MaxUnsynced is how many bytes may be unsynced, at least [PageSize]. A write that exceeds it makes its file durable: an
	// operating system, too, writes back what does not fit into its memory. Default 1 GiB.
	MaxUnsynced int64
	// MaxChanges is how many changes of names may be unsynced, at least 1. The oldest half becomes durable beyond it. Default 100,000.
	MaxChanges int
	// Synced, if set, is told each run of bytes that becomes durable, with the path of the file, before the sync returns. It must not use
	// the file system, nor keep data. It is called by one goroutine at a time. Default: nobody is told.
	Synced func(path string, offset int64, data []byte)
}

func (c Config) withDefaults() (Config, error) {
	if c.MaxUnsynced == 0 {
		c.MaxUnsynced = 1 << 30
	}
	if c.MaxChanges == 0 {
		c.MaxChanges = 100_000
	}
	switch {
	case c.SyncTime < 0:
		return c, errors.New("forgetfs: Config.SyncTime: it is negative")
	case c.MaxUnsynced < PageSize:
		return c, errors.New("forgetfs: Config.MaxUnsynced: it is less than a page")
	case c.MaxChanges < 1:
		return c, errors.New("forgetfs: Config.MaxChanges: it is less than 1")
	}
	return c, nil
}

// Survival is how much of what was not synced survives a cut.
type Survival int

// The kinds of survival.
const (
	// Nothing of it survives.
	Nothing Survival = iota
	// Some changes of names and some whole pages survive; a file that has grown has no gaps.
	Some
	// Torn is Some, and pages can be torn too: each 512 bytes of a page are new or old. A file that has grown may have zeros
	// where pages are lost.
	Torn
)

// String is the name of s in reports.
func (s Survival) String() string {
	switch s {
	case Nothing:
		return "nothing"
	case Some:
		return "some"
	case Torn:
		return "torn"
	}
	return "unknown"
}

// Cut is how the power is cut.
type Cut struct {
	Survival Survival
	// Hold lets requests wait until [FS.Restore], so that programs can be killed before they are told. Otherwise they fail with EIO.
	Hold bool
}

// Lost is what was not synced when the power was cut.
type Lost struct {
	// Files is how many files had content that was not synced.
	Files int
	// Pages is how many pages, and PagesKept how many of them survived, in part at least.
	Pages, PagesKept int
	// Changes is how many changes of names, and ChangesKept how many of them survived.
	Changes, ChangesKept int
}

// Stats counts what was asked of a file system since it was made.
type Stats struct {
	Writes, Syncs, FolderSyncs int64
	// Unsynced is how many bytes a cut could take now.
	Unsynced int64
}

// ErrUnavailable says that there can be no such file system here: the system is not Linux, has no /dev/fuse, or this is not the superuser.
var ErrUnavailable = errors.New("forgetfs: not available")
