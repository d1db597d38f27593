package problem_test

import (
	"fmt"
	"net/http/httptest"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/problem"
)

// A handler of one's own answers failures as all others do.
func ExampleWrite() {
	answer := httptest.NewRecorder()
	problem.Write(answer, fault.New(fault.NotFound, "table_not_found", "there is no such table"))
	fmt.Println(answer.Code, answer.Header().Get("Content-Type"))
	fmt.Println(answer.Body)
	// Output:
	// 404 application/problem+json
	// {"type":"/problems/table_not_found","title":"there is no such table","status":404,"code":"table_not_found"}
}
