// Package wsclient is the client of Parley for Go programs: bots, bridges, load generators, tests.
// It implements the protocol parley.v1 over github.com/gorilla/websocket v1.5.3, and the calls of the REST interface over net/http.
//
// [SignIn] gives a [Session] with an account's tokens, [Dial] a [Client] that uses them on the socket, and [Session.REST] a [REST] that
// uses them for the calls about accounts and rooms. A program that has tokens of its own gives them as Config.Token or Config.Ticket, and as RESTConfig.Token.
// A [View] is made of the events of the one and the lists of the other: rooms with what is unread of them, messages as they are now, what of one's own is
// under way or has failed, and who types.
//
// # Bots
//
// A program that is started anew and joins is given the last few messages of the room again. An answer with a client id that is made of the message's id is stored
// once all the same: see the example of [Client.SendAs]. With [Client.JoinFrom] a program goes on from where it has kept its [Position]. Handle may be called
// before [Dial] has returned the client: a program that answers from it hands events on, as that example does.
//
// # Guarantees
//
//   - Each room's messages are delivered in the order of their sequence, each once, from the
//     first that is delivered on, across reconnects. Where the server says that messages are gone for ever, an
//     [EventResync] with Lost set stands in their place.
//   - A hole in the live stream, and whatever came while there was no connection, is filled from the room's
//     history before later messages are delivered.
//   - Each change of a message, by [Client.Edit], [Client.Delete], [Client.React] or [Client.Unreact] of whomever, is told as an
//     [EventChanged] with the message as it is then: in the order of Message.Rev in each room, none twice, and after the
//     message's own [EventMessage] where that comes at all. A message that was changed several times while there was
//     no connection, or while Handle was slow, is told once. What an [EventMessage] had already is mostly not told again.
//   - [Client.Send] sends with one client id, after each reconnect again, until the server has answered: the
//     message is stored once. Changes of messages are sent again in the same way: see [Client.Edit] for what that may overwrite. So are
//     marks, by [Client.Mark], to which it makes no difference.
//   - It comes back at once after 1001, 1006, 1012 and 4408, later after 1011 and 1013, with a new token after 4401, and not
//     after any other close code. Pauses grow, and are drawn at random. What the server says in Retry-After is waited for.
//   - The connection is renewed before its token ends, with Config.Tokens or Config.Renew.
//   - A connection that gives no answer for Config.AckTimeout, or no sign of life for Config.IdleTimeout, is given up.
//   - It keeps to Config.Rate and Config.Window, since the server closes connections that do not.
//   - A call of a [REST] that was not served is made again as long as there is time for it, and only where that does no harm. An answer of
//     something else than the server is never taken for the server's.
//   - A slow Handle holds up nothing and costs bounded memory: what it has no room for is read from the history when it
//     has caught up. So are changes.
//
// # Exceptions
//
// What is not stored is lost with its connection, and may be left out for a slow Handle: typing, joined, left, who has read how far, events of an
// application. An [EventResync] says so.
// An older server knows no changes of messages: none are told, and in a joined room [Client.Edit] and the like return [ErrNoChanges].
// One that keeps no marks tells none either, and [Client.Mark] returns [ErrNoMarks].
//
// # Closing
//
// A client lives until [Client.Close], or until the server closes it for good: then
// [Client.Done] is closed, and [Client.Err] says why. It has two goroutines: one that reads, which calls Handle if
// Config.Inline is set, and one for Handle if not; and one more for renewals.
package wsclient

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/settings"
	"github.com/parley-chat/parley/core/socket"
)

// ErrClosed is what calls return after [Client.Close], and Err after it.
var ErrClosed = errors.New("wsclient: the client is closed")

