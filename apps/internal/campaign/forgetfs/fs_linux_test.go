package forgetfs_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/parley-chat/parley/apps/internal/campaign/forgetfs"
)

// writerVariable makes the test binary a program that writes, in the way that it names, to the folder that is the value behind the colon.
const writerVariable = "PARLEY_TEST_WRITER"

func TestMain(m *testing.M) {
	if how, folder, ok := strings.Cut(os.Getenv(writerVariable), ":"); ok {
		if err := writers[how](folder); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// mount makes a file system for t.
func mount(t *testing.T, c forgetfs.Config) *forgetfs.FS {
	t.Helper()
	if err := forgetfs.Available(); err != nil {
		t.Skip(err)
	}
	f, err := forgetfs.Mount(t.TempDir(), c)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, f.Close()) })
	return f
}

// cut cuts the power and brings it back.
func cut(t *testing.T, f *forgetfs.FS, s forgetfs.Survival) forgetfs.Lost {
	t.Helper()
	lost, err := f.Cut(forgetfs.Cut{Survival: s})
	require.NoError(t, err)
	require.NoError(t, f.Restore())
	return lost
}

// create makes a file with this content, and leaves it open.
func create(t *testing.T, path, content string) *os.File {
	t.Helper()
	f, err := os.Create(path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	_, err = f.WriteString(content)
	require.NoError(t, err)
	return f
}

// sync syncs a file or a folder.
func sync(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	require.NoError(t, f.Close())
}

// durable makes a file durable, its name too.
func durable(t *testing.T, path, content string) {
	t.Helper()
	f := create(t, path, content)
	require.NoError(t, f.Sync())
	require.NoError(t, f.Close())
	sync(t, filepath.Dir(path))
}

// tree is every file below root with its content, folders with none.
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	require.NoError(t, filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil || d.IsDir() {
			all[name] = "folder"
			return err
		}
		content, err := os.ReadFile(path)
		all[name] = string(content)
		return err
	}))
	return all
}

