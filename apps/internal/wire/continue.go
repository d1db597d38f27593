package wire

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"github.com/parley-chat/parley/adapters/filemail"
	"github.com/parley-chat/parley/adapters/humaapi"
	"github.com/parley-chat/parley/apps/web"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
)

// person is somebody whom a visitor may continue as where mails go to the development mailbox. The account is one like
// all others.
type person struct {
	as, name, fullName string
	// email is where nobody gets a mail, ever: no name ends in test (RFC 6761 section 6.2). So nobody gets a new password
	// for the account either where its data folder is used for more than development later.
	email user.Email
}

var people = []person{
	{as: "ada", name: "Ada", fullName: "Ada Lovelace", email: "ada@parley.test"},
	{as: "grace", name: "Grace", fullName: "Grace Hopper", email: "grace@parley.test"},
}

const (
	// peopleFile is the file of the data folder that has their passwords.
	peopleFile = "people.json"
	// continueTimeout bounds a call: the first one of a person waits for a mail.
	continueTimeout = 10 * time.Second
	// passwordBytes is how much randomness a password has. Its text is as long as any PARLEY_PASSWORD_MIN asks for.
	passwordBytes = 48
)

var (
	errPeople      = fault.New(fault.Unavailable, "people_unreadable", "the file "+peopleFile+" in the data folder cannot be used; the log says why")
	errPersonTaken = fault.New(fault.Conflict, "person_taken", "the account of this person has another password")
	errNoCode      = fault.New(fault.Unavailable, "code_not_mailed", "the mail that confirms the address of this person did not come in time")
)

// door signs visitors in as one of the people. The first call for a person makes the account, as people do: it signs up,
// takes the code from the development mailbox, and confirms the address.
type door struct {
	service *auth.Service
	users   user.Repository
	box     *filemail.Mailbox
	turns   map[string]chan struct{} // for each person, who makes the account has put something in

	mu        sync.Mutex
	file      string            // empty to keep the passwords in memory alone
	passwords map[string]string // nil until somebody asks
}

// withPeople lets visitors of the page continue as one of the people, if there is a development mailbox.
func (a *App) withPeople(cfg web.Config, service *auth.Service, publicURL string) web.Config {
	if a.box == nil {
		return cfg
	}
	d := &door{service: service, users: a.ports.Users, box: a.box, turns: map[string]chan struct{}{}}
	if a.settings.Store != "memory:" {
		d.file = filepath.Join(a.settings.Data, peopleFile)
	}
	byName := map[string]person{}
	for _, p := range people {
		byName[p.as], d.turns[p.as] = p, make(chan struct{}, 1)
		cfg.People = append(cfg.People, web.Person{As: p.as, Name: p.name})
	}
	if own, err := socket.OriginOf(publicURL); err == nil {
		cfg.Own, _ = socket.ParseOrigins([]string{own}) // it is one
	}
	cfg.Continue = func(r *http.Request, as string) (any, error) {
		from := auth.Client{UserAgent: r.UserAgent()}
		if address := humaapi.ClientAddress(r, a.settings.TrustedRanges); address.IsValid() {
			from.Address = address.String()
		}
		ctx, cancel := context.WithTimeout(r.Context(), continueTimeout)
		defer cancel()
		g, err := d.open(ctx, from, byName[as])
		if err != nil {
			if kind := fault.KindOf(err); (kind == fault.Internal || kind == fault.Unavailable) && r.Context().Err() == nil {
				a.log.ErrorContext(ctx, "nobody can continue as one of the people", "as", as, "error", err)
			}
			return nil, err
		}
		return humaapi.SignedIn(g), nil
	}
	return cfg
}

// open opens a session of p.
func (d *door) open(ctx context.Context, from auth.Client, p person) (auth.Grant, error) {
	password, err := d.password(p)
	if err != nil {
		return auth.Grant{}, err
	}
	if err := d.makeAccount(ctx, from, p, password); err != nil {
		return auth.Grant{}, err
	}
	g, err := d.service.SignIn(ctx, from, string(p.email), password)
	// A sign-up with our password may wait there too, which can no longer be confirmed.
	if errors.Is(err, auth.ErrInvalidCredentials) || errors.Is(err, auth.ErrNotVerified) {
		return auth.Grant{}, p.taken()
	}
	return g, err
}

func (p person) taken() error {
	return errPersonTaken.Detail("somebody has signed up as %s: sign in with the password that was chosen then", p.email)
}

