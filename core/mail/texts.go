package mail

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/parley-chat/parley/core/user"
)

// ours is the templates that come with the program: what mails say, a file a language, and what they look like.
//
//go:embed templates
var ours embed.FS

// own is ours without the folder.
func own() fs.FS {
	sub, err := fs.Sub(ours, "templates")
	if err != nil {
		panic(err) // the name is a constant
	}
	return sub
}

// texts is what one mail says. {product}, {name}, and {until}, the time until which a code is good or
// at which something happened, are filled in; {asked} is the time of a sign-up, and {network} where
// it came from; {device} is a device, with the network that it came from; {change} is a sentence that says what has become of a second factor;
// {code} is a code to be typed in.
type texts struct {
	Subject    string   `json:"subject"`
	Heading    string   `json:"heading"`
	Paragraphs []string `json:"paragraphs"`
	// Asked and AskedFrom follow the paragraphs: where only the time of the sign-up is known, and
	// where its network is known too. Empty: that is not said.
	Asked     string `json:"asked"`
	AskedFrom string `json:"askedFrom"`
	Button    string `json:"button"` // empty: no link
	Footer    string `json:"footer"`
}

// all are the texts of a mail.
func (t texts) all() []string {
	return append([]string{t.Subject, t.Heading, t.Asked, t.AskedFrom, t.Button, t.Footer}, t.Paragraphs...)
}

// language is what all mails in one language say: the content of a file.
type language struct {
	Greeting    string `json:"greeting"`    // with {name}
	Anonymous   string `json:"anonymous"`   // a greeting without a name
	LinkHint    string `json:"linkHint"`    // stands before the link as text
	Time        string `json:"time"`        // layout of a time in UTC, as package time has it
	AnyDevice   string `json:"anyDevice"`   // a device whose kind is not known
	FromNetwork string `json:"fromNetwork"` // follows a device, with {network}
	// FactorChanges are sentences that say what has become of a second factor.
	FactorChanges map[FactorChange]string `json:"factorChanges"`
	Mails         map[Kind]texts          `json:"mails"`
}

// mistake is what is wrong with a file of templates.
type mistake struct {
	file string
	line int // 0: the whole file
	what string
}

func (m mistake) Error() string {
	if m.line == 0 {
		return m.file + ": " + m.what
	}
	return fmt.Sprintf("%s:%d: %s", m.file, m.line, m.what)
}

// onOneLine is what several mistakes are as one line of a log.
func onOneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// lineOf returns the line in which offset is.
func lineOf(data []byte, offset int64) int {
	return 1 + bytes.Count(data[:min(max(offset, 0), int64(len(data)))], []byte("\n"))
}

// lineWith returns the first line that has text, or 0.
func lineWith(data []byte, text string) int {
	if i := bytes.Index(data, []byte(text)); i >= 0 {
		return lineOf(data, int64(i))
	}
	return 0
}

// kindsOf are the mails that there are: those of English.
func kindsOf(languages map[string]language) []Kind {
	return slices.Sorted(maps.Keys(languages["en"].Mails))
}