// Config is what a [Client] needs. Zero fields without "required" mean the default.
type Config struct {
	// URL is the address of the socket: "ws://host/socket" or "wss://…". Required.
	URL string
	// Tokens has the access tokens to connect with and to renew the connection with: a [Session], for one.
	Tokens Tokens
	// Token returns the access token to connect with, in place of Tokens. It is asked before each attempt, and
	// after close code 4401 has to return a new one. An error of kind fault.Unauthenticated
	// ends the client; after any other it is asked again.
	Token func(ctx context.Context) (string, error)
	// Ticket returns the ticket to connect with, in place of Token: a new one each time. Its
	// errors count like those of Token.
	Ticket func(ctx context.Context) (string, error)
	// Renew returns an access token with which the connection goes on: of the same user and
	// session, and new when the one before has not long to go. It is asked once the connection is
	// there, which tells how long it lasts, and each time two thirds of that have passed. After
	// an error it is asked again, unless that is of kind fault.Unauthenticated. It gives up when
	// its context ends. Default: that of Tokens. Without both, the server ends the connection with
	// its token by 4401, and the client comes back with a new one.
	Renew func(ctx context.Context) (string, error)
	// Header is sent along with the handshake.
	Header http.Header
	// Handle takes the events, one at a time and in order, on a goroutine of its own, also before Dial has returned the client. It may call every method but
	// Close. Default: they are dropped.
	Handle func(Event)
	// Queue is how many events may wait for Handle. What is beyond is left out: messages and their changes are read from the
	// history when half of the queue is free, and the rest is lost, which EventResync says. Default 1,024.
	Queue int
	// Inline calls Handle on the goroutine that reads, with no queue in between, which saves one for each of thousands of
	// clients. Handle must not wait then, and must not call the methods that wait for an answer.
	Inline bool
	// NewID makes client ids. Default: random ones.
	NewID func() string
	// Rate is how many events a second are sent on average, and Burst how many at once; more wait. The server closes a
	// connection for more than its own rate. Defaults 20 and 50, as of the browser's client. A negative Rate is no limit.
	Rate, Burst int
	// Window is how many requests may be unanswered; more wait. Default 64.
	Window int
	// AckTimeout is how long the server may take to answer a request before the client takes the connection for
	// broken. Default 10 seconds.
	AckTimeout time.Duration
	// MinPause and MaxPause bound the pause before an attempt to connect that follows a
	// failed one. Defaults 100 milliseconds and 10 seconds.
	MinPause, MaxPause time.Duration
	// Jitter returns a number from 0 up to 1: how much of a pause is waited. Default random.
	Jitter func() float64
	// HandshakeTimeout bounds one attempt to connect. Default 10 seconds.
	HandshakeTimeout time.Duration
	// IdleTimeout is how long the server may be silent, pings included, before the client
	// takes the connection for broken. Default 90 seconds.
	IdleTimeout time.Duration
}

// Tokens is where a [Client] has its access tokens from. It is called by one goroutine at a time for each client.
type Tokens interface {
	// Token returns an access token other than spent, which the server did not take, or of whose life little is left; spent is
	// empty where any will do. An error of kind fault.Unauthenticated ends the client; after any other it is asked again. It
	// ends with ctx.
	Token(ctx context.Context, spent string) (string, error)
}

// User is somebody in a room.
type User struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Reaction is what users think of a message.
type Reaction struct {
	// Key is a short text, mostly an emoji.
	Key string `json:"key"`
	// Count is how many users have reacted so.
	Count int `json:"count"`
	// Users are the ids of some of them, in the order in which they reacted: at most chat.MaxReactionUsers.
	Users []string `json:"users"`
}

