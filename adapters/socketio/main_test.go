package socketio

import (
	"os"
	"testing"

	"github.com/parley-chat/parley/testkit"
)

func TestMain(m *testing.M) {
	testkit.Parallel(4)
	os.Exit(m.Run())
}
