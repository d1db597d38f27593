package forgetfs

import (
	"maps"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// known is for how long the kernel may use what it was told. All changes go through the kernel.
const known = 24 * time.Hour

// openFlags let the kernel keep what it has of a file when it is opened, and not ask when it is closed: a close keeps nothing. A program that is started closes
// what it inherits, and Go's runtime may wait for that with all its threads.
const openFlags = fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_NOFLUSH

// session is the disk from one mount to the next. The kernel calls its methods, many at once.
type session struct {
	fuse.RawFileSystem // what is not here is not supported
	disk               *disk

	// Under disk.mu.
	dead, hold bool
	handles    map[uint64]*handle
	next       uint64

	ended sync.Once
	over  chan struct{} // closed when those who are held may go
}

// handle is an open file or folder.
type handle struct {
	node    *node
	entries []fuse.DirEntry // of a folder, as it was when it was opened
}

func (s *session) String() string { return "forgetfs" }

// end lets those go who are held.
func (s *session) end() {
	s.disk.mu.Lock()
	s.dead = true
	s.disk.mu.Unlock()
	s.ended.Do(func() { close(s.over) })
}

// enter locks the disk, unless the power is cut. The node is what the kernel calls by this number.
func (s *session) enter(number uint64) (*node, fuse.Status) {
	s.disk.mu.Lock()
	if s.dead {
		hold := s.hold
		s.disk.mu.Unlock()
		if hold {
			<-s.over
		}
		return nil, fuse.EIO
	}
	n := s.disk.nodes[number]
	if n == nil || s.disk.failed != nil {
		s.disk.mu.Unlock()
		return nil, fuse.EIO
	}
	return n, fuse.OK
}

func (s *session) leave() { s.disk.mu.Unlock() }

func describe(n *node, a *fuse.Attr) {
	links := n.links
	if n.isFolder() {
		links = 2
	}
	*a = fuse.Attr{
		Ino: n.number, Size: uint64(n.now.size), Blocks: uint64((n.now.size + sectorSize - 1) / sectorSize), Mode: n.now.mode, Nlink: uint32(links),
		Owner: fuse.Owner{Uid: n.now.uid, Gid: n.now.gid}, Rdev: n.device, Blksize: PageSize,
	}
	a.SetTimes(&n.now.modified, &n.now.modified, &n.now.changed)
}

// entry tells the kernel of a node, which it knows from then on.
func entry(n *node, out *fuse.EntryOut) {
	n.lookups++
	out.NodeId, out.Generation = n.number, 1
	out.SetEntryTimeout(known)
	out.SetAttrTimeout(known)
	describe(n, &out.Attr)
}

func (s *session) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	folder, status := s.enter(h.NodeId)
	if status != fuse.OK {
		return status
	}
	defer s.leave()
	n := folder.names[name]
	if n == nil {
		return fuse.ENOENT
	}
	entry(n, out)
	return fuse.OK
}

// Forget tells that the kernel does not know a node any more.
func (s *session) Forget(number, lookups uint64) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if n := s.disk.nodes[number]; n != nil && !s.dead {
		n.lookups -= min(n.lookups, lookups)
		s.disk.free(n)
	}
}

func (s *session) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	n, status := s.enter(in.NodeId)
	if status != fuse.OK {
		return status
	}
	defer s.leave()
	out.SetTimeout(known)
	describe(n, &out.Attr)
	return fuse.OK
}

func (s *session) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	n, status := s.enter(in.NodeId)
	if status != fuse.OK {
		return status
	}
	defer s.leave()
	if size, ok := in.GetSize(); ok {
		if !n.isFile() {
			return fuse.EINVAL
		}
		s.disk.truncate(n, int64(size))
	}
	if mode, ok := in.GetMode(); ok {
		n.now.mode = n.now.mode&syscall.S_IFMT | mode
	}
	if uid, ok := in.GetUID(); ok {
		n.now.uid = uid
	}
	if gid, ok := in.GetGID(); ok {
		n.now.gid = gid
	}
	if at, ok := in.GetMTime(); ok {
		n.now.modified = at
	}
	n.now.changed = time.Now()
	out.SetTimeout(known)
	describe(n, &out.Attr)
	return fuse.OK
}

// add makes a node with a name in a folder, which has none of this name.
func (s *session) add(folder *node, name string, mode uint32, owner fuse.Owner) (*node, fuse.Status) {
	if folder.names == nil {
		return nil, fuse.ENOTDIR
	}
	if folder.names[name] != nil {
		return nil, fuse.Status(syscall.EEXIST)
	}
	n := s.disk.newNode(mode, owner.Uid, owner.Gid)
	s.name(folder, name, n)
	return n, fuse.OK
}

// name gives a node a name in a folder, which has none of this name.
func (s *session) name(folder *node, name string, n *node) {
	folder.names[name] = n
	n.links++
	touch(folder)
	n.now.changed = time.Now()
	s.disk.change(step{folder, name, n})
}