// Message is one message in a room, as it is now.
type Message struct {
	Room string `json:"room"`
	Seq  uint64 `json:"seq"`
	// Rev is the place of its last change in the room's sequence of changes 1, 2, 3, …; 0: it was never changed.
	Rev      uint64 `json:"rev"`
	ID       string `json:"id"`
	ClientID string `json:"clientId,omitempty"`
	User     User   `json:"user"`
	// Text is empty if the message was deleted.
	Text string    `json:"text"`
	At   time.Time `json:"at"`
	// EditedAt is when it was last edited, and DeletedAt when it was deleted; zero if it was not. Of a deleted message Text,
	// ReplyTo, Data and Reactions are gone.
	EditedAt  time.Time `json:"editedAt,omitzero"`
	DeletedAt time.Time `json:"deletedAt,omitzero"`
	// ReplyTo is the sequence of the message in this room that it answers, or 0.
	ReplyTo uint64 `json:"replyTo,omitempty"`
	// Data is the application's: a JSON object, or nil.
	Data json.RawMessage `json:"data,omitempty"`
	// Reactions are in the order in which their keys came, at most chat.MaxReactionKeys.
	Reactions []Reaction `json:"reactions,omitempty"`
}

// EventKind says what an [Event] is about.
type EventKind uint8

// The kinds of events.
const (
	EventMessage      EventKind = iota + 1 // Message
	EventTyping                            // Room, User, Typing
	EventJoined                            // Room, User
	EventLeft                              // Room, User
	EventResync                            // Room, Lost, Err: the stream of the room was interrupted
	EventConnected                         // the connection is there, or there again
	EventDisconnected                      // Code, Err: the connection is gone
	EventRemoved                           // Room, User, By, Reason: the client's own user was taken out of the room; nothing more of it comes
	EventApplication                       // Name, Data, Room if it has one: an event of the application, or of a newer server
	// EventChanged is a change of a message: Room, Message as it is now. Message.Rev says which; it grows from one to the next in a
	// room, unless an EventResync with Lost comes between. The message may be older than the first that Handle was given of the room,
	// as one that History has shown.
	//
	// It is not told where the message was given in this state or a later one, as after a while without a connection. Only if
	// that is so for very many messages of a room at once, some are told nevertheless.
	EventChanged
	// EventMarked says that somebody has read a room up to a message: Room, User, Read. Also the client's own user, on this or another connection.
	// It is told in small rooms alone, and not for what somebody has sent themselves, which they have read. Of one user the highest Read
	// counts, whatever comes last. After a connection was lost, the client's own user is told, without a Name, if the server has more than before; Config.Ticket
	// does not say whose connection it is, so that then nobody is.
	EventMarked
	// EventMembership says what a user is in a room from now on: Room, User, Role, Until, By, Reason. It is told to everybody in the room, and to all connections of that user, also
	// of a room that was not joined, as when somebody is invited. Until is when the server takes again what a muted user sends there. The client's own user who
	// is taken out of a joined room is told by EventRemoved instead.
	EventMembership
)

// Event is what the server tells, or what happens to the connection.
type Event struct {
	Kind    EventKind
	Room    string
	Message Message
	User    User
	Typing  bool
	// Read is the Seq up to which User has read.
	Read uint64
	// Role is what the user is in the room: empty, no member any more. By is the id of who has made it so, and Reason what they have said to it; both may be empty.
	Role       string
	By, Reason string
	// Until is when the user may send again: zero means at once, the year 9999 never by itself.
	Until time.Time
	// Name and Data are those of an event of the application.
	Name string
	Data json.RawMessage
	// Lost says that messages are missing here for ever, or that changes that were told are not stored any more, as after
	// the server was set back: what is shown of the room is to be read anew. Without it only events are missing that are not stored.
	Lost bool
	// Code is the server's close code, 1006 if the connection just ended.
	Code int
	// Err says why the connection is gone; with EventResync, why the room is: the server
	// refused to let the client in again.
	Err error
}

// Error is the server's refusal of a request.
type Error struct {
	Code   string `json:"code"`
	Title  string `json:"title"`
	Detail string `json:"detail,omitempty"`
}

// Temporary reports whether the same request may succeed later.
func (e *Error) Temporary() bool {
	switch e.Code {
	case "unavailable", "busy", "room_busy", "closed", "internal":
		return true
	default:
		return false
	}
}

// Is reports whether target is an error of the core that the server tells by the code: chat.ErrNotAllowed, for one.
func (e *Error) Is(target error) bool { return hasCode(target, e.Code) }

