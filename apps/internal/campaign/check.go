// Package campaign checks journals; the campaigns that write them are in the packages below.
package campaign

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/parley-chat/parley/apps/internal/campaign/journal"
	"github.com/parley-chat/parley/apps/internal/config"
)

// Check checks journals, of any server, and prints the verdict. An error says that something is wrong.
func Check(c config.Check, stdin io.Reader, stdout io.Writer) error {
	var all []io.Reader
	for _, name := range c.Files {
		if name == "-" {
			all = append(all, stdin)
			continue
		}
		file, err := os.Open(name) //nolint:gosec // whoever calls says which
		if err != nil {
			return fmt.Errorf("check: %w", err)
		}
		defer file.Close()
		all = append(all, file)
	}
	v, err := journal.Check(all...)
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	if c.JSON {
		err = json.NewEncoder(stdout).Encode(v)
	} else {
		t := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintf(t, "entries\t%d\nclients\t%d\nrooms\t%d\nrounds\t%d\n", v.Entries, v.Clients, v.Rooms, v.Rounds)
		v.Print(t)
		err = t.Flush()
	}
	if err != nil {
		return err
	}
	if wrong := v.Wrong(); len(wrong) > 0 {
		return fmt.Errorf("check: %s", strings.Join(wrong, ", "))
	}
	return nil
}
