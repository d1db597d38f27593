package passhash_test

import (
	"testing"

	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/auth"
)

func TestContract(t *testing.T) {
	t.Parallel()
	contract.Run(t, contract.Hasher(), func(t *testing.T) auth.Hasher { return newHasher(t, cheap) })
}
