package forgetfs

import (
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

const device = "/dev/fuse"

// FS is a mounted file system. Its methods may be called by several goroutines, Cut and Restore by one.
type FS struct {
	path    string
	backing string
	disk    *disk
	guard   *exec.Cmd
	alive   io.Closer // the guard unmounts when it ends
	closed  sync.Once
	failed  error // of the close

	session *session
	server  *fuse.Server
}

// Available returns nil if there can be such a file system here, or an ErrUnavailable that says what is missing.
func Available() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w: only the superuser may mount it", ErrUnavailable)
	}
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return f.Close()
}

// Mount makes an empty file system and mounts it at path, a folder that exists. Every user of the system may use it, as far as the modes of its
// files allow. What is durable is kept in a new temporary folder, as files that have numbers for names, until [FS.Close]. If this process is killed,
// a process that watches it unmounts the file system, and removes the folder.
func Mount(path string, c Config) (*FS, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := Available(); err != nil {
		return nil, err
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	backing, err := os.MkdirTemp("", "parley-forgetfs-")
	if err != nil {
		return nil, err
	}
	f := &FS{path: path, backing: backing, disk: newDisk(backing, c)}
	if err = f.watch(); err == nil {
		err = f.mount()
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Path is where the file system is mounted.
func (f *FS) Path() string { return f.path }

// watch starts a process that unmounts when its input ends, which it does with this process.
func (f *FS) watch() error {
	f.guard = exec.Command("/bin/sh", "-c", //nolint:noctx // it outlives whatever ends
		`cat > /dev/null; umount -f -l "$0" 2> /dev/null; rm -rf "$1"`, f.path, f.backing)
	f.guard.Dir = "/"
	f.guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is not for it
	alive, err := f.guard.StdinPipe()
	if err != nil {
		return err
	}
	f.alive = alive
	return f.guard.Start()
}

// mount mounts what the disk has.
func (f *FS) mount() error {
	fd, err := syscall.Open(device, syscall.O_RDWR|syscall.O_CLOEXEC, 0) // no program that is started may keep it
	if err != nil {
		return os.NewSyscallError("open "+device, err)
	}
	const most = 1 << 20 // bytes of a request
	options := fmt.Sprintf("fd=%d,rootmode=%o,user_id=%d,group_id=%d,max_read=%d,allow_other,default_permissions",
		fd, syscall.S_IFDIR, os.Geteuid(), os.Getegid(), most)
	if err := syscall.Mount("parley-forgetfs", f.path, "fuse.forgetfs", syscall.MS_NOSUID|syscall.MS_NODEV, options); err != nil {
		return errors.Join(os.NewSyscallError("mount "+f.path, err), syscall.Close(fd))
	}
	f.session = &session{RawFileSystem: fuse.NewDefaultRawFileSystem(), disk: f.disk, handles: map[uint64]*handle{}, over: make(chan struct{})}
	f.server, err = fuse.NewServer(f.session, "/dev/fd/"+strconv.Itoa(fd), &fuse.MountOptions{
		MaxWrite: most, DisableXAttrs: true, DisableReadDirPlus: true,
		// All writes go through the kernel, so that its cache is right.
		ExplicitDataCacheControl: true,
		// A file system that has gone is no news here.
		Logger: log.New(io.Discard, "", 0),
	})
	if err != nil {
		return errors.Join(fmt.Errorf("forgetfs: %w", err), syscall.Unmount(f.path, syscall.MNT_DETACH))
	}
	go f.server.Serve()
	return f.refusePoll()
}

// refusePoll has the kernel ask once whether a file is ready. The answer is that this is not supported, so that the kernel asks no more. Go's runtime
// asks when it opens a file, and would wait for an answer that it keeps this very process from giving.
func (f *FS) refusePoll() error {
	// go-fuse answers for this name.
	fd, err := syscall.Open(filepath.Join(f.path, ".go-fuse-epoll-hack"), syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("open", err)
	}
	_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	if err != nil && !errors.Is(err, syscall.EINTR) {
		return errors.Join(os.NewSyscallError("poll", err), syscall.Close(fd))
	}
	return syscall.Close(fd)
}

// unmount ends the session: whoever still waits for an answer gets an error.
func (f *FS) unmount() error {
	if f.server == nil {
		return nil
	}
	// MNT_FORCE ends what is under way; MNT_DETACH unmounts though files are open.
	err := syscall.Unmount(f.path, syscall.MNT_FORCE|syscall.MNT_DETACH)
	f.session.end()
	if err != nil {
		return os.NewSyscallError("unmount "+f.path, err)
	}
	f.server.Wait()
	f.server = nil
	return nil
}

// Sync makes everything durable, as sync(2) does on other file systems. What was written through a mapping and neither synced nor
// written back is not known here, and stays as it is.
func (f *FS) Sync() error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return f.disk.keepAll()
}

// Cut cuts the power: from now on nothing becomes durable, and every request fails. What was not synced is gone, but for what survives. What the
// kernel has in its cache can still be read through files that are open, until [FS.Restore].
func (f *FS) Cut(c Cut) (Lost, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.session.dead {
		return Lost{}, errors.New("forgetfs: the power is cut already")
	}
	f.session.dead, f.session.hold = true, c.Hold
	return f.disk.cut(c.Survival)
}

// Restore brings the power back: the file system is mounted anew, with what was durable. Files that were open before are lost to whoever has them. Without a cut
// before, nothing is forgotten but that.
func (f *FS) Restore() error {
	if err := f.unmount(); err != nil {
		return err
	}
	return f.mount()
}

// Snapshot writes what would be there after a cut with [Nothing] to a folder of another file system.
func (f *FS) Snapshot(folder string) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return f.disk.snapshot(f.disk.root, folder)
}

// Stats returns the counts.
func (f *FS) Stats() Stats {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return f.disk.stats
}

// Close unmounts the file system, and removes what is durable. Closing twice is harmless.
func (f *FS) Close() error {
	f.closed.Do(func() {
		err := f.unmount()
		f.disk.mu.Lock()
		for _, n := range f.disk.nodes {
			f.disk.close(n)
		}
		f.disk.mu.Unlock()
		err = errors.Join(err, os.RemoveAll(f.backing))
		if f.alive != nil {
			_ = f.alive.Close()
			_ = f.guard.Wait() // what it unmounts is not there any more
		}
		f.failed = err
	})
	return f.failed
}
