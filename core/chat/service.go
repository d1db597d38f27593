package chat

import (
	"context"
	"log/slog"
	"time"

	"github.com/parley-chat/parley/core/user"
)

// Config is what a [Service] needs. Zero fields without "required" mean the default.
type Config struct {
	Store   MessageStore // required
	Rooms   Rooms        // required
	Members Members      // required
	Cache   RecentCache  // required
	// Access decides who may join, send and read. Default [OpenAccess].
	Access Access
	// Recent is how many messages a newcomer gets, and the cache keeps. Default 10.
	Recent int
	// MaxPage is the most messages of one page of history. Default 100.
	MaxPage int
	// MaxBatch is the most messages of one commit. Default 512.
	MaxBatch int
	// MaxPending is the most messages that wait for a commit; more are refused with ErrBusy. Default 16,384.
	MaxPending int
	// CommitTimeout bounds one commit. Default 5 seconds.
	CommitTimeout time.Duration
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// NewID makes identifiers of messages. Default as in auth.
	NewID func() string
	Log   *slog.Logger
}

// Service is the rules of chat. Its methods may be called from many goroutines.
type Service struct{ cfg Config }

// New checks the configuration.
func New(cfg Config) (*Service, error) { return &Service{cfg: cfg}, nil }

// Run commits until ctx ends and what was submitted is settled, and returns nil.
func (s *Service) Run(ctx context.Context) error { panic("stub") }

// Join makes who a member of room, which comes into being with its first member.
func (s *Service) Join(ctx context.Context, who Author, room string) error { panic("stub") }

// Leave ends the membership.
func (s *Service) Leave(ctx context.Context, who user.ID, room string) error { panic("stub") }
