package humaapi

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/settings"
	"github.com/parley-chat/parley/core/user"
)

// errUserAdminOff says that there is no token with which users could be administered.
var errUserAdminOff = fault.New(fault.Forbidden, "user_admin_disabled", "the administration of users is switched off")

// UsersConfig is what [RegisterUsers] needs.
type UsersConfig struct {
	// Accounts knows users. Nil in a program that does not: then every ID may be one.
	Accounts *auth.Service
	// Mails knows mails to users, and Chat what they have said. Nil where that is kept elsewhere.
	Mails *mail.DeadLetterService
	Chat  *chat.Service
	// Erase erases a user in what this program keeps, by ID or else by e-mail address. Required.
	Erase func(ctx context.Context, idOrEmail string) (parley.UserErasure, error)
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// Token and CurrentToken are as in [MailConfig].
	Token        string
	CurrentToken func() string
}

// maxUserRef is the longest ID or e-mail address in a path, in characters.
const maxUserRef = 512

// MediaLines is the media type of an export: JSON texts, one a line.
const MediaLines = "application/jsonl"

type userRecord struct {
	ID                string    `json:"id" example:"01kax9d8w2n4e6r8t0y2v4b6m8"`
	FullName          string    `json:"fullName" example:"Ada Lovelace"`
	Email             string    `json:"email,omitempty" doc:"Missing once the account was erased." example:"ada@example.com"`
	CreatedAt         time.Time `json:"createdAt"`
	VerifiedAt        time.Time `json:"verifiedAt,omitzero" required:"false" doc:"When the address was proven to be the user's."`
	PasswordChangedAt time.Time `json:"passwordChangedAt,omitzero" required:"false" doc:"When the password was last set, or the address last changed."`
	Role              string    `json:"role" enum:"user,admin" doc:"What the user may do."`
	DisabledAt        time.Time `json:"disabledAt,omitzero" required:"false" doc:"When an administrator shut the user out; missing for users who are not."`
	Language          string    `json:"language,omitempty" doc:"A tag of BCP 47; missing if that is not known." example:"en-GB"`
	AvatarURL         string    `json:"avatarUrl,omitempty" doc:"Where a picture of the user is; missing if there is none." example:"https://example.com/ada.png"`
	NewEmail          string    `json:"newEmail,omitempty" doc:"An address that the user wants to have and has not proven yet." example:"ada@example.org"`
	Erased            bool      `json:"erased,omitempty" doc:"The account was erased: there is nothing else of it."`
}

type erasedUser struct {
	ID      string         `json:"id" example:"01kax9d8w2n4e6r8t0y2v4b6m8"`
	Account *erasedAccount `json:"account,omitempty" doc:"Missing where accounts are kept elsewhere."`
	Mails   *erasedMails   `json:"mails,omitempty" doc:"Missing where there are no accounts. A mailer by itself forgets the user as soon as it hears of the erasure."`
	Chat    *erasedChat    `json:"chat,omitempty" doc:"Missing where messages are kept elsewhere."`
}

type erasedAccount struct {
	Emptied  bool `json:"emptied" doc:"False if that was done before."`
	Sessions int  `json:"sessions"`
	Codes    int  `json:"codes"`
	SignUps  int  `json:"signUps" doc:"Those at the address of the account."`
}

type erasedMails struct {
	Jobs   int `json:"jobs" doc:"Mails on the queue, dead letters among them."`
	Events int `json:"events" doc:"Events that asked for mails and had been set aside."`
}

type erasedChat struct {
	Memberships int `json:"memberships"`
	Messages    int `json:"messages" doc:"Those of which something was left."`
	Reactions   int `json:"reactions"`
	Blocks      int `json:"blocks" doc:"Those by the user, and those by which others had blocked the user."`
}

type (
	userInput struct {
		ID string `path:"id" maxLength:"512" doc:"ID of the user, or else the e-mail address."`
	}
	recordOutput struct{ Body userRecord }
)