// Error returns code and title.
func (e *Error) Error() string {
	s := "wsclient: " + e.Code + ": " + e.Title
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

// CloseError says that the server closed the connection.
type CloseError struct {
	Code   int
	Reason string
}

// Error names code and reason.
func (e *CloseError) Error() string {
	return fmt.Sprintf("wsclient: the server closed the connection with %d %q", e.Code, e.Reason)
}

const (
	// closeTimeout is how long Close waits for the server's close frame.
	closeTimeout = time.Second
	// stableAfter is how long a connection has to last for the next pause to be a short one.
	stableAfter = 5 * time.Second
	// quickest bounds the pause where the protocol lets a client come back at once.
	quickest = time.Second
	// whileFactor is how much longer a pause is where the protocol wants a client to wait a while.
	whileFactor = 10
	// maxRetryAfter bounds what is believed of a Retry-After.
	maxRetryAfter = 5 * time.Minute
)

// Client is one user's connection. Its methods may be called from many goroutines.
type Client struct {
	cfg    Config
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	done   chan struct{}
	err    error // set before done is closed

	inbox   *inbox     // nil with Config.Inline
	writing sync.Mutex // one frame at a time

	// The goroutine that reads has these to itself, or that of the renewals while it runs.
	token   string // that of the last attempt or renewal
	refused string // the token that the server did not take, if it was the last
	brief   int    // connections in a row that did not last
	changes changesKnown
	self    string // the client's own user; empty while that is not known

	mu     sync.Mutex
	ws     *websocket.Conn // nil while there is no connection
	nextID uint64
	calls  map[uint64]*call // without an answer; nil after the end
	queue  []*call          // those that wait to be written, in order
	sent   map[uint64]time.Time
	due    time.Time // when the bucket is full again
	pacer  *time.Timer
	warden *time.Timer
	rooms  map[string]*room
	// kept is the name that the server keeps a room under, where that is another than the one asked for.
	kept map[string]string
}

// Dial connects, and keeps the connection until Close. ctx bounds the first attempts only: they are repeated
// until the server takes or refuses the client. A refusal is a *[HandshakeError].
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	check := settings.Of("wsclient: Config")
	check.Require("URL", cfg.URL == "")
	if u, err := url.Parse(cfg.URL); cfg.URL != "" && (err != nil || u.Host == "" || (u.Scheme != "ws" && u.Scheme != "wss")) {
		check.Refuse("URL", "%q is no ws or wss address", cfg.URL)
	}
	sources := 0
	for _, given := range []bool{cfg.Tokens != nil, cfg.Token != nil, cfg.Ticket != nil} {
		if given {
			sources++
		}
	}
	if sources > 1 {
		check.Refuse("Tokens", "is not alone: more than one of Tokens, Token and Ticket is set")
	}
	settings.Default(check, "Queue", &cfg.Queue, 1024)
	settings.Default(check, "Burst", &cfg.Burst, 50)
	settings.Default(check, "Window", &cfg.Window, 64)
	settings.Default(check, "AckTimeout", &cfg.AckTimeout, 10*time.Second)
	settings.Default(check, "MinPause", &cfg.MinPause, 100*time.Millisecond)
	settings.Default(check, "MaxPause", &cfg.MaxPause, 10*time.Second)
	settings.Default(check, "HandshakeTimeout", &cfg.HandshakeTimeout, 10*time.Second)
	settings.Default(check, "IdleTimeout", &cfg.IdleTimeout, 90*time.Second)
	if err := check.Err(); err != nil {
		return nil, err
	}
	if cfg.Handle == nil {
		cfg.Handle = func(Event) {}
	}
	if cfg.NewID == nil {
		cfg.NewID = rand.Text
	}
	if cfg.Jitter == nil {
		cfg.Jitter = mathrand.Float64
	}
	cfg.Rate = cmp.Or(cfg.Rate, 20)
	cfg.MaxPause = max(cfg.MaxPause, cfg.MinPause)

	c := &Client{
		cfg: cfg, done: make(chan struct{}),
		calls: make(map[uint64]*call), sent: make(map[uint64]time.Time), rooms: make(map[string]*room), kept: make(map[string]string),
	}
	if !cfg.Inline {
		c.inbox = newInbox(cfg.Queue, cfg.Handle, c.resume)
	}
	ws, err := c.connect(ctx, false)
	if err != nil {
		return nil, err
	}
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go c.run(ws)
	return c, nil
}

