package jwtauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// openKeySet reads the file, or makes it.
func openKeySet(file, algorithm string, now time.Time) (keySet, error) {
	set, err := readKeySet(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return set, err
	}
	set, err = newKeySet(algorithm, now)
	if err != nil {
		return keySet{}, err
	}
	// A link, unlike a rename, fails where another process was first; its key is the one, then.
	set, err = set.store(file, os.Link)
	if errors.Is(err, fs.ErrExist) {
		return readKeySet(file)
	}
	return set, err
}

func openToAll(mode fs.FileMode) bool { return mode.Perm()&0o007 != 0 && runtime.GOOS != "windows" }

// keepsModes reports whether a file that is made for its owner alone is one. On some file systems (FAT, drives of Windows in WSL, shares) all files have one mode,
// which nobody can change. Where no file can be made it is not known, and they count as ones that do.
func keepsModes(folder string, create func(folder, pattern string) (*os.File, error)) bool {
	probe, err := create(folder, ".mode-*")
	if err != nil {
		return true
	}
	defer func() { _ = os.Remove(probe.Name()) }()
	defer probe.Close()
	info, err := probe.Stat()
	return err != nil || !openToAll(info.Mode())
}

const maxKeyFile = 1 << 20 // bytes

func readKeySet(file string) (keySet, error) { return rereadKeySet(file, keySet{}) }

// rereadKeySet reads the file, and returns what it was known to be if it has not changed.
func rereadKeySet(file string, known keySet) (keySet, error) {
	info, err := os.Stat(file)
	if err != nil {
		return keySet{}, fmt.Errorf("read keys: %w", err)
	}
	var set keySet
	open := openToAll(info.Mode())
	switch {
	case !info.Mode().IsRegular() || info.Size() > maxKeyFile:
		err = fmt.Errorf("it is not a regular file of at most %d bytes", maxKeyFile)
	case open && !known.modeless && keepsModes(filepath.Dir(file), os.CreateTemp):
		return keySet{}, fmt.Errorf("the key file %s is open to everybody (mode %04o): make it 0600, and rotate the keys if somebody may have read them", file, info.Mode().Perm())
	default:
		var data []byte
		if data, err = os.ReadFile(file); err != nil {
			return keySet{}, fmt.Errorf("read keys: %w", err)
		}
		if known.raw == string(data) && known.raw != "" {
			return known, nil
		}
		set, err = decodeKeySet(data)
	}
	if err != nil {
		return keySet{}, fmt.Errorf("the key file %s is damaged (%w): restore it from a copy, or remove it to start with a new key, which ends every access token", file, err)
	}
	set.since, set.modeless = info.ModTime(), open
	return set, nil
}

// decodeKeySet reads what encode writes. Its errors do not quote the data, which is secret.
func decodeKeySet(data []byte) (keySet, error) {
	var doc struct {
		Keys []jwk `json:"keys"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return keySet{}, errors.New("not the expected JSON")
	}
	set := keySet{raw: string(data)}
	seen := map[string]bool{}
	for i, j := range doc.Keys {
		public, err := j.public(PS256)
		switch {
		case err != nil:
			return keySet{}, fmt.Errorf("key %d: %w", i+1, err)
		case public.algorithm == RS256:
			return keySet{}, fmt.Errorf("key %d: RS256 is not signed with: PS256 is, with the same keys", i+1)
		case j.ID != thumbprint(public):
			return keySet{}, fmt.Errorf("key %d does not match its name", i+1)
		case seen[j.ID]:
			return keySet{}, fmt.Errorf("key %d is there twice", i+1)
		}
		seen[j.ID] = true
		e := entry{id: j.ID, public: public}
		if j.SignsAt != nil {
			e.signs = *j.SignsAt
		}
		if j.RetiresAt != nil {
			e.retires = *j.RetiresAt
		}
		if j.D != "" || e.retires.IsZero() {
			if e.private, err = j.private(public); err != nil {
				return keySet{}, fmt.Errorf("key %d %w", i+1, err)
			}
		}
		set.entries = append(set.entries, e)
	}
	if err := set.check(); err != nil {
		return keySet{}, err
	}
	return set, nil
}

// check says what keeps a set from having one key that signs at each time.
func (s keySet) check() error {
	if len(s.entries) == 0 {
		return errors.New("there is no key in it")
	}
	var newest *entry
	for i, e := range s.entries {
		switch {
		case !e.retires.IsZero():
		case newest != nil:
			return fmt.Errorf("key %d does not say when it retires, nor does another one", i+1)
		default:
			newest = &e
		}
	}
	if newest == nil {
		return errors.New("every key in it retires")
	}
	for i, e := range s.entries {
		if e.private != nil && e.id != newest.id && (!e.signs.Before(newest.signs) || e.retires.Before(newest.signs)) {
			return fmt.Errorf("key %d does not sign until another one takes its place", i+1)
		}
	}
	return nil
}

func (s keySet) encode() ([]byte, error) {
	var keys []jwk
	for _, e := range s.entries {
		j := newJWK(e.id, e.public)
		if e.private != nil {
			var err error
			if j, err = j.withPrivate(e.private); err != nil {
				return nil, err
			}
		}
		j.SignsAt, j.RetiresAt = moment(e.signs), moment(e.retires)
		keys = append(keys, j)
	}
	data, err := json.MarshalIndent(map[string]any{"keys": keys}, "", "  ")
	return append(data, '\n'), err
}

// moment is a time in the file.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// store writes the set to a new file beside the named one, durably, and puts it in place by
// os.Rename or os.Link. It returns the set as the file has it. A crash may leave the other file, which only its owner can read.
func (s keySet) store(file string, place func(from, to string) error) (stored keySet, err error) {
	data, err := s.encode()
	if err != nil {
		return keySet{}, fmt.Errorf("write keys: %w", err)
	}
	folder := filepath.Dir(file)
	temp, err := os.CreateTemp(folder, "."+filepath.Base(file)+"-*") // made with mode 0600
	if err != nil {
		return keySet{}, fmt.Errorf("write keys: %w", err)
	}
	defer func() {
		if removed := os.Remove(temp.Name()); removed != nil && !errors.Is(removed, fs.ErrNotExist) {
			err = errors.Join(err, fmt.Errorf("write keys: %w", removed))
		}
	}()
	_, err = temp.Write(data)
	if err == nil {
		err = temp.Sync()
	}
	if err = errors.Join(err, temp.Close()); err == nil {
		err = place(temp.Name(), file)
	}
	if err == nil {
		err = syncFolder(folder)
	}
	if err != nil {
		return keySet{}, fmt.Errorf("write keys: %w", err)
	}
	s.raw = string(data)
	return s, nil
}

// syncFolder makes a new name in the folder survive a power cut.
func syncFolder(folder string) error {
	if runtime.GOOS == "windows" { // where folders cannot be synced
		return nil
	}
	d, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
