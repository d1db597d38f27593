package forgetfs

import (
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// sectorSize is the unit in which a page can be torn, in bytes.
const sectorSize = 512

// disk has the files, as programs see them and as they are on the disk. What is durable of a file's content is in a file of its
// own in folder. Its methods other than those of tree access are called under mu.
type disk struct {
	mu     sync.Mutex
	folder string
	config Config
	random *rand.Rand
	nodes  map[uint64]*node // by number
	next   uint64
	root   *node
	// pending are the changes of names that are not durable, in order.
	pending []*change
	stats   Stats
	failed  error // of the folder below; everything fails from then on
}

// attributes are what a file is beside its content.
type attributes struct {
	mode     uint32 // kind and permissions
	uid, gid uint32
	size     int64
	modified time.Time
	changed  time.Time
}

// node is a file, a folder or anything else that has names.
type node struct {
	number uint64
	now    attributes // as programs see it
	kept   attributes // as it is on the disk
	device uint32
	target string // of a symbolic link; it is as durable as its name

	// names are those in a folder, nil for anything else.
	names, keptNames map[string]*node
	// links is how many names lead here.
	links, keptLinks int
	// changes is how many pending changes name it.
	changes int
	lookups uint64 // the kernel knows it
	opens   int

	// pages are what was written and not synced. Under them are the durable content up to base, and zeros beyond.
	pages   map[int64][]byte
	base    int64
	content *os.File // durable; nil unless it is open
}

func (n *node) isFolder() bool { return n.now.mode&syscall.S_IFMT == syscall.S_IFDIR }
func (n *node) isFile() bool   { return n.now.mode&syscall.S_IFMT == syscall.S_IFREG }

// change is one change of names: it has happened on the disk, or it has not.
type change struct {
	folders []*node // those that it changes: one or two
	steps   []step
}

// step gives a name in a folder to a node, or takes the name away if it is nil.
type step struct {
	folder *node
	name   string
	node   *node
}

func newDisk(folder string, c Config) *disk {
	d := &disk{folder: folder, config: c, random: rand.New(rand.NewPCG(c.Seed, 0)), nodes: map[uint64]*node{}, next: 1}
	d.root = d.newNode(syscall.S_IFDIR|0o755, uint32(os.Geteuid()), uint32(os.Getegid()))
	d.root.links, d.root.keptLinks = 1, 1
	return d
}

func (d *disk) newNode(mode, uid, gid uint32) *node {
	at := time.Now()
	n := &node{number: d.next, now: attributes{mode: mode, uid: uid, gid: gid, modified: at, changed: at}}
	n.kept = n.now
	if n.isFolder() {
		n.names, n.keptNames = map[string]*node{}, map[string]*node{}
	}
	d.nodes[n.number] = n
	d.next++
	return n
}

// change notes a change of names that programs see already.
func (d *disk) change(steps ...step) {
	c := &change{steps: steps}
	for _, s := range steps {
		if len(c.folders) == 0 || c.folders[0] != s.folder {
			c.folders = append(c.folders, s.folder)
		}
		s.folder.changes++
		if s.node != nil {
			s.node.changes++
		}
	}
	d.pending = append(d.pending, c)
	if len(d.pending) > d.config.MaxChanges {
		half := (len(d.pending) + 1) / 2
		for _, c := range d.pending[:half] {
			d.apply(c)
		}
		d.pending = append([]*change(nil), d.pending[half:]...)
	}
}

// apply makes a change durable.
func (d *disk) apply(c *change) {
	for _, s := range c.steps {
		if old := s.folder.keptNames[s.name]; old != nil {
			old.keptLinks--
			delete(s.folder.keptNames, s.name)
			d.free(old)
		}
		if s.node != nil {
			s.folder.keptNames[s.name] = s.node
			s.node.keptLinks++
		}
	}
	d.forget(c)
}

// forget lets a change go, durable or not.
func (d *disk) forget(c *change) {
	for _, s := range c.steps {
		s.folder.changes--
		if s.node != nil {
			s.node.changes--
			d.free(s.node)
		}
		d.free(s.folder)
	}
}

// free forgets a node that nothing leads to any more.
func (d *disk) free(n *node) {
	if n == d.root || n.links > 0 || n.keptLinks > 0 || n.changes > 0 || n.lookups > 0 || n.opens > 0 || d.nodes[n.number] != n {
		return
	}
	d.drop(n)
	delete(d.nodes, n.number)
	d.close(n)
	if n.isFile() {
		if err := os.Remove(d.file(n)); err != nil && !errors.Is(err, os.ErrNotExist) {
			d.failed = err
		}
	}
}

// drop forgets the pages of a node.
func (d *disk) drop(n *node) {
	d.stats.Unsynced -= int64(len(n.pages)) * PageSize
	n.pages = nil
}

func (d *disk) file(n *node) string {
	return filepath.Join(d.folder, strconv.FormatUint(n.number, 10))
}

// open returns the file that has the durable content.
func (d *disk) open(n *node) (*os.File, error) {
	if n.content == nil {
		f, err := os.OpenFile(d.file(n), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			d.failed = err
			return nil, err
		}
		n.content = f
	}
	return n.content, nil
}

func (d *disk) close(n *node) {
	if n.content != nil {
		if err := n.content.Close(); err != nil {
			d.failed = err
		}
		n.content = nil
	}
}

// read fills p from offset, as programs see it, and returns how much there is.
func (d *disk) read(n *node, p []byte, offset int64) (int, error) {
	if offset >= n.now.size {
		return 0, nil
	}
	p = p[:min(int64(len(p)), n.now.size-offset)]
	clear(p)
	if below := min(n.base, offset+int64(len(p))) - offset; below > 0 {
		f, err := d.open(n)
		if err != nil {
			return 0, err
		}
		if _, err := f.ReadAt(p[:below], offset); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
	}
	if len(n.pages) == 0 {
		return len(p), nil
	}
	for at := offset - offset%PageSize; at < offset+int64(len(p)); at += PageSize {
		page := n.pages[at/PageSize]
		if page == nil {
			continue
		}
		if at < offset {
			copy(p, page[offset-at:])
		} else {
			copy(p[at-offset:], page)
		}
	}
	return len(p), nil
}

// page returns a page to write to. Its old content is of no use if whole is true.
func (d *disk) page(n *node, index int64, whole bool) ([]byte, error) {
	if p := n.pages[index]; p != nil {
		return p, nil
	}
	p := make([]byte, PageSize)
	if !whole {
		if _, err := d.read(n, p, index*PageSize); err != nil {
			return nil, err
		}
	}
	if n.pages == nil {
		n.pages = map[int64][]byte{}
	}
	n.pages[index] = p
	d.stats.Unsynced += PageSize
	return p, nil
}

// write writes to what programs see.
func (d *disk) write(n *node, data []byte, offset int64) error {
	for rest, at := data, offset; len(rest) > 0; {
		p, err := d.page(n, at/PageSize, at%PageSize == 0 && len(rest) >= PageSize)
		if err != nil {
			return err
		}
		done := copy(p[at%PageSize:], rest)
		rest, at = rest[done:], at+int64(done)
	}
	n.now.size = max(n.now.size, offset+int64(len(data)))
	n.now.modified = time.Now()
	n.now.changed = n.now.modified
	d.stats.Writes++
	if d.stats.Unsynced > d.config.MaxUnsynced {
		return d.keep(n)
	}
	return nil
}

// truncate cuts a file off, or lengthens it with zeros.
func (d *disk) truncate(n *node, size int64) {
	if size < n.now.size {
		for index, p := range n.pages {
			switch at := index * PageSize; {
			case at >= size:
				delete(n.pages, index)
				d.stats.Unsynced -= PageSize
			case at+PageSize > size:
				clear(p[size-at:])
			}
		}
		n.base = min(n.base, size)
	}
	n.now.size = size
	n.now.modified = time.Now()
	n.now.changed = n.now.modified
}

// zero writes zeros over a range that programs see, without lengthening the file.
func (d *disk) zero(n *node, offset, length int64) error {
	for end := min(offset+length, n.now.size); offset < end; {
		p, err := d.page(n, offset/PageSize, false)
		if err != nil {
			return err
		}
		within := p[offset%PageSize:]
		within = within[:min(int64(len(within)), end-offset)]
		clear(within)
		offset += int64(len(within))
	}
	return nil
}

// keep makes a file or a folder durable, as it is now.
func (d *disk) keep(n *node) error {
	if n.isFolder() {
		d.keepNames(n)
		n.kept = n.now
		return d.failed
	}
	if n.isFile() && (len(n.pages) > 0 || n.base < n.kept.size || n.now.size != n.kept.size) {
		if err := d.lay(n, n.base, n.now.size, n.pages); err != nil {
			return err
		}
		d.tell(n)
	}
	d.drop(n)
	n.kept, n.base = n.now, n.now.size
	return nil
}

// lay makes this durable: the content up to base, with pages over it, of this size.
func (d *disk) lay(n *node, base, size int64, pages map[int64][]byte) error {
	f, err := d.open(n)
	if err != nil {
		return err
	}
	if base < n.kept.size {
		err = f.Truncate(base)
	}
	for index, p := range pages {
		if err == nil {
			_, err = f.WriteAt(p, index*PageSize)
		}
	}
	if err == nil {
		err = f.Truncate(size)
	}
	if n.opens == 0 {
		d.close(n)
	}
	if err != nil {
		d.failed = err
	}
	return err
}

// tell calls Config.Synced for the pages that became durable.
func (d *disk) tell(n *node) {
	if d.config.Synced == nil {
		return
	}
	path := d.path(n)
	for index := range n.pages {
		if n.pages[index-1] != nil {
			continue // told with the one before
		}
		var run []byte
		for i := index; n.pages[i] != nil; i++ {
			run = append(run, n.pages[i]...)
		}
		at := index * PageSize
		d.config.Synced(path, at, run[:max(0, min(int64(len(run)), n.now.size-at))])
	}
}

// path is a name that programs see, or empty if there is none.
func (d *disk) path(n *node) string {
	var find func(folder *node, at string) string
	find = func(folder *node, at string) string {
		for name, child := range folder.names {
			path := filepath.Join(at, name)
			if child == n {
				return path
			}
			if child.isFolder() {
				if found := find(child, path); found != "" {
					return found
				}
			}
		}
		return ""
	}
	return find(d.root, "/")
}

// keepNames makes the names in a folder durable. A change that is of another folder too, a rename, becomes durable there as well, and
// with it what was changed there before.
func (d *disk) keepNames(folder *node) {
	touched := map[*node]bool{folder: true}
	chosen := make([]bool, len(d.pending))
	for i := len(d.pending) - 1; i >= 0; i-- {
		for _, f := range d.pending[i].folders {
			chosen[i] = chosen[i] || touched[f]
		}
		if chosen[i] {
			for _, f := range d.pending[i].folders {
				touched[f] = true
			}
		}
	}
	var left []*change
	for i, c := range d.pending {
		if chosen[i] {
			d.apply(c)
		} else {
			left = append(left, c)
		}
	}
	d.pending = left
}

// keepAll makes everything durable.
func (d *disk) keepAll() error {
	for _, c := range d.pending {
		d.apply(c)
	}
	d.pending = nil
	for _, n := range d.nodes {
		if err := d.keep(n); err != nil {
			return err
		}
	}
	return d.failed
}

// cut makes everything what it is on the disk, with what survives.
func (d *disk) cut(s Survival) (Lost, error) {
	chance := d.random.Float64() // how much survives differs from cut to cut
	survives := func() bool { return s != Nothing && d.random.Float64() < chance }
	lost := Lost{Changes: len(d.pending)}
	broken := map[*node]bool{} // folders that have lost a change, and so all that came later
	for _, c := range d.pending {
		gone := !survives()
		for _, f := range c.folders {
			gone = gone || broken[f]
		}
		if gone {
			for _, f := range c.folders {
				broken[f] = true
			}
			continue
		}
		d.apply(c)
		lost.ChangesKept++
	}
	d.pending = nil
	// In order, so that a seed draws the same.
	for number := uint64(1); number < d.next; number++ {
		n := d.nodes[number]
		if n == nil || !n.isFile() || len(n.pages) == 0 && n.base == n.kept.size && n.now.size == n.kept.size {
			continue
		}
		lost.Files++
		lost.Pages += len(n.pages)
		if s == Nothing {
			continue
		}
		kept, err := d.salvage(n, s, survives)
		if err != nil {
			return lost, err
		}
		lost.PagesKept += kept
	}
	d.restart()
	return lost, d.failed
}

// salvage makes durable what survives of a file's content, and returns how many pages do.
func (d *disk) salvage(n *node, s Survival, survives func() bool) (int, error) {
	base := n.kept.size
	if n.base < base && survives() { // it was cut off
		base = n.base
	}
	size := base
	pages := map[int64][]byte{}
	last := (n.now.size + PageSize - 1) / PageSize
	gap := false
	for index := range last {
		page, at := n.pages[index], index*PageSize
		grown := at+PageSize > base
		if page == nil && !grown {
			continue
		}
		if !survives() || grown && gap && s != Torn {
			gap = gap || grown
			continue
		}
		if page != nil {
			if s == Torn && survives() {
				torn, err := d.tear(n, page, at, base)
				if err != nil {
					return 0, err
				}
				page = torn
			}
			pages[index] = page
		}
		if grown {
			size = max(size, min(at+PageSize, n.now.size))
		}
	}
	if err := d.lay(n, base, size, pages); err != nil {
		return 0, err
	}
	n.kept.size = size
	return len(pages), nil
}

// tear returns a page with some sectors of the durable content.
func (d *disk) tear(n *node, page []byte, at, base int64) ([]byte, error) {
	torn := make([]byte, PageSize)
	if base > at {
		f, err := d.open(n)
		if err != nil {
			return nil, err
		}
		if _, err := f.ReadAt(torn[:min(PageSize, base-at)], at); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
	for i := 0; i < PageSize; i += sectorSize {
		if d.random.IntN(2) == 0 {
			copy(torn[i:i+sectorSize], page[i:])
		}
	}
	return torn, nil
}

// restart makes programs see what is on the disk, and forgets what is not reached.
func (d *disk) restart() {
	reached := map[*node]bool{}
	var reach func(n *node)
	reach = func(n *node) {
		if reached[n] {
			return
		}
		reached[n] = true
		for _, child := range n.keptNames {
			reach(child)
		}
	}
	reach(d.root)
	for _, n := range d.nodes {
		d.close(n)
		n.opens, n.lookups, n.changes, n.links, n.keptLinks = 0, 0, 0, 0, 0
	}
	for n := range reached {
		for _, child := range n.keptNames {
			child.links++
			child.keptLinks++
		}
	}
	for _, n := range d.nodes {
		if !reached[n] {
			d.free(n)
			continue
		}
		d.drop(n)
		n.now, n.base = n.kept, n.kept.size
		n.names = maps.Clone(n.keptNames)
	}
}

// snapshot writes what is on the disk to a folder.
func (d *disk) snapshot(folder *node, to string) error {
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	for name, n := range folder.keptNames {
		path := filepath.Join(to, name)
		var err error
		switch n.kept.mode & syscall.S_IFMT {
		case syscall.S_IFDIR:
			err = d.snapshot(n, path)
		case syscall.S_IFLNK:
			err = os.Symlink(n.target, path)
		case syscall.S_IFREG:
			err = d.copy(n, path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// copy writes the durable content of a file to another.
func (d *disk) copy(n *node, to string) error {
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	in, err := d.open(n)
	if err == nil {
		_, err = io.Copy(out, io.NewSectionReader(in, 0, n.kept.size))
	}
	if n.opens == 0 {
		d.close(n)
	}
	return errors.Join(err, out.Close())
}