// TestRules has one case for each rule of what is durable: what a program does, and what is there after the cut.
func TestRules(t *testing.T) {
	t.Parallel()
	// Each begins with a file old, which is durable.
	for _, c := range []struct {
		name string
		do   func(t *testing.T, at string)
		want map[string]string
	}{
		{"nothing is done", func(*testing.T, string) {}, map[string]string{"old": "old"}},
		{"a write", func(t *testing.T, at string) {
			require.NoError(t, os.WriteFile(at+"/old", []byte("new content"), 0o600))
		}, map[string]string{"old": "old"}},
		{"a write and fsync", func(t *testing.T, at string) {
			require.NoError(t, os.WriteFile(at+"/old", []byte("new content"), 0o600))
			sync(t, at+"/old")
		}, map[string]string{"old": "new content"}},
		{"a write and fdatasync", func(t *testing.T, at string) {
			f, err := os.OpenFile(at+"/old", os.O_RDWR|os.O_APPEND, 0)
			require.NoError(t, err)
			_, err = f.WriteString(" and new")
			require.NoError(t, err)
			require.NoError(t, unix.Fdatasync(int(f.Fd())))
			_, err = f.WriteString(" and lost")
			require.NoError(t, err)
			require.NoError(t, f.Close())
		}, map[string]string{"old": "old and new"}},
		{"a write through O_SYNC", func(t *testing.T, at string) {
			f, err := os.OpenFile(at+"/old", os.O_WRONLY|os.O_SYNC, 0)
			require.NoError(t, err)
			_, err = f.WriteString("synced")
			require.NoError(t, err)
			require.NoError(t, f.Close())
		}, map[string]string{"old": "synced"}},
		{"a write through O_DSYNC", func(t *testing.T, at string) {
			f, err := os.OpenFile(at+"/old", os.O_WRONLY|syscall.O_DSYNC, 0)
			require.NoError(t, err)
			_, err = f.WriteString("synced")
			require.NoError(t, err)
			require.NoError(t, f.Close())
		}, map[string]string{"old": "synced"}},
		{"a write through O_DIRECT and O_DSYNC", func(t *testing.T, at string) {
			writeDirectly(t, at+"/old", syscall.O_DSYNC)
		}, map[string]string{"old": strings.Repeat("d", forgetfs.PageSize)}},
		{"a write through O_DIRECT", func(t *testing.T, at string) {
			writeDirectly(t, at+"/old", 0)
		}, map[string]string{"old": "old"}},
		{"a write and sync_file_range", func(t *testing.T, at string) {
			f := create(t, at+"/old", "new content")
			require.NoError(t, unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER))
		}, map[string]string{"old": "old"}},
		{"a write through a mapping", func(t *testing.T, at string) {
			runHelper(t, "writes through a mapping", at)
		}, map[string]string{"old": "old"}},
		{"a write through a mapping and msync", func(t *testing.T, at string) {
			runHelper(t, "writes through a mapping and syncs", at)
		}, map[string]string{"old": "map"}},
		{"truncate", func(t *testing.T, at string) {
			require.NoError(t, os.Truncate(at+"/old", 1))
		}, map[string]string{"old": "old"}},
		{"truncate and fsync", func(t *testing.T, at string) {
			require.NoError(t, os.Truncate(at+"/old", 1))
			sync(t, at+"/old")
		}, map[string]string{"old": "o"}},
		{"truncate, longer again, and fsync", func(t *testing.T, at string) {
			require.NoError(t, os.Truncate(at+"/old", 1))
			require.NoError(t, os.Truncate(at+"/old", 3))
			sync(t, at+"/old")
		}, map[string]string{"old": "o\x00\x00"}},
		{"fallocate and fsync", func(t *testing.T, at string) {
			f, err := os.OpenFile(at+"/old", os.O_RDWR, 0)
			require.NoError(t, err)
			require.NoError(t, unix.Fallocate(int(f.Fd()), 0, 0, 5))
			require.NoError(t, f.Sync())
			require.NoError(t, f.Close())
		}, map[string]string{"old": "old\x00\x00"}},
		{"a new file, synced, whose folder was not", func(t *testing.T, at string) {
			require.NoError(t, create(t, at+"/new", "new").Sync())
		}, map[string]string{"old": "old"}},
		{"a new file, not synced, whose folder was", func(t *testing.T, at string) {
			create(t, at+"/new", "new")
			sync(t, at)
		}, map[string]string{"old": "old", "new": ""}},
		{"a new file, synced with its folder", func(t *testing.T, at string) {
			durable(t, at+"/new", "new")
		}, map[string]string{"old": "old", "new": "new"}},
		{"a name removed", func(t *testing.T, at string) {
			require.NoError(t, os.Remove(at+"/old"))
		}, map[string]string{"old": "old"}},
		{"a name removed, and the folder synced", func(t *testing.T, at string) {
			require.NoError(t, os.Remove(at+"/old"))
			sync(t, at)
		}, map[string]string{}},
		{"renamed", func(t *testing.T, at string) {
			require.NoError(t, os.Rename(at+"/old", at+"/new"))
		}, map[string]string{"old": "old"}},
		{"renamed, and the folder synced", func(t *testing.T, at string) {
			require.NoError(t, os.Rename(at+"/old", at+"/new"))
			sync(t, at)
		}, map[string]string{"new": "old"}},
		{"replaced by rename, file and folder synced", func(t *testing.T, at string) {
			require.NoError(t, create(t, at+"/new", "new").Sync())
			require.NoError(t, os.Rename(at+"/new", at+"/old"))
			sync(t, at)
		}, map[string]string{"old": "new"}},
		{"replaced by rename, the folder synced alone", func(t *testing.T, at string) {
			create(t, at+"/new", "new")
			require.NoError(t, os.Rename(at+"/new", at+"/old"))
			sync(t, at)
		}, map[string]string{"old": ""}},
		{"replaced by rename, the file synced alone", func(t *testing.T, at string) {
			require.NoError(t, create(t, at+"/new", "new").Sync())
			require.NoError(t, os.Rename(at+"/new", at+"/old"))
		}, map[string]string{"old": "old"}},
		{"moved to another folder, whose names were synced", func(t *testing.T, at string) {
			require.NoError(t, os.Mkdir(at+"/sub", 0o700))
			sync(t, at)
			require.NoError(t, os.Rename(at+"/old", at+"/sub/old"))
			sync(t, at+"/sub")
		}, map[string]string{"sub": "folder", "sub/old": "old"}},
		{"a folder, synced, whose parent was not", func(t *testing.T, at string) {
			require.NoError(t, os.Mkdir(at+"/sub", 0o700))
			durable(t, at+"/sub/new", "new")
		}, map[string]string{"old": "old"}},
		{"a folder, synced, whose parent was too", func(t *testing.T, at string) {
			require.NoError(t, os.Mkdir(at+"/sub", 0o700))
			durable(t, at+"/sub/new", "new")
			sync(t, at)
		}, map[string]string{"old": "old", "sub": "folder", "sub/new": "new"}},
		{"a second name", func(t *testing.T, at string) {
			require.NoError(t, os.Link(at+"/old", at+"/second"))
			sync(t, at)
			require.NoError(t, os.Remove(at+"/old"))
		}, map[string]string{"old": "old", "second": "old"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := mount(t, forgetfs.Config{})
			durable(t, f.Path()+"/old", "old")
			c.do(t, f.Path())
			at := t.TempDir()
			require.NoError(t, f.Snapshot(at))
			assert.Equal(t, c.want, tree(t, at), "the disk before the cut")
			cut(t, f, forgetfs.Nothing)
			assert.Equal(t, c.want, tree(t, f.Path()), "after it")
			require.NoError(t, f.Sync())
			cut(t, f, forgetfs.Nothing)
			assert.Equal(t, c.want, tree(t, f.Path()), "what was there is durable")
		})
	}
}