// Done is closed when the client has ended: by Close, or because the server closed it for good.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err says why the client has ended: [ErrClosed], a *[CloseError], a *[HandshakeError], or an
// error of Token or Ticket. It is nil before Done is closed.
func (c *Client) Err() error {
	select {
	case <-c.done:
		return c.err
	default:
		return nil
	}
}

// Close says goodbye to the server and ends the client. Requests that wait return [ErrClosed]; events that wait are
// dropped, and Handle is not called after Close has returned. Closing twice is harmless. It must not be called from Handle.
func (c *Client) Close() {
	if c.inbox != nil {
		c.inbox.drop() // before a request of Handle fails, or it would be called for the next event
	}
	c.cancel()
	<-c.done
}

// Drop cuts the connection without a word, as a broken network would. The client comes back.
func (c *Client) Drop() {
	c.mu.Lock()
	ws := c.ws
	c.ws = nil // what is asked from now on waits for the next one
	c.mu.Unlock()
	if ws != nil {
		_ = ws.NetConn().Close() // it may be closed already
	}
}

// connect tries until it has a connection, is refused, or ctx ends. pause says whether to begin with a pause.
func (c *Client) connect(ctx context.Context, pause bool) (*websocket.Conn, error) {
	wait := c.cfg.MinPause
	var least time.Duration
	refusals := 0
	for {
		if pause {
			if err := sleep(ctx, least+time.Duration(float64(wait)*c.cfg.Jitter())); err != nil {
				return nil, err
			}
			wait = min(2*wait, c.cfg.MaxPause)
		}
		pause, least = true, 0
		ws, err := c.attempt(ctx)
		if err == nil {
			return ws, nil
		}
		if ctx.Err() != nil {
			return nil, errors.Join(ctx.Err(), err)
		}
		if errors.Is(err, fault.Unauthenticated) {
			return nil, err
		}
		var problem *Problem
		if errors.As(err, &problem) {
			least = min(problem.RetryAfter, maxRetryAfter)
		}
		var refusal *HandshakeError
		if errors.As(err, &refusal) {
			least = min(refusal.RetryAfter, maxRetryAfter)
			if refusal.Status == http.StatusUnauthorized {
				c.refused = c.token
			}
		}
		if refusal != nil && refusal.Status < 500 && refusal.Status != http.StatusTooManyRequests {
			refusals++
			// A token may have run out just now; a new one that is refused too is refused.
			if refusal.Status != http.StatusUnauthorized || refusals > 1 {
				return nil, err
			}
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *Client) attempt(ctx context.Context) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.HandshakeTimeout)
	defer cancel()
	address, header := c.cfg.URL, c.cfg.Header.Clone()
	if header == nil {
		header = http.Header{}
	}
	switch {
	case c.cfg.Tokens != nil:
		token, err := c.cfg.Tokens.Token(ctx, c.refused)
		if err != nil {
			return nil, fmt.Errorf("wsclient: token: %w", err)
		}
		c.token, c.refused = token, ""
		c.knowsItself(token)
		header.Set("Authorization", "Bearer "+token)
	case c.cfg.Token != nil:
		token, err := c.cfg.Token(ctx)
		if err != nil {
			return nil, fmt.Errorf("wsclient: token: %w", err)
		}
		c.knowsItself(token)
		header.Set("Authorization", "Bearer "+token)
	case c.cfg.Ticket != nil:
		ticket, err := c.cfg.Ticket(ctx)
		if err != nil {
			return nil, fmt.Errorf("wsclient: ticket: %w", err)
		}
		u, err := url.Parse(address)
		if err != nil {
			return nil, fmt.Errorf("wsclient: %w", err)
		}
		q := u.Query()
		q.Set("ticket", ticket)
		u.RawQuery = q.Encode()
		address = u.String()
	}
	dialer := websocket.Dialer{Subprotocols: []string{socket.Protocol}, ReadBufferSize: 1 << 10, WriteBufferSize: 1 << 10}
	ws, res, err := dialer.DialContext(ctx, address, header)
	if errors.Is(err, websocket.ErrBadHandshake) && res != nil {
		return nil, refused(res)
	}
	if err != nil {
		return nil, fmt.Errorf("wsclient: dial: %w", err)
	}
	return ws, nil
}

