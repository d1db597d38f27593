package fault_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/fault"
)

var errTaken = fault.New(fault.Conflict, "name_taken", "the name is taken")

func TestKindsReachThroughWrapping(t *testing.T) {
	t.Parallel()
	cause := errors.New("unique constraint")
	refined := errTaken.Detail("it is %q", "ada").Because(cause).RetryAfter(time.Second)
	err := fmt.Errorf("store: %w", fmt.Errorf("create: %w", refined))
	require.ErrorIs(t, err, fault.Conflict)
	require.ErrorIs(t, err, errTaken)
	require.ErrorIs(t, err, cause)
	require.NotErrorIs(t, err, fault.NotFound)
	require.NotErrorIs(t, err, fault.New(fault.Conflict, "name_taken", "the name is taken"), "a namesake is another error")
	require.Equal(t, fault.Conflict, fault.KindOf(err))
	require.Equal(t, "the name is taken: it is \"ada\": unique constraint", refined.Error())

	once := errTaken.Detail("once")
	twice := once.Because(cause)
	require.ErrorIs(t, twice, once, "each copy matches what it was made from")
	require.NotErrorIs(t, errTaken, once)
	require.Equal(t, "the name is taken", errTaken.Error(), "a sentinel never changes")
}

func TestKindsAreErrors(t *testing.T) {
	t.Parallel()
	for _, k := range fault.Kinds() {
		err := fmt.Errorf("wrapped: %w", k)
		require.ErrorIs(t, err, k)
		require.Equal(t, k, fault.KindOf(err))
		require.Equal(t, k, fault.KindOf(fault.Wrap(k, errors.New("vendor"))))
		require.Equal(t, k.Code(), k.Error())
	}
}

// TestTable holds what other programs are written against.
func TestTable(t *testing.T) {
	t.Parallel()
	type row struct {
		code   string
		status int
		close  int
	}
	want := map[fault.Kind]row{
		fault.Internal:        {"internal", 500, 1011},
		fault.Invalid:         {"invalid", 422, 4400},
		fault.Unauthenticated: {"unauthenticated", 401, 4401},
		fault.Forbidden:       {"forbidden", 403, 4403},
		fault.NotFound:        {"not_found", 404, 4400},
		fault.Conflict:        {"conflict", 409, 4400},
		fault.Gone:            {"gone", 410, 4400},
		fault.Exhausted:       {"exhausted", 429, 4429},
		fault.Unavailable:     {"unavailable", 503, 1013},
	}
	require.Len(t, fault.Kinds(), len(want))
	for _, k := range fault.Kinds() {
		require.Equal(t, want[k], row{k.Code(), k.Status(), k.CloseCode()})
		require.NotEmpty(t, k.Title())
		require.Regexp(t, regexp.MustCompile(`^[a-z_]+$`), k.Code())
	}
	require.Equal(t, fault.Internal.Title(), fault.Kind(200).Title(), "an unknown kind is a failure nobody classified")
	require.Equal(t, 500, fault.Kind(200).Status())
}

func TestWrap(t *testing.T) {
	t.Parallel()
	require.NoError(t, fault.Wrap(fault.NotFound, nil))
	vendor := errors.New("sql: no rows")
	err := fault.Wrap(fault.NotFound, vendor)
	require.ErrorIs(t, err, fault.NotFound)
	require.ErrorIs(t, err, vendor)
	require.Contains(t, err.Error(), vendor.Error())
	again := fault.Wrap(fault.Unavailable, err)
	require.Equal(t, fault.Unavailable, fault.KindOf(again), "the last word counts")
}

func TestKindOfUnclassified(t *testing.T) {
	t.Parallel()
	require.Equal(t, fault.Internal, fault.KindOf(errors.New("x")))
	require.Equal(t, fault.Internal, fault.KindOf(nil))
	require.Equal(t, fault.Unavailable, fault.KindOf(fmt.Errorf("x: %w", context.DeadlineExceeded)))
	require.Equal(t, fault.Unavailable, fault.KindOf(fmt.Errorf("x: %w", context.Canceled)))
}

func TestPublicTellsOnlyWhatIsMeantForClients(t *testing.T) {
	t.Parallel()
	secret := errors.New("password=hunter2")
	for name, tc := range map[string]struct {
		err  error
		want fault.Problem
	}{
		"a vendor's error":          {secret, fault.Problem{Kind: fault.Internal, Code: "internal", Title: fault.Internal.Title()}},
		"one with a kind":           {fault.Wrap(fault.Unavailable, secret), fault.Problem{Kind: fault.Unavailable, Code: "unavailable", Title: fault.Unavailable.Title()}},
		"one that is internal":      {fault.New(fault.Internal, "x", "hunter2").Because(secret), fault.Problem{Kind: fault.Internal, Code: "internal", Title: fault.Internal.Title()}},
		"a bare kind":               {fmt.Errorf("hunter2: %w", fault.Gone), fault.Problem{Kind: fault.Gone, Code: "gone", Title: fault.Gone.Title()}},
		"a sentinel with a cause":   {fmt.Errorf("hunter2: %w", errTaken.Because(secret)), fault.Problem{Kind: fault.Conflict, Code: "name_taken", Title: "the name is taken"}},
		"a sentinel with a detail":  {errTaken.Detail("try %d", 2), fault.Problem{Kind: fault.Conflict, Code: "name_taken", Title: "the name is taken", Detail: "try 2"}},
		"a sentinel with a waiting": {errTaken.RetryAfter(time.Minute), fault.Problem{Kind: fault.Conflict, Code: "name_taken", Title: "the name is taken", RetryAfter: time.Minute}},
	} {
		require.Equal(t, tc.want, fault.Public(tc.err), name)
	}
}