// writeDirectly writes a page around the kernel's cache.
func writeDirectly(t *testing.T, path string, flags int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|syscall.O_DIRECT|flags, 0)
	require.NoError(t, err)
	page, err := unix.Mmap(-1, 0, forgetfs.PageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE) // aligned
	require.NoError(t, err)
	copy(page, strings.Repeat("d", len(page)))
	_, err = f.Write(page)
	require.NoError(t, err)
	require.NoError(t, unix.Munmap(page))
	require.NoError(t, f.Close())
}

// runHelper runs one of the programs in writers that end by themselves. A mapping is touched in a process of its own: Go's runtime would wait for a page that
// this very process is to give.
func runHelper(t *testing.T, how, folder string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), writerVariable+"="+how+":"+folder)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// writeMapped writes "map" through a mapping of a file of three bytes.
func writeMapped(folder string, then func([]byte) error) error {
	f, err := os.OpenFile(folder+"/old", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	m, err := unix.Mmap(int(f.Fd()), 0, 3, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	copy(m, "map")
	return then(m)
}

func TestProgramsSeeWhatTheyWrote(t *testing.T) {
	t.Parallel()
	f := mount(t, forgetfs.Config{})
	at := f.Path()
	content := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
	require.NoError(t, os.WriteFile(at+"/a", content, 0o640))
	file, err := os.OpenFile(at+"/a", os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = file.WriteAt([]byte("in between"), 4090)
	require.NoError(t, err)
	copy(content[4090:], "in between")
	require.NoError(t, file.Sync())
	_, err = file.WriteAt([]byte("and again"), 8190)
	require.NoError(t, err)
	copy(content[8190:], "and again")
	require.NoError(t, file.Truncate(9000))
	require.NoError(t, file.Close())
	require.NoError(t, os.Mkdir(at+"/sub", 0o750))
	require.NoError(t, os.Rename(at+"/a", at+"/sub/b"))
	require.NoError(t, os.Symlink("sub/b", at+"/link"))
	check := func() {
		t.Helper()
		got, err := os.ReadFile(at + "/link")
		require.NoError(t, err)
		assert.Equal(t, content[:9000], got)
		info, err := os.Stat(at + "/sub/b")
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o640), info.Mode())
	}
	check()
	require.NoError(t, f.Sync())
	cut(t, f, forgetfs.Nothing)
	check()
	require.ErrorIs(t, os.Remove(at+"/sub"), syscall.ENOTEMPTY)
	require.ErrorIs(t, os.Rename(at+"/link", at+"/sub"), os.ErrExist)
	require.ErrorIs(t, os.Mkdir(at+"/sub", 0o700), os.ErrExist)
	require.NoError(t, os.RemoveAll(at+"/sub"))
	require.NoError(t, os.Remove(at+"/link"))
	assert.Empty(t, tree(t, at))
}

// TestModesHold checks that nobody reads what is another's.
func TestModesHold(t *testing.T) {
	t.Parallel()
	f := mount(t, forgetfs.Config{})
	require.NoError(t, os.Chmod(f.Path(), 0o755))
	require.NoError(t, os.WriteFile(f.Path()+"/mine", []byte("mine"), 0o600))
	require.NoError(t, os.WriteFile(f.Path()+"/all", []byte("all"), 0o644))
	// Its parents are the superuser's alone, so nobody gets there by the path.
	folder, err := os.Open(f.Path())
	require.NoError(t, err)
	defer folder.Close()
	read := func(name string) error {
		cmd := exec.Command("/bin/cat", "/proc/self/fd/3/"+name)
		cmd.ExtraFiles = []*os.File{folder}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		return cmd.Run()
	}
	require.Error(t, read("mine"))
	require.NoError(t, read("all"))
}

func TestOpenFilesFailAfterACut(t *testing.T) {
	t.Parallel()
	for _, hold := range []bool{false, true} {
		t.Run(fmt.Sprintf("hold=%t", hold), func(t *testing.T) {
			t.Parallel()
			f := mount(t, forgetfs.Config{})
			file := create(t, f.Path()+"/a", "content")
			_, err := f.Cut(forgetfs.Cut{Hold: hold})
			require.NoError(t, err)
			_, err = f.Cut(forgetfs.Cut{})
			require.Error(t, err, "there is no power to cut")
			failed := make(chan error, 1)
			go func() {
				_, err := file.WriteString("more")
				failed <- errors.Join(err, file.Sync())
			}()
			if !hold {
				require.ErrorIs(t, <-failed, syscall.EIO)
			}
			require.NoError(t, f.Restore())
			if hold {
				require.Error(t, <-failed)
			}
			_, err = file.WriteString("more")
			require.Error(t, err, "it is of another mount")
			require.NoError(t, os.WriteFile(f.Path()+"/b", nil, 0o600))
		})
	}
}

// TestASeedDrawsTheSame checks that two cuts with one seed leave the same.
func TestASeedDrawsTheSame(t *testing.T) {
	t.Parallel()
	run := func(seed uint64, s forgetfs.Survival) (map[string]string, forgetfs.Lost) {
		f := mount(t, forgetfs.Config{Seed: seed})
		for i := range 20 {
			create(t, fmt.Sprintf("%s/%d", f.Path(), i), strings.Repeat(strconv.Itoa(i), 20_000))
		}
		lost := cut(t, f, s)
		return tree(t, f.Path()), lost
	}
	different := false
	for seed := range uint64(5) {
		for _, s := range []forgetfs.Survival{forgetfs.Some, forgetfs.Torn} {
			first, lost := run(seed, s)
			second, _ := run(seed, s)
			require.Equal(t, first, second)
			require.Equal(t, 20, lost.Changes)
			require.Len(t, first, lost.ChangesKept)
			other, _ := run(seed+100, s)
			different = different || len(first) != len(other)
		}
	}
	assert.True(t, different, "another seed draws something else")
}

// TestARenameHappensOrNot replaces a file by rename without a sync of the folder, again and again: it is the old one or the new one,
// never none; and over many seeds it is each.
func TestARenameHappensOrNot(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	for seed := range uint64(30) {
		f := mount(t, forgetfs.Config{Seed: seed})
		require.NoError(t, os.Mkdir(f.Path()+"/sub", 0o700))
		durable(t, f.Path()+"/sub/a", "old")
		sync(t, f.Path())
		require.NoError(t, create(t, f.Path()+"/new", "new").Sync())
		sync(t, f.Path())
		require.NoError(t, os.Rename(f.Path()+"/new", f.Path()+"/sub/a"))
		cut(t, f, forgetfs.Some)
		all := tree(t, f.Path())
		_, beside := all["new"]
		require.Equal(t, all["sub/a"] == "old", beside, "the name is taken away where it is given: %v", all)
		seen[all["sub/a"]]++
	}
	assert.Len(t, seen, 2)
	assert.Positive(t, seen["old"])
	assert.Positive(t, seen["new"])
}

// TestPagesSurvive overwrites and lengthens a durable file: each page is old or new, and the file has no gap unless pages are torn.
func TestPagesSurvive(t *testing.T) {
	t.Parallel()
	const oldPages, newPages = 10, 20
	var mixed, grown, gaps, torn bool
	for seed := range uint64(40) {
		for _, s := range []forgetfs.Survival{forgetfs.Some, forgetfs.Torn} {
			f := mount(t, forgetfs.Config{Seed: seed})
			durable(t, f.Path()+"/a", strings.Repeat("o", oldPages*forgetfs.PageSize))
			file, err := os.OpenFile(f.Path()+"/a", os.O_WRONLY, 0)
			require.NoError(t, err)
			_, err = file.WriteString(strings.Repeat("n", newPages*forgetfs.PageSize))
			require.NoError(t, err)
			require.NoError(t, file.Close())
			lost := cut(t, f, s)
			require.Equal(t, newPages, lost.Pages)
			content, err := os.ReadFile(f.Path() + "/a")
			require.NoError(t, err)
			require.GreaterOrEqual(t, len(content), oldPages*forgetfs.PageSize)
			kinds := map[string]int{}
			for page := range slices.Chunk(content, forgetfs.PageSize) {
				letters := map[byte]bool{}
				for _, b := range page {
					letters[b] = true
				}
				kind := ""
				for _, l := range "on\x00" {
					if letters[byte(l)] {
						kind += string(l)
					}
				}
				kinds[kind]++
			}
			if s == forgetfs.Some {
				assert.Len(t, content, (kinds["o"]+kinds["n"])*forgetfs.PageSize, "a page is torn or missing: %v", kinds)
				assert.Equal(t, lost.PagesKept, kinds["n"])
			}
			mixed = mixed || kinds["o"] > 0 && kinds["n"] > 0
			grown = grown || len(content) > oldPages*forgetfs.PageSize
			gaps = gaps || kinds["\x00"] > 0
			torn = torn || kinds["on"] > 0
		}
	}
	assert.True(t, mixed && grown && gaps && torn, "mixed %t, grown %t, gaps %t, torn %t", mixed, grown, gaps, torn)
}

// TestLimitsOfWhatIsUnsynced checks that what exceeds them is durable, in order.
func TestLimitsOfWhatIsUnsynced(t *testing.T) {
	t.Parallel()
	f := mount(t, forgetfs.Config{MaxUnsynced: 8 * forgetfs.PageSize, MaxChanges: 10})
	for i := range 11 {
		create(t, fmt.Sprintf("%s/%02d", f.Path(), i), "")
	}
	require.NoError(t, os.WriteFile(f.Path()+"/00", make([]byte, 9*forgetfs.PageSize), 0o600))
	require.Less(t, f.Stats().Unsynced, int64(9*forgetfs.PageSize))
	cut(t, f, forgetfs.Nothing)
	all := tree(t, f.Path())
	require.Len(t, all, 6)
	assert.Len(t, all["00"], 9*forgetfs.PageSize)

	for name, c := range map[string]forgetfs.Config{"SyncTime": {SyncTime: -1}, "MaxUnsynced": {MaxUnsynced: 1}, "MaxChanges": {MaxChanges: -1}} {
		_, err := forgetfs.Mount(t.TempDir(), c)
		require.ErrorContains(t, err, name)
	}
	_, err := forgetfs.Mount(t.TempDir()+"/none", forgetfs.Config{})
	require.Error(t, err)
}

func TestNothingIsLeftBehind(t *testing.T) {
	t.Parallel()
	f := mount(t, forgetfs.Config{})
	file := create(t, f.Path()+"/a", "content")
	require.NoError(t, file.Sync())
	require.NoError(t, os.Remove(f.Path()+"/a"))
	sync(t, f.Path())
	require.NoError(t, f.Close(), "also while a file is open")
	require.NoError(t, f.Close())
	mounts, err := os.ReadFile("/proc/mounts")
	require.NoError(t, err)
	assert.NotContains(t, string(mounts), f.Path())
}

// writers are programs. Most say on their output how many records they have stored, and write until they are killed.
var writers = map[string]func(folder string) error{
	"writes through a mapping": func(folder string) error { return writeMapped(folder, func([]byte) error { return nil }) },
	"writes through a mapping and syncs": func(folder string) error {
		return writeMapped(folder, func(m []byte) error { return unix.Msync(m, unix.MS_SYNC) })
	},
	"forgets to sync": func(folder string) error { return appendRecords(folder, func(*os.File) error { return nil }) },
	"syncs":           func(folder string) error { return appendRecords(folder, (*os.File).Sync) },
	"syncs after it has said so": func(folder string) error {
		f, err := os.OpenFile(folder+"/log", os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
		for i := 1; err == nil; i++ {
			_, err = fmt.Fprintln(f, i)
			fmt.Println(i)
			err = errors.Join(err, f.Sync())
		}
		return err
	},
	"renames and forgets the folder": func(folder string) error { return replaceFile(folder, func(string) error { return nil }) },
	"renames and syncs the folder": func(folder string) error {
		return replaceFile(folder, func(folder string) error {
			f, err := os.Open(folder)
			if err != nil {
				return err
			}
			return errors.Join(f.Sync(), f.Close())
		})
	},
}

// appendRecords appends to a log.
func appendRecords(folder string, sync func(*os.File) error) error {
	f, err := os.OpenFile(folder+"/log", os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	for i := 1; err == nil; i++ {
		if _, err = fmt.Fprintln(f, i); err == nil {
			err = sync(f)
		}
		if err == nil {
			fmt.Println(i)
		}
	}
	return err
}

// replaceFile puts a new file in the place of the last one.
func replaceFile(folder string, syncFolder func(string) error) error {
	for i := 1; ; i++ {
		f, err := os.Create(folder + "/next")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(f, i)
		if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
			err = os.Rename(folder+"/next", folder+"/log")
		}
		if err == nil {
			err = syncFolder(folder)
		}
		if err != nil {
			return err
		}
		fmt.Println(i)
	}
}

// TestAProgramThatDoesNotSyncIsCaught cuts the power under programs that acknowledge, and compares.
func TestAProgramThatDoesNotSyncIsCaught(t *testing.T) {
	t.Parallel()
	for how, wrong := range map[string]bool{
		"forgets to sync": true, "syncs": false, "syncs after it has said so": true,
		"renames and forgets the folder": true, "renames and syncs the folder": false,
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			lost := 0
			for seed := range uint64(5) {
				f := mount(t, forgetfs.Config{Seed: seed, SyncTime: 1_000_000})
				durable(t, f.Path()+"/log", "")
				acknowledged := writeUntilCut(t, f, how, 20+int(seed)*7)
				content, err := os.ReadFile(f.Path() + "/log")
				require.NoError(t, err)
				lines := strings.Fields(string(content))
				stored := 0
				if len(lines) > 0 {
					stored, err = strconv.Atoi(lines[len(lines)-1])
					require.NoError(t, err)
				}
				lost += max(0, acknowledged-stored)
				if !wrong {
					assert.GreaterOrEqual(t, stored, acknowledged, "what it has said is stored")
				}
			}
			if wrong {
				assert.Positive(t, lost, "it has said what was not stored, and was not caught")
			}
		})
	}
}