// run reads from one connection after the other.
func (c *Client) run(ws *websocket.Conn) {
	defer close(c.done)
	defer c.cancel()
	if c.inbox != nil {
		go c.inbox.run()
		defer c.inbox.end()
	}
	for {
		began := time.Now()
		closed := c.session(ws)
		if c.ctx.Err() != nil {
			c.fail(ErrClosed)
			return
		}
		c.tell(Event{Kind: EventDisconnected, Code: closed.Code, Err: closed})
		rule := afterClose(closed.Code)
		if closed.Code == socket.CloseBadEvent && c.changes == changesAsked {
			// This node is an older one, to which the join was a bad event: it is asked without.
			c.changes, rule.Return = changesNever, true
		}
		if !rule.Return {
			c.fail(closed)
			return
		}
		if rule.NewToken {
			c.refused = c.token
		}
		if time.Since(began) >= stableAfter {
			c.brief = 0
		}
		var err error
		// All clients of a node that restarts lose it together, so even the first attempt is
		// spread a little.
		if err = sleep(c.ctx, c.pause(rule.Later)); err == nil {
			ws, err = c.connect(c.ctx, false)
		}
		if c.ctx.Err() != nil {
			if ws != nil && err == nil {
				_ = ws.Close() // nobody will use it
			}
			err = ErrClosed
		}
		if err != nil {
			c.fail(err)
			return
		}
	}
}

// pause is how long to wait before coming back: longer after each connection that did not last.
func (c *Client) pause(later bool) time.Duration {
	base, most := c.cfg.MinPause, min(max(quickest, c.cfg.MinPause), c.cfg.MaxPause)
	if later {
		base, most = whileFactor*c.cfg.MinPause, c.cfg.MaxPause
	}
	wait := min(base<<min(c.brief, 16), most)
	if wait <= 0 { // the shift was too far
		wait = most
	}
	c.brief++
	return time.Duration(float64(wait) * c.cfg.Jitter())
}

// afterClose is the rule of the protocol for coming back after a close code.
func afterClose(code int) protocol.CloseCode {
	switch code {
	case websocket.CloseAbnormalClosure: // cut off
		return protocol.CloseCode{Code: code, Return: true}
	case websocket.CloseNoStatusReceived:
		return protocol.CloseCode{Code: code, Return: true, Later: true}
	}
	for _, known := range protocol.CloseCodes() {
		if known.Code == code {
			return known
		}
	}
	return protocol.CloseCode{Code: code}
}

// fail ends the client: all calls return err.
func (c *Client) fail(err error) {
	c.mu.Lock()
	c.err = err
	calls := c.calls
	c.calls, c.queue = nil, nil
	c.stopTimers()
	c.mu.Unlock()
	for _, call := range calls {
		call.finish(err)
	}
}