func touch(folder *node) {
	folder.now.modified = time.Now()
	folder.now.changed = folder.now.modified
}

func (s *session) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	folder, status := s.enter(in.NodeId)
	if status != fuse.OK {
		return status
	}
	defer s.leave()
	n, status := s.add(folder, name, in.Mode, in.Owner)
	if status == fuse.OK {
		n.device = in.Rdev
		entry(n, out)
	}
	return status
}

func (s *session) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	folder, status := s.enter(in.NodeId)
	if status != fuse.OK {
		return status
	}
	defer s.leave()
	n, status := s.add(folder, name, syscall.S_IFDIR|in.Mode&0o7777, in.Owner)
	if status == fuse.OK {
		entry(n, out)
	}
	return status
}

func (s *session) Symlink(_ <-chan struct{}, h *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	folder, status := s.enter(h.NodeId)
	if status != fuse.OK {
		return status
	}
	defer s.leave()
	n, status := s.add(folder, name, syscall.S_IFLNK|0o777, h.Owner)
	if status == fuse.OK {
		n.target = target
		n.now.size = int64(len(target))
		n.kept = n.now
		entry(n, out)
	}
	return status
}

func (s *session) Readlink(_ <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	n, status := s.enter(h.NodeId)
	if status != fuse.OK {
		return nil, status
	}
	defer s.leave()
	return []byte(n.target), fuse.OK
}

func (s *session) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	folder, status := s.enter(in.NodeId)
	if status != fuse.OK {
		return status
	}
	defer s.leave()
	n := s.disk.nodes[in.Oldnodeid]
	switch {
	case n == nil || folder.names == nil:
		return fuse.ENOENT
	case n.isFolder():
		return fuse.EPERM
	case folder.names[name] != nil:
		return fuse.Status(syscall.EEXIST)
	}
	s.name(folder, name, n)
	entry(n, out)
	return fuse.OK
}

func (s *session) Unlink(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return s.remove(h, name, false)
}

func (s *session) Rmdir(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return s.remove(h, name, true)
}

func (s *session) remove(h *fuse.InHeader, name string, isFolder bool) fuse.Status {
	folder, status := s.enter(h.NodeId)
	if status != fuse.OK {
		return status
	}
	defer s.leave()
	n := folder.names[name]
	switch {
	case n == nil:
		return fuse.ENOENT
	case isFolder && !n.isFolder():
		return fuse.ENOTDIR
	case !isFolder && n.isFolder():
		return fuse.EISDIR
	case len(n.names) > 0:
		return fuse.Status(syscall.ENOTEMPTY)
	}
	delete(folder.names, name)
	s.unlink(n)
	touch(folder)
	s.disk.change(step{folder, name, nil})
	s.disk.free(n)
	return fuse.OK
}

// unlink takes a name from a node.
func (s *session) unlink(n *node) {
	n.links--
	n.now.changed = time.Now()
}

func (s *session) Rename(_ <-chan struct{}, in *fuse.RenameIn, from, to string) fuse.Status {
	source, status := s.enter(in.NodeId)
	if status != fuse.OK {
		return status
	}
	defer s.leave()
	target := s.disk.nodes[in.Newdir]
	if target == nil || target.names == nil {
		return fuse.ENOENT
	}
	const noReplace = 1 // of renameat2
	n, old := source.names[from], target.names[to]
	switch {
	case n == nil:
		return fuse.ENOENT
	case in.Flags&^uint32(noReplace) != 0:
		return fuse.EINVAL
	case old == n:
		return fuse.OK // two names of one file: nothing is done
	case old != nil && in.Flags&noReplace != 0:
		return fuse.Status(syscall.EEXIST)
	case old != nil && old.isFolder() && !n.isFolder():
		return fuse.EISDIR
	case old != nil && !old.isFolder() && n.isFolder():
		return fuse.ENOTDIR
	case old != nil && len(old.names) > 0:
		return fuse.Status(syscall.ENOTEMPTY)
	}
	delete(source.names, from)
	target.names[to] = n
	touch(source)
	touch(target)
	n.now.changed = time.Now()
	s.disk.change(step{source, from, nil}, step{target, to, n})
	if old != nil {
		s.unlink(old)
		s.disk.free(old)
	}
	return fuse.OK
}

// opened makes a handle of a node.
func (s *session) opened(n *node, out *fuse.OpenOut) *handle {
	s.next++
	h := &handle{node: n}
	s.handles[s.next] = h
	n.opens++
	out.Fh = s.next
	return h
}

func (s *session) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	folder, status := s.enter(in.NodeId)
	if status != fuse.OK {
		return status
	}
	defer s.leave()
	n := folder.names[name]
	if n == nil {
		if n, status = s.add(folder, name, syscall.S_IFREG|in.Mode&0o7777, in.Owner); status != fuse.OK {
			return status
		}
	} else if in.Flags&syscall.O_EXCL != 0 {
		return fuse.Status(syscall.EEXIST)
	} else if in.Flags&syscall.O_TRUNC != 0 {
		s.disk.truncate(n, 0)
	}
	entry(n, &out.EntryOut)
	s.opened(n, &out.OpenOut)
	out.OpenFlags |= openFlags
	return fuse.OK
}

