package contract_test

import (
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/contract"
)

// TestUsers is the example of the package comment.
func TestUsers(t *testing.T) {
	contract.Run(t, contract.UserRepository(), func(t *testing.T) contract.Users {
		s := memory.NewStore() // a store of its own; whoever opens a database closes it with t.Cleanup
		return contract.Users{Repository: s.Users, Outbox: s.Outbox}
	})
}

// TestThePackageCommentShowsCodeThatCompiles holds that the example of the package comment is that of this file.
func TestThePackageCommentShowsCodeThatCompiles(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "contract.go", nil, parser.ParseComments|parser.PackageClauseOnly)
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for line := range strings.Lines(file.Doc.Text()) {
		if rest, ok := strings.CutPrefix(line, "\t"); ok {
			code.WriteString(rest)
		}
	}
	here, err := os.ReadFile("run_test.go")
	if err != nil {
		t.Fatal(err)
	}
	if code.Len() == 0 || !strings.Contains(string(here), code.String()) {
		t.Errorf("the package comment shows what is not compiled here:\n%s", code.String())
	}
}
