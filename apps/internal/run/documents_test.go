package run_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/apps/internal/run"
)

type document struct {
	Paths map[string]map[string]any // by path, by method
}

func printed(t *testing.T, program config.Program, command ...string) []byte {
	t.Helper()
	var stdout, stderr bytes.Buffer
	require.Zero(t, run.Main(program, command, nil, &stdout, &stderr), stderr.String())
	return stdout.Bytes()
}

func parse(t *testing.T, text []byte) document {
	t.Helper()
	var d document
	require.NoError(t, yaml.Unmarshal(text, &d))
	require.NotEmpty(t, d.Paths)
	return d
}

// TestServicesDescribeWhatTheAllInOneDoes: the document of each service says of its operations what
// docs/openapi.yaml says of them, all of them have every operation together, and what a service has
// beside is named here.
func TestServicesDescribeWhatTheAllInOneDoes(t *testing.T) {
	for _, c := range []struct {
		file    string
		command []string
		beside  map[string]config.Program
	}{
		{"openapi.yaml", []string{"openapi"}, map[string]config.Program{"/auth/mail/renew": config.Auth}}, // where a mailer in a process of its own asks
		{"openapi-admin.yaml", []string{"openapi", "--admin"}, nil},
	} {
		text, err := os.ReadFile(filepath.FromSlash("../../../docs/" + c.file))
		require.NoError(t, err)
		all := parse(t, text)
		described := map[string]bool{}
		for _, program := range []config.Program{config.Auth, config.Mailer, config.Socket} {
			for path, operations := range parse(t, printed(t, program, c.command...)).Paths {
				if c.beside[path] == program {
					delete(c.beside, path)
					continue
				}
				for method, operation := range operations {
					described[method+" "+path] = true
					assert.Equal(t, all.Paths[path][method], operation, "%s %s of %s", method, path, program)
				}
			}
		}
		assert.Empty(t, c.beside, "nobody has them")
		for path, operations := range all.Paths {
			for method := range operations {
				assert.True(t, described[method+" "+path], "no service has %s %s", method, path)
			}
		}
	}
}

// TestDocumentsPassALinter asks Redocly's CLI, with its recommended rules, about the document of every
// program. Its warnings are advice.
func TestDocumentsPassALinter(t *testing.T) {
	linter := os.Getenv("PARLEY_TEST_REDOCLY")
	if linter == "" {
		t.Skip("SKIPPED: the OpenAPI documents are not linted, because PARLEY_TEST_REDOCLY names no redocly")
	}
	for _, program := range []config.Program{config.Parley, config.Auth, config.Mailer, config.Socket} {
		for _, command := range [][]string{{"openapi"}, {"openapi", "--admin"}} {
			file := filepath.Join(t.TempDir(), "openapi.yaml")
			require.NoError(t, os.WriteFile(file, printed(t, program, command...), 0o600))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, linter, "lint", "--extends=recommended", file)
			cmd.Dir = filepath.Dir(file) // where no configuration is
			cmd.Env = append(os.Environ(), "REDOCLY_TELEMETRY=off", "REDOCLY_SUPPRESS_UPDATE_NOTICE=true")
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s: %v: %s", program, command, out)
			assert.Contains(t, string(out), "is valid", program)
		}
	}
}

func TestASocketNodePrintsTheDocumentOfTheSocket(t *testing.T) {
	want, err := os.ReadFile(filepath.FromSlash("../../../docs/asyncapi.yaml"))
	require.NoError(t, err)
	assert.Equal(t, string(want), string(printed(t, config.Socket, "asyncapi")))
}