func (s *session) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n, status := s.enter(in.NodeId)
	if status != fuse.OK {
		return status
	}
	defer s.leave()
	if in.Flags&syscall.O_TRUNC != 0 && n.isFile() {
		s.disk.truncate(n, 0)
	}
	s.opened(n, out)
	out.OpenFlags |= openFlags
	return fuse.OK
}

func (s *session) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n, status := s.enter(in.NodeId)
	if status != fuse.OK {
		return status
	}
	defer s.leave()
	h := s.opened(n, out)
	h.entries = []fuse.DirEntry{{Name: ".", Mode: n.now.mode, Ino: n.number}, {Name: "..", Mode: n.now.mode}}
	for _, name := range slices.Sorted(maps.Keys(n.names)) {
		child := n.names[name]
		h.entries = append(h.entries, fuse.DirEntry{Name: name, Mode: child.now.mode, Ino: child.number})
	}
	return fuse.OK
}

func (s *session) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	_, status := s.enter(in.NodeId)
	if status != fuse.OK {
		return status
	}
	defer s.leave()
	h := s.handles[in.Fh]
	if h == nil {
		return fuse.EBADF
	}
	for i := in.Offset; i < uint64(len(h.entries)); i++ {
		e := h.entries[i]
		e.Off = i + 1
		if !out.AddDirEntry(e) {
			break
		}
	}
	return fuse.OK
}

func (s *session) Release(_ <-chan struct{}, in *fuse.ReleaseIn) { s.release(in) }

func (s *session) ReleaseDir(in *fuse.ReleaseIn) { s.release(in) }

func (s *session) release(in *fuse.ReleaseIn) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	h := s.handles[in.Fh]
	if h == nil || s.dead {
		return
	}
	delete(s.handles, in.Fh)
	if h.node.opens--; h.node.opens == 0 {
		s.disk.close(h.node)
	}
	s.disk.free(h.node)
}

func (s *session) Read(_ <-chan struct{}, in *fuse.ReadIn, p []byte) (fuse.ReadResult, fuse.Status) {
	n, status := s.enter(in.NodeId)
	if status != fuse.OK {
		return nil, status
	}
	defer s.leave()
	size, err := s.disk.read(n, p[:min(len(p), int(in.Size))], int64(in.Offset))
	if err != nil {
		return nil, fuse.ToStatus(err)
	}
	return fuse.ReadResultData(p[:size]), fuse.OK
}

func (s *session) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	n, status := s.enter(in.NodeId)
	if status != fuse.OK {
		return 0, status
	}
	defer s.leave()
	if err := s.disk.write(n, data, int64(in.Offset)); err != nil {
		return 0, fuse.ToStatus(err)
	}
	// The kernel asks for the sync of such a file itself, but not where it writes around its cache.
	if in.Flags&(syscall.O_SYNC|syscall.O_DSYNC) != 0 {
		s.disk.stats.Syncs++
		if err := s.disk.keep(n); err != nil {
			return 0, fuse.ToStatus(err)
		}
	}
	return uint32(len(data)), fuse.OK
}

// Flush is a close, which keeps nothing.
func (s *session) Flush(_ <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	_, status := s.enter(in.NodeId)
	if status == fuse.OK {
		s.leave()
	}
	return status
}

func (s *session) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return s.sync(in, &s.disk.stats.Syncs)
}

func (s *session) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return s.sync(in, &s.disk.stats.FolderSyncs)
}

func (s *session) sync(in *fuse.FsyncIn, count *int64) fuse.Status {
	if s.disk.config.SyncTime > 0 {
		late := time.NewTimer(s.disk.config.SyncTime)
		select {
		case <-late.C:
		case <-s.over:
			late.Stop()
		}
	}
	n, status := s.enter(in.NodeId)
	if status != fuse.OK {
		return status
	}
	defer s.leave()
	*count++
	return fuse.ToStatus(s.disk.keep(n))
}

func (s *session) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	n, status := s.enter(in.NodeId)
	if status != fuse.OK {
		return status
	}
	defer s.leave()
	const keepSize, punchHole = 1, 2
	switch end := int64(in.Offset + in.Length); in.Mode {
	case 0:
		if end > n.now.size {
			s.disk.truncate(n, end)
		}
		return fuse.OK
	case keepSize:
		return fuse.OK // there is always enough
	case keepSize | punchHole:
		return fuse.ToStatus(s.disk.zero(n, int64(in.Offset), int64(in.Length)))
	}
	return fuse.Status(syscall.EOPNOTSUPP)
}

func (s *session) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	const blocks = 1 << 28 // a terabyte
	*out = fuse.StatfsOut{Blocks: blocks, Bfree: blocks, Bavail: blocks, Files: blocks, Ffree: blocks, Bsize: PageSize, Frsize: PageSize, NameLen: 255}
	return fuse.OK
}