// RegisterUsers puts the administration of users onto a: where UsersConfig.Accounts are, lists, new accounts, roles, who is disabled, and the end of sessions; looking at an account, the export of what is kept of a user, and erasing them.
func RegisterUsers(a *API, cfg UsersConfig) error {
	c := settings.Of("humaapi: UsersConfig")
	c.Argument("the API", a == nil)
	c.Require("Erase", cfg.Erase == nil)
	current := adminTokens(c, cfg.Token, cfg.CurrentToken)
	if err := c.Err(); err != nil {
		return err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	operation := a.adminOperation("users", "Users, for administrators.", current, errUserAdminOff)
	failures := func(more ...error) []error { return adminFailures(errUserAdminOff, append(more, fault.Invalid)...) }
	if cfg.Accounts != nil {
		a.userOf = func(ctx context.Context, ref string) string {
			u, err := cfg.Accounts.Find(ctx, ref)
			if err != nil {
				return "" // the action fails for the same reason
			}
			return string(u.ID)
		}
		registerUserAccounts(a, cfg.Accounts, operation, failures)
	}
	register(a, operation(huma.Operation{
		OperationID: "get-user", Method: http.MethodGet, Path: "/admin/users/{id}",
		Summary:   "The account of a user",
		Responses: answers(http.StatusOK, "The account."),
	}), failures(user.ErrNotFound), func(ctx context.Context, in *userInput) (*recordOutput, error) {
		if cfg.Accounts == nil {
			return nil, user.ErrNotFound.Detail("accounts are kept by another program")
		}
		u, err := cfg.Accounts.Find(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		return &recordOutput{Body: recordOf(u)}, nil
	})
	a.long(operation(huma.Operation{
		OperationID: "erase-user", Method: http.MethodDelete, Path: "/admin/users/{id}", Parameters: userParameter(),
		Summary: "Erase a user",
		Description: "Erases what this program keeps of a user, and answers when that is done, which may take minutes where there are millions of messages. " +
			"If it ends before, call it again by the ID: it goes on. Erasing again is harmless.",
		Responses: map[string]*huma.Response{"200": {Description: "What was removed.", Content: map[string]*huma.MediaType{
			"application/json": {Schema: a.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[erasedUser](), true, "")},
		}}},
	}), failures(user.ErrNotFound, chat.ErrStillTalking, auth.ErrLastAdmin), func(ctx huma.Context, id string) error {
		if err := cfg.known(id); err != nil {
			return err
		}
		done, err := cfg.Erase(ctx.Context(), id)
		if err != nil {
			return err
		}
		text, err := json.Marshal(erasedOf(done))
		if err != nil {
			return err
		}
		ctx.SetHeader("Content-Type", "application/json")
		ctx.SetStatus(http.StatusOK)
		_, _ = ctx.BodyWriter().Write(append(text, '\n')) // the client may be gone
		return nil
	})
	a.long(operation(huma.Operation{
		OperationID: "export-user", Method: http.MethodGet, Path: "/admin/users/{id}/export", Parameters: userParameter(),
		Summary: "Export what is kept of a user",
		Description: "JSON texts, one a line. Each is an object with a type: export (the first), account, session, mail, membership, mark, block, message, reaction, and end (the last), which says how many lines " +
			"come before it. An export that does not end with it is not whole: then the last line may be an error that says why. Nothing in it is secret.",
		Responses: map[string]*huma.Response{"200": {Description: "The lines.", Content: map[string]*huma.MediaType{
			MediaLines: {Schema: &huma.Schema{Type: huma.TypeString}},
		}}},
	}), failures(user.ErrNotFound), func(ctx huma.Context, id string) error {
		if err := cfg.known(id); err != nil {
			return err
		}
		u := user.User{ID: user.ID(id)}
		if cfg.Accounts != nil {
			var err error
			if u, err = cfg.Accounts.Find(ctx.Context(), id); err != nil {
				return err
			}
		}
		ctx.SetHeader("Content-Type", MediaLines)
		ctx.SetHeader("Cache-Control", "no-store")
		ctx.SetStatus(http.StatusOK)
		out := &lines{to: bufio.NewWriterSize(ctx.BodyWriter(), 32<<10)}
		err := cfg.export(ctx.Context(), u, out)
		if err != nil {
			a.note(ctx.Context(), "export-user", err)
			_ = out.line("error", map[string]any{"title": fault.Public(err).Title}) // the client may be gone
		} else {
			_ = out.line("end", map[string]any{"lines": out.n})
		}
		_ = out.to.Flush() // as above
		return nil
	})
	return nil
}

func recordOf(u user.User) userRecord {
	a := userRecord{
		ID: string(u.ID), FullName: u.FullName, Email: string(u.Email),
		CreatedAt: u.CreatedAt, VerifiedAt: u.VerifiedAt, PasswordChangedAt: u.PasswordChangedAt, Role: string(u.Role.Named()), DisabledAt: u.DisabledAt,
		Language: u.Language, AvatarURL: u.AvatarURL, NewEmail: string(u.NewEmail),
	}
	if u.Erased() {
		a.Email, a.Erased = "", true
	}
	return a
}

func erasedOf(e parley.UserErasure) erasedUser {
	out := erasedUser{ID: string(e.UserID)}
	if d := e.Account; d != nil {
		out.Account = &erasedAccount{Emptied: d.Email != "", Sessions: d.Sessions, Codes: d.Codes, SignUps: d.SignUps}
	}
	if d := e.Mails; d != nil {
		out.Mails = &erasedMails{Jobs: d.Jobs, Events: d.Events}
	}
	if d := e.Author; d != nil {
		out.Chat = &erasedChat{Memberships: d.Memberships, Messages: d.Messages, Reactions: d.Reactions, Blocks: d.Blocks}
	}
	return out
}

// lines writes JSON texts, one a line.
type lines struct {
	to *bufio.Writer
	n  int
}

// line writes a line that begins with its type; fields is a map or a structure that is not empty.
func (l *lines) line(kind string, fields any) error {
	text, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	l.n++
	_, _ = l.to.WriteString(`{"type":"` + kind + `",`) // an error is the writer's from then on
	_, _ = l.to.Write(text[1:])
	return l.to.WriteByte('\n')
}

type exportedSession struct {
	ID         string    `json:"id"`
	CreatedAt  time.Time `json:"createdAt"`
	LastUsedAt time.Time `json:"lastUsedAt"`
	ExpiresAt  time.Time `json:"expiresAt"`
	Device     string    `json:"device,omitempty"`
	Network    string    `json:"network,omitempty"`
}

type exportedMail struct {
	ID        string    `json:"id"`
	Kind      string    `json:"kind"`
	State     string    `json:"state"`
	To        string    `json:"to"`
	CreatedAt time.Time `json:"createdAt"`
}

type exportedMessage struct {
	Room      string          `json:"room"`
	Seq       uint64          `json:"seq"`
	ID        string          `json:"id"`
	ClientID  string          `json:"clientId,omitempty"`
	Name      string          `json:"name"`
	Text      string          `json:"text"`
	At        time.Time       `json:"at"`
	EditedAt  time.Time       `json:"editedAt,omitzero"`
	DeletedAt time.Time       `json:"deletedAt,omitzero"`
	ReplyTo   uint64          `json:"replyTo,omitempty"`
	Data      json.RawMessage `json:"data,omitempty"`
}

// export writes all lines but the last.
func (cfg *UsersConfig) export(ctx context.Context, u user.User, out *lines) error {
	if err := out.line("export", map[string]any{"format": 1, "user": u.ID, "at": cfg.Now().UTC()}); err != nil {
		return err
	}
	if cfg.Accounts != nil {
		if err := out.line("account", recordOf(u)); err != nil {
			return err
		}
		sessions, err := cfg.Accounts.Sessions(ctx, u.ID)
		if err != nil {
			return err
		}
		for _, s := range sessions {
			if err := out.line("session", exportedSession{s.ID, s.CreatedAt, s.LastSeen(), s.ExpiresAt, s.Device, s.Network}); err != nil {
				return err
			}
		}
	}
	if cfg.Mails != nil && !u.Erased() && u.Email != "" {
		if err := cfg.exportMails(ctx, u.Email, out); err != nil {
			return err
		}
	}
	if cfg.Chat == nil {
		return nil
	}
	return cfg.Chat.ExportAuthor(ctx, u.ID, chat.AuthorVisitor{
		Membership: func(m chat.Membership) error {
			if err := out.line("membership", map[string]any{"room": m.Room, "since": m.Since}); err != nil {
				return err
			}
			return out.line("mark", map[string]any{"room": m.Room, "read": m.Read})
		},
		Block: func(b chat.Block) error {
			return out.line("block", map[string]any{"user": b.Whom, "at": b.At})
		},
		Settings: func(s chat.UserSettings) error {
			return out.line("settings", map[string]any{"readReceipts": !s.HidesRead})
		},
		Message: func(m chat.Message) error {
			return out.line("message", exportedMessage{
				Room: m.Room, Seq: m.Seq, ID: m.ID, ClientID: m.ClientID, Name: m.Author.Name, Text: m.Text, At: m.At,
				EditedAt: m.EditedAt, DeletedAt: m.DeletedAt, ReplyTo: m.ReplyTo, Data: json.RawMessage(m.Data),
			})
		},
		Reaction: func(m chat.Message, key string) error {
			return out.line("reaction", map[string]any{"room": m.Room, "seq": m.Seq, "key": key})
		},
	})
}

func (cfg *UsersConfig) exportMails(ctx context.Context, to user.Email, out *lines) error {
	f := mail.Filter{To: to, Limit: 100}
	for {
		jobs, err := cfg.Mails.List(ctx, f)
		if err != nil {
			return err
		}
		for _, j := range jobs {
			f.After = j.ID
			if err := out.line("mail", exportedMail{j.ID, string(j.Kind), string(j.State), string(j.To), j.CreatedAt}); err != nil {
				return err
			}
		}
		if len(jobs) < f.Limit {
			return nil
		}
	}
}

func userParameter() []*huma.Param {
	longest := maxUserRef
	return []*huma.Param{{
		Name: "id", In: "path", Required: true, Description: "ID of the user, or else the e-mail address.",
		Schema: &huma.Schema{Type: huma.TypeString, MaxLength: &longest},
	}}
}

// long puts an operation onto the API that may take as long as it needs, for administrators. An error of handle, which has written nothing then, is a problem.
func (a *API) long(op huma.Operation, failures []error, handle func(ctx huma.Context, id string) error) {
	if a.recorded(&op) {
		op.Middlewares = append(op.Middlewares, a.record)
	}
	a.describe(&op, append(everyFailure(), failures...))
	unbounded := func(ctx huma.Context) {
		r, w := humago.Unwrap(ctx)
		id := ctx.Param("id")
		if r.URL.RawQuery != "" {
			refuse(ctx, invalidAt("query", "there are no parameters"))
			return
		}
		if utf8.RuneCountInString(id) > maxUserRef {
			refuse(ctx, invalidAt("path.id", "it is longer than 512 characters"))
			return
		}
		// Servers that bound each answer are asked not to, where they can be.
		control := http.NewResponseController(w)
		_, _ = control.SetReadDeadline(time.Time{}), control.SetWriteDeadline(time.Time{})
		if err := handle(ctx, id); err != nil {
			a.note(ctx.Context(), op.OperationID, err)
			refuse(ctx, err)
		}
	}
	a.Adapter().Handle(&op, a.Middlewares().Handler(op.Middlewares.Handler(unbounded)))
	a.OpenAPI().AddOperation(&op)
}

// known refuses, in a program without accounts, what can be no user's ID: there nobody else would say that there is no such user.
func (cfg *UsersConfig) known(id string) error {
	if cfg.Accounts != nil {
		return nil
	}
	if _, err := user.ParseEmail(id); err == nil {
		return user.ErrNotFound.Detail("accounts are kept by another program: name the user by the ID")
	}
	if user.ID(id) == chat.System.ID {
		return user.ErrNotFound.Detail("the system is no user")
	}
	return nil
}
