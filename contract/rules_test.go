package contract_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/parley-chat/parley/contract"
)

// specifications names, for each suite, what in core its rules are quoted from: the port, and the values that cross it.
// "mail.Queue" is the type with its methods or fields.
var specifications = map[string][]string{
	"UserRepository": {"user.Repository", "user.User"},
	"Outbox":         {"event.Outbox"},
	"Directory":      {"user.Directory", "user.Filter"},
	"Asides":         {"event.Asides", "event.Filter", "event.Outbox"},
	"EventBus":       {"event.Publisher", "event.Subscriber"},
	"MailQueue":      {"mail.Queue", "mail.Job", "mail.ErrLeaseLost"},
	"DeadLetters":    {"mail.DeadLetters", "mail.Filter", "mail.Eraser"},
	"MailStats":      {"mail.Stats"},
	"MailSender":     {"mail.Sender"},
	"SessionStore":   {"auth.SessionStore", "auth.Sweeper", "auth.Eraser"},
	"Standings":      {"auth.Standings"},
	"CodeStore":      {"auth.CodeStore", "auth.Sweeper", "auth.Eraser"},
	"FactorStore":    {"auth.FactorStore", "auth.Eraser"},
	"SignUps":        {"auth.SignUps", "auth.Sweeper", "auth.Eraser"},
	"Nonces":         {"auth.Nonces"},
	"Limiter":        {"auth.Limiter"},
	"Hasher":         {"auth.Hasher"},
	"PasswordList":   {"auth.PasswordList"},
	"TokenVerifier":  {"auth.TokenVerifier", "auth.TokenIssuer"},
	"MessageStore":   {"chat.MessageStore", "chat.Message", "chat.Range", "chat.Bounds", "chat.Change", "chat.Changed", "chat.Reaction"},
	"Recorder":       {"chat.Recorder", "chat.Record"},
	"RoomRecorder":   {"chat.RoomRecorder", "chat.RoomRecord"},
	"Rooms":          {"chat.Rooms", "chat.Room"},
	"Members":        {"chat.Members", "chat.Membership"},
	"Marks":          {"chat.Marks", "chat.Mark", "chat.Marked", "chat.MyRoom", "chat.Members"},
	"Roles":          {"chat.Roles", "chat.Rooms", "chat.Room", "chat.Members", "chat.Membership", "chat.Marks", "chat.Restrictions"},
	"Restrictions":   {"chat.Restrictions", "chat.Restriction", "chat.Ban"},
	"Blocks":         {"chat.Blocks"},
	"Settings":       {"chat.Settings"},
	"AuditLog":       {"audit.Log"},
	"RecentCache":    {"chat.RecentCache", "chat.Recent"},
	"Pruner":         {"chat.Pruner", "chat.MessageStore", "chat.Marks", "chat.MyRoom"},
	"Screen":         {"chat.Screen"},
	"Fanout":         {"realtime.Fanout"},
	"Presence":       {"realtime.Presence", "realtime.Renewal", "realtime.Renewed", "realtime.Roll"},
	"Format":         {"protocol.Format"},
	"Conn":           {"socket.Conn", "socket.Receiver", "socket.Acceptor"},
}

// TestEveryRuleIsTheSentenceOfAPort reads the sources of core and holds that a rule is made of whole sentences of the
// comments of its port. So a failure quotes the specification, and a rule that nobody promised cannot be asked for.
func TestEveryRuleIsTheSentenceOfAPort(t *testing.T) {
	said := comments(t)
	suites := trials()
	if len(suites) != len(specifications) {
		t.Errorf("there are %d suites, and specifications of %d", len(suites), len(specifications))
	}
	for _, s := range suites {
		var promised []string
		for _, name := range specifications[s.name] {
			if len(said[name]) == 0 {
				t.Errorf("%s: nothing is said of %s in core", s.name, name)
			}
			promised = append(promised, said[name]...)
		}
		for i, rule := range s.rules {
			for _, sentence := range sentences(rule) {
				if !slices.Contains(promised, sentence) {
					t.Errorf("%s: %q has a rule that is no sentence of %v:\n\t%s", s.name, s.cases[i], specifications[s.name], sentence)
				}
			}
		}
	}
}

func TestSentences(t *testing.T) {
	got := sentences("One rule, see [Port.Method] (RFC 6455 section 5.4).\nchange may run\nmore than once: twice. Cut")
	want := []string{"One rule, see Port.Method (RFC 6455 section 5.4).", "change may run more than once: twice.", "Cut"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(sentences("")) != 0 {
		t.Error("nothing has sentences")
	}
}

// comments returns the sentences of the comment of each type, value and variable of core, and of the methods and fields
// in it, by package and name.
func comments(t *testing.T) map[string][]string {
	t.Helper()
	files, err := filepath.Glob("../core/*/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no sources of core: %v", err)
	}
	said := map[string][]string{}
	fset := token.NewFileSet()
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		add := func(name string, groups ...*ast.CommentGroup) {
			for _, g := range groups {
				said[file.Name.Name+"."+name] = append(said[file.Name.Name+"."+name], sentences(g.Text())...)
			}
		}
		for _, d := range file.Decls {
			decl, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, s := range decl.Specs {
				switch spec := s.(type) {
				case *ast.TypeSpec:
					add(spec.Name.Name, decl.Doc, spec.Doc)
					var parts *ast.FieldList
					switch typ := spec.Type.(type) {
					case *ast.InterfaceType:
						parts = typ.Methods
					case *ast.StructType:
						parts = typ.Fields
					default:
						continue
					}
					for _, part := range parts.List {
						add(spec.Name.Name, part.Doc, part.Comment)
					}
				case *ast.ValueSpec:
					for _, name := range spec.Names {
						add(name.Name, decl.Doc, spec.Doc)
					}
				}
			}
		}
	}
	return said
}

// sentences divides a comment: a sentence ends with a full stop before white space. Links lose their brackets.
func sentences(comment string) []string {
	var all []string
	var words []string
	for word := range strings.FieldsSeq(strings.NewReplacer("[", "", "]", "").Replace(comment)) {
		words = append(words, word)
		if strings.HasSuffix(word, ".") {
			all, words = append(all, strings.Join(words, " ")), nil
		}
	}
	if len(words) > 0 {
		all = append(all, strings.Join(words, " "))
	}
	return all
}

// rules are those of cases, in order.
func rules[P any](cases []contract.Case[P]) []string {
	all := make([]string, len(cases))
	for i, c := range cases {
		all[i] = c.Rule
	}
	return all
}