// session serves one connection until it ends.
func (c *Client) session(ws *websocket.Conn) *CloseError {
	ended := make(chan struct{})
	stop := context.AfterFunc(c.ctx, func() { goodbye(ws, ended) })
	defer func() {
		stop()
		close(ended)
		_ = ws.Close() // it has ended already, or nobody listens any more
	}()
	ws.SetPingHandler(func(payload string) error {
		c.renew(ws)
		_ = ws.WriteControl(websocket.PongMessage, []byte(payload), time.Now().Add(time.Second)) // reading fails next
		return nil
	})
	renewing, cancel := context.WithCancel(c.ctx)
	var renewer sync.WaitGroup
	defer renewer.Wait()
	defer cancel()
	c.connected(ws)
	defer c.disconnected()
	if c.cfg.Renew != nil || c.cfg.Tokens != nil {
		renewer.Go(func() { c.keepOn(renewing) })
	}
	for {
		c.renew(ws)
		kind, r, err := ws.NextReader()
		if err != nil {
			return closeError(err)
		}
		var in incoming
		payload, err := io.ReadAll(r)
		if err != nil {
			return closeError(err)
		}
		if kind != websocket.TextMessage {
			return &CloseError{Code: socket.CloseProtocolError, Reason: "the server sent a binary message"}
		}
		if err := json.Unmarshal(payload, &in); err != nil {
			return &CloseError{Code: socket.CloseProtocolError, Reason: "the server sent no event: " + err.Error()}
		}
		if err := c.take(&in); err != nil {
			return &CloseError{Code: socket.CloseProtocolError, Reason: err.Error()}
		}
	}
}

// keepOn renews the connection until ctx ends, or it need not be renewed.
func (c *Client) keepOn(ctx context.Context) {
	pause := c.cfg.MinPause
	spent := ""
	for {
		token, lasts, err := c.renewOnce(ctx, spent)
		wait := time.Duration(float64(pause) * c.cfg.Jitter())
		switch {
		case errors.Is(err, fault.Unauthenticated), errors.Is(err, realtime.ErrNoRenewal):
			return
		case err != nil:
			pause = min(2*pause, c.cfg.MaxPause)
		case lasts <= 0 && spent != "":
			return // with a new token, too: it has no end
		default:
			// Less than a second is said as none.
			c.token, spent = token, token
			wait, pause = max(lasts*2/3, c.cfg.MinPause), c.cfg.MinPause
		}
		if sleep(ctx, wait) != nil {
			return
		}
	}
}

// renewOnce renews the connection with another token than the spent one, and returns for how long.
func (c *Client) renewOnce(ctx context.Context, spent string) (string, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.HandshakeTimeout)
	defer cancel()
	var token string
	var err error
	if c.cfg.Renew != nil {
		token, err = c.cfg.Renew(ctx)
	} else {
		token, err = c.cfg.Tokens.Token(ctx, spent)
	}
	if err != nil {
		return "", 0, fmt.Errorf("wsclient: renew: %w", err)
	}
	ack, err := request[struct {
		ExpiresIn int `json:"expiresIn"`
	}](ctx, c, &call{event: protocol.EventRenew, data: data{Token: token}, once: true})
	return token, time.Duration(ack.ExpiresIn) * time.Second, err
}

// goodbye sends a close frame, and ends the connection if the server does not.
func goodbye(ws *websocket.Conn, ended <-chan struct{}) {
	late := time.NewTimer(closeTimeout)
	defer late.Stop()
	payload := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	_ = ws.WriteControl(websocket.CloseMessage, payload, time.Now().Add(closeTimeout)) // or the connection has ended
	select {
	case <-ended:
	case <-late.C:
		_ = ws.NetConn().Close() // which ends the session
	}
}

// renew gives the server IdleTimeout again. It fails only where reading then fails.
func (c *Client) renew(ws *websocket.Conn) {
	_ = ws.SetReadDeadline(time.Now().Add(c.cfg.IdleTimeout))
}

func closeError(err error) *CloseError {
	var closed *websocket.CloseError
	if errors.As(err, &closed) {
		return &CloseError{Code: closed.Code, Reason: closed.Text}
	}
	return &CloseError{Code: websocket.CloseAbnormalClosure, Reason: err.Error()}
}
