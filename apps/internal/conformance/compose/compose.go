// Package compose reads docker-compose.yaml as docker compose does, as far as that file goes:
// anchors and merges, variables with defaults, profiles. Checks and tests use it, to compare the file
// with the programs and to run them as it says.
package compose

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// File is what the file says, with its variables replaced and the services of inactive profiles left out.
type File struct {
	// Text is the file as it is written.
	Text string `json:"-"`
	// Folder is where the file is.
	Folder string `json:"-"`

	Services map[string]Service         `json:"services"`
	Volumes  map[string]json.RawMessage `json:"volumes"`
	Networks map[string]struct {
		IPAM struct {
			Config []struct {
				Subnet string `json:"subnet"`
				Range  string `json:"ip_range"`
			} `json:"config"`
		} `json:"ipam"`
	} `json:"networks"`
}

// Service is one service.
type Service struct {
	Image       string                `json:"image"`
	Build       any                   `json:"build"`
	Profiles    []string              `json:"profiles"`
	Entrypoint  []string              `json:"entrypoint"`
	Command     []string              `json:"command"`
	Environment map[string]string     `json:"-"`
	Ports       []string              `json:"ports"` // address:published:target
	Volumes     []string              `json:"volumes"`
	DependsOn   map[string]Dependency `json:"depends_on"`
	Restart     string                `json:"restart"`
	Grace       string                `json:"stop_grace_period"`
	ReadOnly    bool                  `json:"read_only"`
	Health      struct {
		Test     []string `json:"test"`
		Interval string   `json:"interval"`
		Timeout  string   `json:"timeout"`
		Retries  int      `json:"retries"`
	} `json:"healthcheck"`
	// Aliases are further names of the service, and Address is the one it has whoever else starts.
	Aliases []string `json:"-"`
	Address string   `json:"-"`

	RawEnvironment map[string]any  `json:"environment"`
	RawNetworks    json.RawMessage `json:"networks"`
}

// Dependency is what a service waits for.
type Dependency struct {
	Condition string `json:"condition"`
	Required  *bool  `json:"required"` // true if it is missing
}

// Read reads docker-compose.yaml in folder, with the variables of its .env, those given, which win,
// and nothing of the environment of whoever calls.
func Read(folder string, variables map[string]string) (*File, error) {
	text, err := os.ReadFile(filepath.Join(folder, "docker-compose.yaml"))
	if err != nil {
		return nil, err
	}
	defaults, err := os.ReadFile(filepath.Join(folder, ".env"))
	if err != nil {
		return nil, err
	}
	all, err := parseEnv(string(defaults))
	if err != nil {
		return nil, err
	}
	maps.Copy(all, variables)
	return Parse(folder, string(text), all)
}

// parseEnv reads lines of NAME=value; quotes and variables are not known.
func parseEnv(text string) (map[string]string, error) {
	all := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, found := strings.Cut(line, "=")
		if !found || strings.ContainsAny(value, `"'$ `) {
			return nil, fmt.Errorf(".env: %q is not NAME=value", line)
		}
		all[name] = value
	}
	return all, nil
}

// Parse reads text as Read does.
func Parse(folder, text string, variables map[string]string) (*File, error) {
	var raw any
	if err := yaml.Unmarshal([]byte(text), &raw); err != nil {
		return nil, fmt.Errorf("docker-compose.yaml: %w", err)
	}
	raw, err := replaced(raw, variables)
	if err != nil {
		return nil, fmt.Errorf("docker-compose.yaml: %w", err)
	}
	asJSON, err := json.Marshal(raw)
	if err != nil {
		return nil, fmt.Errorf("docker-compose.yaml: %w", err)
	}
	f := &File{Text: text, Folder: folder}
	if err := json.Unmarshal(asJSON, f); err != nil {
		return nil, fmt.Errorf("docker-compose.yaml: %w", err)
	}
	active := strings.Split(variables["COMPOSE_PROFILES"], ",")
	for name, s := range f.Services {
		if len(s.Profiles) > 0 && !slices.ContainsFunc(s.Profiles, func(p string) bool { return slices.Contains(active, p) }) {
			delete(f.Services, name)
			continue
		}
		if err := s.complete(); err != nil {
			return nil, fmt.Errorf("docker-compose.yaml: %s: %w", name, err)
		}
		f.Services[name] = s
	}
	return f, nil
}

// complete reads what has more than one form.
func (s *Service) complete() error {
	s.Environment = map[string]string{}
	for name, value := range s.RawEnvironment {
		if value == nil {
			return fmt.Errorf("environment: %s is left to whoever starts it", name)
		}
		s.Environment[name] = fmt.Sprint(value)
	}
	var places map[string]struct {
		Aliases []string `json:"aliases"`
		Address string   `json:"ipv4_address"`
	}
	if json.Unmarshal(s.RawNetworks, &places) == nil { // or it is a list of names
		for _, p := range places {
			s.Aliases, s.Address = append(s.Aliases, p.Aliases...), p.Address
		}
	}
	return nil
}

// Find returns the service that other services reach under this name.
func (f *File) Find(name string) (Service, bool) {
	if s, ok := f.Services[name]; ok {
		return s, true
	}
	for _, s := range f.Services {
		if slices.Contains(s.Aliases, name) {
			return s, true
		}
	}
	return Service{}, false
}

// replaced replaces the variables in every text below v.
func replaced(v any, variables map[string]string) (any, error) {
	switch v := v.(type) {
	case string:
		return Replace(v, variables)
	case []any:
		for i := range v {
			var err error
			if v[i], err = replaced(v[i], variables); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		for key := range v {
			var err error
			if v[key], err = replaced(v[key], variables); err != nil {
				return nil, fmt.Errorf("%s: %w", key, err)
			}
		}
	}
	return v, nil
}

// Replace replaces ${NAME:-default}, where the default may have variables too, and $$. A variable
// that has neither a value nor a default is an error, for docker compose would put nothing.
func Replace(text string, variables map[string]string) (string, error) {
	var out strings.Builder
	for {
		before, after, found := strings.Cut(text, "$")
		out.WriteString(before)
		switch {
		case !found:
			return out.String(), nil
		case strings.HasPrefix(after, "$"):
			out.WriteByte('$')
			text = after[1:]
			continue
		case !strings.HasPrefix(after, "{"):
			return "", fmt.Errorf("%q has a $ that is neither $$ nor ${…}", text)
		}
		end, err := closing(after)
		if err != nil {
			return "", err
		}
		name, otherwise, hasDefault := strings.Cut(after[1:end], ":-")
		value := variables[name]
		if value == "" {
			if !hasDefault {
				return "", fmt.Errorf("${%s} has no default", name)
			}
			if value, err = Replace(otherwise, variables); err != nil {
				return "", err
			}
		}
		out.WriteString(value)
		text = after[end+1:]
	}
}

// closing finds the brace that closes the first one of text.
func closing(text string) (int, error) {
	depth := 0
	for i, c := range text {
		switch c {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return i, nil
			}
		}
	}
	return 0, errors.New("a ${ is not closed")
}
