package passlist_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/passlist"
	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/auth"
)

func TestPasswordListContract(t *testing.T) {
	contract.On(t, "passlist", "")
	contract.Run(t, contract.PasswordList(), func(*testing.T) auth.PasswordList { return passlist.New() })
}

func TestContains(t *testing.T) {
	t.Parallel()
	for password, want := range map[string]bool{
		"password": true, "Password": true, "PASSWORD1": true, "password2024": true, "password!!!!": true, "P@ssw0rd": true, "passw0rd1!": true,
		"drowssap": true, "12345678": true, "87654321": true, "abcdefgh": true, "hgfedcba": true, "qwertyuiop": true, " iloveyou ": true,
		"dragondragon": true, "monkeymonkeymonkey": true, "baseba11": true,
		"correct horse": false, "a first pass phrase": false, "dragon of the north": false, "password of Ada": false, "dragon48213977": false,
		"mallory's own": false, "тайный пароль": false, "": false, "abcdefgi": false,
	} {
		got, err := passlist.New().Contains(t.Context(), password)
		require.NoError(t, err)
		require.Equal(t, want, got, "%q", password)
	}
}
