package auth

import (
	"encoding/json"
	"time"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/user"
	"github.com/parley-chat/parley/core/webhook"
)

// userTold is the data of facts about a user.
type userTold struct {
	User userFields `json:"user"`
}

type userFields struct {
	ID    string `json:"id"`
	Name  string `json:"name,omitempty"`
	Email string `json:"email,omitempty"`
}

// sessionsTold is the data of webhook.SessionEnded: of Session, or of every session that was opened before Before but Keep.
type sessionsTold struct {
	User    userFields   `json:"user"`
	Session string       `json:"session,omitempty"`
	Before  time.Time    `json:"before,omitzero"`
	Keep    string       `json:"keep,omitempty"`
	Reason  RevokeReason `json:"reason"`
}

// told returns the event that tells a fact about a user, or none if the type is not chosen.
func (s *Service) told(kind string, u user.User) ([]event.Event, error) {
	if !s.cfg.Webhooks.Has(kind) {
		return nil, nil
	}
	return s.fact(webhook.Fact{Type: kind, User: string(u.ID)}, userTold{userFields{string(u.ID), u.FullName, string(u.Email)}})
}

// toldErased returns the event that forgets what waits about a user, and tells that the user was erased if that is chosen. It names the ID alone.
func (s *Service) toldErased(id user.ID) ([]event.Event, error) {
	if !s.cfg.Webhooks.Any() {
		return nil, nil
	}
	f := webhook.Fact{Type: webhook.UserErased, User: string(id), Forgets: true, Silent: !s.cfg.Webhooks.Has(webhook.UserErased)}
	return s.fact(f, userTold{userFields{ID: string(id)}})
}

// toldEnded returns the event that tells that sessions of a user ended, or none if that is not chosen.
func (s *Service) toldEnded(id user.ID, data sessionsTold) ([]event.Event, error) {
	if !s.cfg.Webhooks.Has(webhook.SessionEnded) {
		return nil, nil
	}
	data.User.ID = string(id)
	return s.fact(webhook.Fact{Type: webhook.SessionEnded, User: string(id)}, data)
}

func (s *Service) fact(f webhook.Fact, data any) ([]event.Event, error) {
	raw, err := json.Marshal(data)
	if err != nil {
		return nil, failed("encoding a fact", err) // a time beyond the year 9999
	}
	f.ID, f.Time, f.Data = s.cfg.NewID(), s.now(), raw
	return []event.Event{f.Event()}, nil
}

// committed lets the relay know of events, if there are any.
func (s *Service) committed(events []event.Event) {
	if len(events) > 0 {
		s.cfg.Committed()
	}
}
