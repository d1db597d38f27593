package fault_test

import (
	"errors"
	"fmt"

	"github.com/parley-chat/parley/core/fault"
)

// A failure has a kind, which decides what every edge makes of it, and a code that clients may rely on. Its cause
// is for logs alone.
func Example() {
	full := fault.New(fault.Conflict, "table_taken", "the table is taken")
	err := fmt.Errorf("seat the guests: %w", full.Detail("table %d is taken until nine", 7).Because(errors.New("row 41 is locked")))

	fmt.Println(err)
	fmt.Println(errors.Is(err, full), errors.Is(err, fault.Conflict), fault.KindOf(err).Status())
	p := fault.Public(err)
	fmt.Println(p.Code, "|", p.Title, "|", p.Detail)
	// Output:
	// seat the guests: the table is taken: table 7 is taken until nine: row 41 is locked
	// true true 409
	// table_taken | the table is taken | table 7 is taken until nine
}
