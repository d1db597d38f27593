package humaapi

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed" // for the page and its style
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

// Where the forms on the pages go. A mail scanner that fetches a link gets the page and
// changes nothing; these take POST only.
const (
	verifyFormPath = "/auth/verify/confirm"
	resetFormPath  = "/auth/password/reset/confirm"
)

// page is what page.html shows.
type page struct {
	Title, Text string
	// Action is where the form goes, relative to the page, so that a proxy may put a prefix in
	// front; empty means no form.
	Action, Code, Button string
	AskPassword          bool
	// Problem is what was wrong with the password.
	Problem string
	// Onward is where a button leads that sends no form, and Shown a code to be copied; empty for neither.
	Onward, Shown string
	// Link is where to sign in; empty means no link.
	Link string

	Product     string
	Style       template.CSS
	MinPassword int
}

// pages renders the small pages behind the links in mails. They work without JavaScript.
type pages struct {
	api      *API
	service  *auth.Service
	template *template.Template
	policy   string
	product  string
	signIn   string
}

func registerPages(a *API, cfg AuthConfig) error {
	parsed, err := template.New("page").Parse(pageHTML)
	if err != nil {
		return fmt.Errorf("page template: %w", err)
	}
	hash := sha256.Sum256([]byte(pageCSS))
	p := &pages{
		api: a, service: cfg.Service, template: parsed, product: cfg.Product, signIn: cfg.SignInURL,
		policy: "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) +
			"'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
	}
	a.tag("pages", "What people see who follow a link in a mail. HTML, for browsers.")
	linkFailures := map[int]string{http.StatusBadRequest: "The link is not complete."}
	p.serve(huma.Operation{
		OperationID: "verify-page", Method: http.MethodGet, Path: "/auth/verify",
		Summary: "The link in the verification mail", Description: "A page whose button confirms. Fetching it uses nothing up.",
		Parameters: codeParameter(),
	}, linkFailures, p.verifyPage)
	p.serve(huma.Operation{
		OperationID: "reset-password-page", Method: http.MethodGet, Path: "/auth/password/reset",
		Summary: "The link in the mail for a new password", Description: "A page that asks for the password. Fetching it uses nothing up.",
		Parameters: codeParameter(),
	}, linkFailures, p.resetPage)

	p.serve(huma.Operation{
		OperationID: "link-page", Method: http.MethodGet, Path: "/auth/link",
		Summary: "The link in the mail by which one signs in", Description: "A page whose button leads to the page of the chat, with the code in the fragment, and which shows the code for other programs. Fetching it uses nothing up.",
		Parameters: codeParameter(),
	}, linkFailures, p.linkPage)

	formFailures := map[int]string{
		http.StatusBadRequest:            "The code is not known, or the form cannot be read.",
		http.StatusRequestTimeout:        "The form did not arrive in time.",
		http.StatusGone:                  "The code was used already or has expired.",
		http.StatusRequestEntityTooLarge: "The form is too large.",
		http.StatusUnsupportedMediaType:  "It is not a form.",
		http.StatusTooManyRequests:       "A limit is reached.",
		http.StatusInternalServerError:   "Something went wrong on our side.",
		http.StatusServiceUnavailable:    "A service that this needs does not answer.",
	}
	p.serve(huma.Operation{
		OperationID: "verify-form", Method: http.MethodPost, Path: verifyFormPath,
		Summary: "The button of the verification page", RequestBody: formBody("code"),
	}, formFailures, p.verify)
	formFailures[http.StatusUnprocessableEntity] = "The password cannot be used; the form is shown again."
	p.serve(huma.Operation{
		OperationID: "reset-password-form", Method: http.MethodPost, Path: resetFormPath,
		Summary: "The form of the page for a new password", RequestBody: formBody("code", "password"),
	}, formFailures, p.reset)
	return nil
}

func codeParameter() []*huma.Param {
	return []*huma.Param{{
		Name: "code", In: "query", Required: true, Description: "The code from the mail.",
		Schema: &huma.Schema{Type: huma.TypeString}, Example: "Jx2pZkq0w3vE5yTn8sBd1A",
	}}
}

func formBody(fields ...string) *huma.RequestBody {
	schema := &huma.Schema{Type: huma.TypeObject, Required: fields, Properties: map[string]*huma.Schema{}}
	for _, name := range fields {
		schema.Properties[name] = &huma.Schema{Type: huma.TypeString}
	}
	return &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{mediaForm: {Schema: schema}}}
}

// serve registers an operation that answers with pages, also when it fails.
func (p *pages) serve(op huma.Operation, failures map[int]string, handle func(huma.Context)) {
	op.Tags = []string{"pages"}
	op.Responses = map[string]*huma.Response{}
	html := func(description string) *huma.Response {
		return &huma.Response{Description: description, Content: map[string]*huma.MediaType{
			"text/html": {Schema: &huma.Schema{Type: huma.TypeString}},
		}}
	}
	for status, description := range failures {
		op.Responses[strconv.Itoa(status)] = html(description)
	}
	op.Responses["200"] = html("The page.")
	if op.Method == http.MethodPost {
		p.api.forms[op.Method+" "+op.Path] = true
	}
	p.api.serve(op, nil, handle)
}