// makeAccount makes the account of p, unless the address has one.
func (d *door) makeAccount(ctx context.Context, from auth.Client, p person, password string) error {
	select {
	case d.turns[p.as] <- struct{}{}:
		defer func() { <-d.turns[p.as] }()
	case <-ctx.Done():
		return fault.Wrap(fault.Unavailable, ctx.Err())
	}
	switch owner, err := d.users.ByEmail(ctx, p.email); {
	case err == nil && owner.Verified():
		return nil
	case err != nil && !errors.Is(err, user.ErrNotFound):
		return fault.Wrap(fault.Unavailable, err)
	}
	old := map[string]bool{}
	for _, m := range d.box.All() {
		old[m.ID] = true
	}
	err := d.service.SignUp(ctx, from, auth.SignUp{FullName: p.fullName, Email: string(p.email), Password: password})
	if errors.Is(err, user.ErrEmailTaken) { // which PARLEY_AUTH_TAKEN=conflict tells also where a sign-up waits
		if _, err := d.service.SignIn(ctx, from, string(p.email), password); !errors.Is(err, auth.ErrNotVerified) {
			return p.taken()
		}
		old, err = nil, nil // it is ours, of a call that was cut short, and its mail may be there
	}
	if err != nil {
		return err
	}
	code, err := d.code(ctx, p, old)
	if err != nil {
		return err
	}
	if err := d.service.Verify(ctx, code); err != nil && !errors.Is(err, auth.ErrCodeGone) { // which the sign-in explains
		return err
	}
	return nil
}

// verifyLink finds the code in the mail that asks to confirm an address.
var verifyLink = regexp.MustCompile(`/auth/verify\?code=([A-Za-z0-9_-]+)`)

// code waits for a mail to p that is not among the old ones, and returns the code in it.
func (d *door) code(ctx context.Context, p person, old map[string]bool) (string, error) {
	for {
		more := d.box.More()
		for _, m := range d.box.All() {
			if found := verifyLink.FindStringSubmatch(m.Text); found != nil && m.To == string(p.email) && !old[m.ID] {
				return found[1], nil
			}
		}
		select {
		case <-more:
		case <-ctx.Done():
			return "", errNoCode.Because(ctx.Err())
		}
	}
}

// password returns the password of p. The first call makes the passwords of all, or reads them.
func (d *door) password(p person) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.passwords == nil {
		made, err := openPasswords(d.file)
		if err != nil {
			return "", errPeople.Because(err)
		}
		d.passwords = made
	}
	return d.passwords[p.as], nil
}

// openPasswords returns the password of each of the people. It reads them from the file, or makes them and the file, readable by
// its owner alone. A file that it cannot make sense of is an error, and stays.
func openPasswords(file string) (map[string]string, error) {
	if file != "" {
		text, err := os.ReadFile(file)
		if err == nil {
			return readPasswords(file, text)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	passwords := map[string]string{}
	for _, p := range people {
		secret := make([]byte, passwordBytes)
		_, _ = rand.Read(secret) // it never fails
		passwords[p.as] = base64.RawURLEncoding.EncodeToString(secret)
	}
	if file == "" {
		return passwords, nil
	}
	text, err := json.MarshalIndent(passwords, "", "  ")
	if err == nil {
		err = writeSecret(file, append(text, '\n'))
	}
	if err != nil {
		return nil, err
	}
	return passwords, nil
}

// readPasswords reads what openPasswords has written. Its errors do not quote it.
func readPasswords(file string, text []byte) (map[string]string, error) {
	var passwords map[string]string
	damaged := json.Unmarshal(text, &passwords) != nil
	for _, p := range people {
		damaged = damaged || len(passwords[p.as]) < base64.RawURLEncoding.EncodedLen(passwordBytes)
	}
	if damaged {
		return nil, fmt.Errorf("the file %s is damaged: restore it from a copy, or remove it to start with new passwords", file)
	}
	return passwords, nil
}

// writeSecret makes a file that its owner alone can read. It is whole or not there, whatever happens meanwhile.
func writeSecret(file string, text []byte) error {
	folder := filepath.Dir(file)
	temp, err := os.CreateTemp(folder, "."+filepath.Base(file)+"-*") // made with mode 0600
	if err != nil {
		return err
	}
	_, err = temp.Write(text)
	if err == nil {
		err = temp.Sync()
	}
	if err = errors.Join(err, temp.Close()); err == nil {
		err = os.Rename(temp.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return syncFolder(folder)
}