// readLanguages returns the languages of a folder, upon those of base: what a file says takes the place of what base says. A language that
// base has not must say everything.
func readLanguages(files fs.FS, base map[string]language) (map[string]language, error) {
	out := maps.Clone(base)
	if out == nil {
		out = map[string]language{}
	}
	names, err := fs.Glob(files, "*.json")
	if err != nil {
		return nil, err
	}
	slices.SortFunc(names, func(a, b string) int { // English first, which says which mails there are
		if (a == "en.json") != (b == "en.json") {
			if a == "en.json" {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	var wrong []error
	for _, name := range names {
		tag := strings.TrimSuffix(name, ".json")
		if proper, err := user.ParseLanguage(tag); err != nil || proper != tag {
			wrong = append(wrong, mistake{name, 0, "it is not named after a tag of BCP 47, as de.json and pt-BR.json are"})
			continue
		}
		data, err := fs.ReadFile(files, name)
		if err != nil {
			wrong = append(wrong, mistake{name, 0, reason(err)})
			continue
		}
		l, err := readLanguage(name, data, out[tag], kindsOf(out))
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		out[tag] = l
	}
	return out, errors.Join(wrong...)
}

// reason is why a file cannot be read, without its name, which is said already.
func reason(err error) string {
	var of *fs.PathError
	if errors.As(err, &of) {
		return of.Err.Error()
	}
	return err.Error()
}

// readLanguage reads a file upon l. kinds are the mails that there are; with none, all are welcome.
func readLanguage(name string, data []byte, l language, kinds []Kind) (language, error) {
	before := l.Mails
	l.Mails, l.FactorChanges = nil, maps.Clone(l.FactorChanges)
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	// Each mail by itself, since a map replaces a value as a whole.
	var raw struct {
		language
		Mails map[Kind]json.RawMessage `json:"mails"`
	}
	raw.language = l
	if err := d.Decode(&raw); err != nil {
		return language{}, notJSON(name, data, 0, err, d.InputOffset())
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return language{}, mistake{name, lineOf(data, d.InputOffset()), "there is more than one JSON text"}
	}
	l = raw.language
	l.Mails = map[Kind]texts{}
	maps.Copy(l.Mails, before)
	var wrong []error
	for _, kind := range slices.Sorted(maps.Keys(raw.Mails)) {
		if len(kinds) > 0 && !slices.Contains(kinds, kind) {
			wrong = append(wrong, mistake{name, lineWith(data, fmt.Sprintf("%q", kind)), fmt.Sprintf("there is no mail %q: there are %s", kind, joined(kinds))})
			continue
		}
		said := l.Mails[kind]
		text := raw.Mails[kind]
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(&said); err != nil {
			wrong = append(wrong, notJSON(name, data, int64(bytes.Index(data, text)), err, d.InputOffset()))
			continue
		}
		l.Mails[kind] = said
	}
	if len(wrong) == 0 {
		wrong = l.check(name, data, kinds)
	}
	return l, errors.Join(wrong...)
}

// notJSON says where a JSON text is wrong. The text begins at base in the file.
func notJSON(name string, data []byte, base int64, err error, offset int64) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	what := strings.TrimPrefix(err.Error(), "json: ")
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &kind):
		offset, what = kind.Offset, fmt.Sprintf("%q is to be a %s", kind.Field[strings.LastIndexByte(kind.Field, '.')+1:], kind.Type)
	case strings.HasPrefix(what, "unknown field "):
		what = "there is no " + strings.TrimPrefix(what, "unknown field ")
		if line := lineWith(data[max(base, 0):], strings.TrimPrefix(err.Error(), "json: unknown field ")); line > 0 {
			return mistake{name, lineOf(data, base) + line - 1, what}
		}
	}
	return mistake{name, lineOf(data, base+offset), what}
}

func joined(kinds []Kind) string {
	all := make([]string, len(kinds))
	for i, k := range kinds {
		all[i] = string(k)
	}
	return strings.Join(all, ", ")
}

// filled finds what is filled in.
var filled = regexp.MustCompile(`\{([^{}]*)\}`)

// fills are what can be.
var fills = []string{"product", "name", "until", "device", "change", "code", "asked", "network"}

// check refuses a language that says too little, or what nobody can fill in.
func (l language) check(name string, data []byte, kinds []Kind) (wrong []error) {
	missing := func(what string) { wrong = append(wrong, mistake{name, 0, what + " is missing"}) }
	for _, x := range []struct{ name, text string }{
		{"greeting", l.Greeting}, {"anonymous", l.Anonymous}, {"linkHint", l.LinkHint}, {"time", l.Time}, {"anyDevice", l.AnyDevice}, {"fromNetwork", l.FromNetwork},
	} {
		if x.text == "" {
			missing(x.name)
		}
	}
	said := []string{l.Greeting, l.Anonymous, l.LinkHint, l.AnyDevice, l.FromNetwork}
	for _, change := range factorChanges {
		if l.FactorChanges[change] == "" {
			missing("factorChanges." + string(change))
		}
		said = append(said, l.FactorChanges[change])
	}
	for change := range l.FactorChanges {
		if !slices.Contains(factorChanges, change) {
			wrong = append(wrong, mistake{name, lineWith(data, fmt.Sprintf("%q", change)), fmt.Sprintf("there is no change %q of a second factor", change)})
		}
	}
	if len(kinds) == 0 {
		kinds = slices.Sorted(maps.Keys(l.Mails))
	}
	for _, kind := range kinds {
		t, there := l.Mails[kind]
		if !there {
			missing("the mail " + string(kind))
			continue
		}
		for _, x := range []struct{ name, text string }{{"subject", t.Subject}, {"heading", t.Heading}, {"paragraphs", strings.Join(t.Paragraphs, "")}, {"footer", t.Footer}} {
			if x.text == "" {
				missing(fmt.Sprintf("%s of the mail %s", x.name, kind))
			}
		}
		if strings.ContainsFunc(t.Subject, unicode.IsControl) {
			wrong = append(wrong, mistake{name, lineWith(data, fmt.Sprintf("%q", kind)), fmt.Sprintf("the subject of the mail %s has a control character, such as the end of a line", kind)})
		}
		said = append(said, t.all()...)
	}
	for _, text := range said {
		for _, m := range filled.FindAllStringSubmatch(text, -1) {
			if !slices.Contains(fills, m[1]) {
				wrong = append(wrong, mistake{name, lineWith(data, m[0]), fmt.Sprintf("nothing can be filled in for %s: there are {%s}", m[0], strings.Join(fills, "}, {"))})
			}
		}
	}
	return wrong
}

// find returns the language of a mail: the one that fits wanted best, by taking subtags away from its end (RFC 4647 section 3.4), else byDefault. It returns its tag, too.
func find(languages map[string]language, wanted, byDefault string) (string, language) {
	for tag := wanted; tag != ""; {
		for have, l := range languages {
			if strings.EqualFold(have, tag) {
				return have, l
			}
		}
		cut := strings.LastIndexByte(tag, '-')
		if cut < 0 {
			break
		}
		tag = tag[:cut]
		if i := strings.LastIndexByte(tag, '-'); i == len(tag)-2 && i > 0 { // a singleton goes with what it began
			tag = tag[:i]
		}
	}
	return byDefault, languages[byDefault]
}

// checkNames refuses files of a folder that nothing reads: a template whose name has a slip would be ignored in silence. Names that begin with a dot are left alone.
func checkNames(files fs.FS, kinds []Kind) error {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return errors.New(reason(err))
	}
	var wrong []error
	for _, e := range entries {
		name := e.Name()
		base, ext := strings.TrimSuffix(name, path.Ext(name)), path.Ext(name)
		switch {
		case strings.HasPrefix(name, "."), !e.IsDir() && ext == ".json":
		case !e.IsDir() && (ext == ".html" || ext == ".txt") && (base == layout || slices.Contains(kinds, Kind(base))):
		default:
			wrong = append(wrong, mistake{name, 0, fmt.Sprintf("no template has this name: there are LANGUAGE.json, %s.html and %s.txt for all mails, and .html and .txt for each of %s", layout, layout, joined(kinds))})
		}
	}
	return errors.Join(wrong...)
}