// writeUntilCut runs a writer until it has acknowledged some records, cuts the power under it, and returns how many it had acknowledged.
func writeUntilCut(t *testing.T, f *forgetfs.FS, how string, enough int) (acknowledged int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), writerVariable+"="+how+":"+f.Path())
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		acknowledged, err = strconv.Atoi(lines.Text())
		require.NoError(t, err)
		if acknowledged == enough {
			_, err := f.Cut(forgetfs.Cut{Hold: true})
			require.NoError(t, err)
			require.NoError(t, cmd.Process.Kill())
			require.NoError(t, f.Restore()) // before, it may wait for its disk
		}
	}
	require.GreaterOrEqual(t, acknowledged, enough)
	require.Error(t, cmd.Wait(), "it was killed")
	return acknowledged
}

// TestSyncedIsTold checks that Config.Synced is told what becomes durable, and nothing else.
func TestSyncedIsTold(t *testing.T) {
	t.Parallel()
	var told []string
	f := mount(t, forgetfs.Config{Synced: func(path string, offset int64, data []byte) {
		told = append(told, fmt.Sprintf("%s %d %s", path, offset, data))
	}})
	require.NoError(t, os.Mkdir(f.Path()+"/sub", 0o700))
	file := create(t, f.Path()+"/sub/a", "first")
	require.NoError(t, file.Sync())
	require.NoError(t, file.Sync())
	_, err := file.WriteAt([]byte("far away"), 2*forgetfs.PageSize)
	require.NoError(t, err)
	require.NoError(t, file.Sync())
	require.NoError(t, f.Sync())
	assert.Equal(t, []string{"/sub/a 0 first", fmt.Sprintf("/sub/a %d far away", 2*forgetfs.PageSize)}, told)
}
