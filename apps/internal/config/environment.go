package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// environ is what the environment gives.
type environ struct {
	values map[string]string // by flag
	files  map[string]string // the files that they were read from, by flag
	unused []string          // variables of other programs
}

// named returns the flags of the settings in fields by their variables, and those that may be in files
// by theirs.
func named(fields func(yield func(reflect.StructField) bool)) (names, files map[string]string) {
	names, files = map[string]string{}, map[string]string{}
	for f := range fields {
		name := f.Tag.Get("name")
		names[variable(name)] = name
		if _, secret := f.Tag.Lookup("secret"); secret {
			files[variable(name)+"_FILE"] = name
		}
	}
	return names, files
}

// settings yields the settings of all programs.
func settings(yield func(reflect.StructField) bool) {
	t := reflect.TypeFor[Settings]()
	for i := range t.NumField() {
		if t.Field(i).Tag.Get("name") != "" && !yield(t.Field(i)) {
			return
		}
	}
}

// known reads the variables that begin with PARLEY_, and refuses those that mean nothing to any
// program: a misspelt name must not pass in silence. One environment may serve all programs.
func known(program Program, environment []string) (environ, error) {
	names, files := named(visible(program))
	others, otherFiles := named(settings)
	links := linked(environment)
	env := environ{values: map[string]string{}, files: map[string]string{}}
	for _, pair := range environment {
		key, value, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(key, "PARLEY_") || strings.HasPrefix(key, "PARLEY_TEST_") {
			continue
		}
		if name, ok := names[key]; ok {
			if value != "" {
				env.values[name] = value
			}
			continue
		}
		if name, ok := files[key]; ok {
			text, err := readSecret(value)
			if err != nil {
				return environ{}, fmt.Errorf("%s: %w", key, err)
			}
			env.values[name], env.files[name] = text, value
			continue
		}
		switch {
		case others[key] != "" || otherFiles[key] != "":
			env.unused = append(env.unused, key)
		case !ofService(key) && !links(key, value):
			return environ{}, fmt.Errorf("%s: no setting of %s has this name", key, program)
		}
	}
	slices.Sort(env.unused)
	return env, nil
}

// readSecret reads a file that holds one secret. What ends its last line does not belong to it.
func readSecret(file string) (string, error) {
	text, err := os.ReadFile(file)
	return strings.TrimRight(string(text), "\r\n"), err
}

// resolve gives kong the value of a flag of Settings.
func (e environ) resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if v, ok := e.values[flag.Name]; ok {
		return v, nil
	}
	return nil, nil
}

// ofService reports whether the variable is one of those that Kubernetes adds to every container for
// each service: a service that is called parley, or parley-auth, has them begin as ours do.
func ofService(key string) bool {
	return strings.HasSuffix(key, "_SERVICE_HOST") || strings.HasSuffix(key, "_PORT") ||
		strings.Contains(key, "_SERVICE_PORT") || strings.Contains(key, "_PORT_")
}

var (
	linkAddress = regexp.MustCompile(`^(tcp|udp|sctp)://`)
	linkName    = regexp.MustCompile(`^/[^/]+/[^/]+$`)
)

// linked returns what reports whether a variable is one that a link of Docker adds beside the address
// of a container: its name, and the variables that the container itself was given.
func linked(environment []string) func(key, value string) bool {
	var prefixes []string
	for _, pair := range environment {
		key, value, _ := strings.Cut(pair, "=")
		if prefix, ok := strings.CutSuffix(key, "_PORT"); ok && linkAddress.MatchString(value) {
			prefixes = append(prefixes, prefix)
		}
	}
	return func(key, value string) bool {
		return slices.ContainsFunc(prefixes, func(prefix string) bool {
			return key == prefix+"_NAME" && linkName.MatchString(value) || strings.HasPrefix(key, prefix+"_ENV_")
		})
	}
}

// negative is a number, or a duration, below zero.
var negative = regexp.MustCompile(`^-[0-9.]`)

// joinNegative makes --socket-rate=-1 of --socket-rate -1, which would be read as a flag: none of ours
// begins with a digit.
func joinNegative(args []string) []string {
	var joined []string
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			return append(joined, args[i:]...)
		}
		if strings.HasPrefix(arg, "--") && !strings.Contains(arg, "=") && i+1 < len(args) && negative.MatchString(args[i+1]) {
			i++
			arg += "=" + args[i]
		}
		joined = append(joined, arg)
	}
	return joined
}

// inForce returns the files of those secrets that no flag goes before.
func (e environ) inForce(parsed *kong.Context) map[string]string {
	files := maps.Clone(e.files)
	for _, p := range parsed.Path {
		if p.Flag != nil && !p.Resolved {
			delete(files, p.Flag.Name)
		}
	}
	if len(files) == 0 {
		return nil
	}
	return files
}

// Reread reads the files of secrets again. It returns the settings with what they hold now, and the
// variables, without _FILE, of those that changed. What cannot be used is in the error, and stays as it was.
func (s Settings) Reread() (now Settings, changed []string, err error) {
	var wrong []error
	for f := range visible(s.Program) {
		name := f.Tag.Get("name")
		file := s.Files[name]
		if file == "" {
			continue
		}
		text, err := readSecret(file)
		if err == nil && text == "" {
			err = errors.New("it is empty")
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s_FILE: %w", variable(name), err))
			continue
		}
		next := s
		field := reflect.ValueOf(&next).Elem().FieldByIndex(f.Index)
		if field.String() == text {
			continue
		}
		field.SetString(text)
		checked := next // check fills in what it need not here
		if err := checked.check(false); err != nil {
			wrong = append(wrong, err)
			continue
		}
		s = next
		changed = append(changed, variable(name))
	}
	return s, changed, errors.Join(wrong...)
}
