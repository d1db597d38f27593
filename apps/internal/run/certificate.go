package run

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// certificateInterval is how often the files of a certificate are looked at, whatever renews them.
const certificateInterval = 10 * time.Second

// keyPair is a certificate that can be replaced while connections are made with it.
type keyPair struct {
	cert, key string         // files
	seen      [2]os.FileInfo // of both, when they were last read; one goroutine reads
	current   atomic.Pointer[tls.Certificate]
}

// read takes up the certificate as the files have it now. If they cannot be used the old one stays. It
// returns what it took up, in words.
func (p *keyPair) read() (string, error) {
	p.seen = p.files()
	pair, err := tls.LoadX509KeyPair(p.cert, p.key)
	if err != nil {
		return "", err
	}
	p.current.Store(&pair)
	return fmt.Sprintf("%s, until %s", p.cert, pair.Leaf.NotAfter.UTC().Format("2006-01-02 15:04 MST")), nil
}

func (p *keyPair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.current.Load(), nil }

// follow takes up the certificate if its files have changed. A file that is written while the other is still the old one cannot be
// used, and is tried again with the next change.
func (p *keyPair) follow(ctx context.Context, log *slog.Logger) {
	if !p.changed() {
		return
	}
	taken, err := p.read()
	if err != nil {
		log.WarnContext(ctx, "the files of the certificate have changed and cannot be used, the old one stays", "error", err)
		return
	}
	log.InfoContext(ctx, "the certificate was read again", "taken", taken)
}

// files describes both files as they are now, through links; nil for one that is not there.
func (p *keyPair) files() (found [2]os.FileInfo) {
	for i, name := range []string{p.cert, p.key} {
		if info, err := os.Stat(name); err == nil {
			found[i] = info
		}
	}
	return found
}

// changed reports whether a file is another one, or was written, since they were last read.
func (p *keyPair) changed() bool {
	for i, now := range p.files() {
		was := p.seen[i]
		if (now == nil) != (was == nil) || now != nil && (!os.SameFile(now, was) || !now.ModTime().Equal(was.ModTime()) || now.Size() != was.Size()) {
			return true
		}
	}
	return false
}
