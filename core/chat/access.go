package chat

import (
	"context"
	"fmt"
	"runtime/debug"
)

// guardedAccess makes a panic of a rule an error: the rule cannot tell then.
type guardedAccess struct{ rule Access }

// May implements Access.
func (a guardedAccess) May(ctx context.Context, who Author, what Action, room string) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("chat: the rule of access panicked: %v\n%s", p, debug.Stack())
		}
	}()
	return a.rule.May(ctx, who, what, room)
}