func (p *pages) verifyPage(ctx huma.Context) {
	p.ask(ctx, page{
		Title: "Confirm your e-mail address", Text: "One click, and your account is ready.",
		Action: "verify/confirm", Button: "Confirm address",
	})
}

func (p *pages) resetPage(ctx huma.Context) {
	p.ask(ctx, page{
		Title: "Choose a new password", Text: "You will be signed out everywhere else.",
		Action: "reset/confirm", Button: "Set password", AskPassword: true,
	})
}

// linkPage leads on to where tokens are kept: a form would sign in nobody. The code is in the fragment, which no server and no log gets.
func (p *pages) linkPage(ctx huma.Context) {
	shown := page{Title: "Sign in", Text: "You asked for a link to sign in. It works once.", Button: "Sign in"}
	if code := ctx.Query("code"); code != "" {
		shown.Onward, shown.Shown = p.signIn+"#link="+url.QueryEscape(code), code
	}
	p.ask(ctx, shown)
}

// ask shows a form with the code of the link.
func (p *pages) ask(ctx huma.Context, form page) {
	form.Code = ctx.Query("code")
	if form.Code == "" {
		p.show(ctx, http.StatusBadRequest, page{
			Title: "This link is not complete", Text: "Please copy the whole link from the mail into the address bar.", Link: p.signIn,
		})
		return
	}
	p.show(ctx, http.StatusOK, form)
}

func (p *pages) verify(ctx huma.Context) {
	form, err := p.api.readForm(ctx)
	if err == nil {
		err = p.service.AllowCode(ctx.Context(), from(ctx.Context()))
	}
	if err == nil {
		err = p.service.Verify(ctx.Context(), form.Get("code"))
	}
	if err != nil {
		p.fail(ctx, err)
		return
	}
	p.show(ctx, http.StatusOK, page{Title: "Your address is confirmed", Text: "You can sign in now.", Link: p.signIn})
}

func (p *pages) reset(ctx huma.Context) {
	form, err := p.api.readForm(ctx)
	if err == nil {
		err = p.service.AllowCode(ctx.Context(), from(ctx.Context()))
	}
	if err == nil {
		err = p.service.ResetPassword(ctx.Context(), form.Get("code"), form.Get("password"))
	}
	if errors.Is(err, auth.ErrPasswordInvalid) {
		public := fault.Public(err)
		p.show(ctx, http.StatusUnprocessableEntity, page{
			Title: "Choose a new password", Text: "You will be signed out everywhere else.",
			Action: "confirm", Code: form.Get("code"), Button: "Set password", AskPassword: true,
			Problem: "That password cannot be used: " + cmp.Or(public.Detail, public.Title) + ".",
		})
		return
	}
	if err != nil {
		p.fail(ctx, err)
		return
	}
	p.show(ctx, http.StatusOK, page{Title: "Your password is set", Text: "You can sign in with it now.", Link: p.signIn})
}

// fail shows a page that says what went wrong and what to do.
func (p *pages) fail(ctx huma.Context, err error) {
	p.api.note(ctx.Context(), ctx.Operation().OperationID, err)
	failed := document(err)
	if failed.retryAfter != "" {
		ctx.SetHeader("Retry-After", failed.retryAfter)
	}
	shown := page{Title: "That did not work", Text: "Please try again in a moment.", Link: p.signIn}
	switch {
	case errors.Is(err, auth.ErrCodeGone):
		shown.Title, shown.Text = "This link is used up", "It was used already or has expired. You can ask for a new one where you sign in."
	case errors.Is(err, auth.ErrCodeUnknown):
		shown.Title, shown.Text = "This link is not valid", "Please copy the whole link from the mail into the address bar."
	case failed.Status < http.StatusInternalServerError:
		shown.Text = "The form could not be read. Please open the link in the mail again."
	}
	p.show(ctx, failed.Status, shown)
}

func (p *pages) show(ctx huma.Context, status int, shown page) {
	shown.Product, shown.Style, shown.MinPassword = p.product, template.CSS(pageCSS), p.service.PasswordMin() //nolint:gosec // the style is ours
	var text bytes.Buffer
	if err := p.template.Execute(&text, shown); err != nil {
		p.api.note(ctx.Context(), ctx.Operation().OperationID, fmt.Errorf("page template: %w", err))
		refuse(ctx, fault.Internal)
		return
	}
	ctx.SetHeader("Content-Type", "text/html; charset=utf-8")
	ctx.SetHeader("Content-Security-Policy", p.policy)
	ctx.SetStatus(status)
	_, _ = ctx.BodyWriter().Write(text.Bytes()) // the client may be gone
}

// readForm reads the fields of a form that was sent.
func (a *API) readForm(ctx huma.Context) (url.Values, error) {
	data, err := a.readBody(ctx, mediaForm)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(data))
	if err != nil {
		return nil, errMalformed.Because(err)
	}
	for _, values := range form {
		for _, value := range values {
			if !isText(value) {
				return nil, errMalformed.Detail("a field is not text")
			}
		}
	}
	return form, nil
}
