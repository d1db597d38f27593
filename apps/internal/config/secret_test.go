package config_test

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/apps/internal/config"
)

func TestSecretsAreHiddenHoweverTheyAreWritten(t *testing.T) {
	t.Parallel()
	const odd = "p/ä@s: wörd'%"
	for _, c := range []struct{ store, text, want string }{
		{"postgres://u:hunter2@h/db", "dial postgres://u:hunter2@h/db: refused", "dial postgres://u:xxxxx@h/db: refused"},
		{"postgres://u:hunter2@h/db", `the password "hunter2" is wrong`, `the password "xxxxx" is wrong`},
		{"postgres://u:hunter2@h/db", "hunter2", "xxxxx"},
		{"postgres://u:hunter2@h/db", "hunter22 xhunter2", "hunter22 xhunter2"},
		{"postgres://u:" + url.QueryEscape(odd) + "@h/db", "plain " + odd + " quoted", "plain xxxxx quoted"},
		{"postgres://u:" + url.QueryEscape(odd) + "@h/db", "url " + url.PathEscape(odd) + " " + url.QueryEscape(odd), "url xxxxx xxxxx"},
		{"postgres://u@h/db?password=hunter2&sslmode=x", `cannot parse "postgres://u@h/db?password=hunter2&sslmode=x"`, `cannot parse "postgres://u@h/db?password=xxxxx&sslmode=x"`},
		{"postgres://u@h/db?sslpassword=hunter2", "sslpassword=hunter2", "sslpassword=xxxxx"},
		{"host=h user=u password=hunter2 dbname=d", "cannot parse `host=h user=u password=hunter2 dbname=d`", "cannot parse `host=h user=u password=xxxxx dbname=d`"},
		{"host=h password='hunter 2' dbname=d", "at password='hunter 2'", "at password='xxxxx'"},
		{"mongodb://h/db?authMechanismProperties=AWS_SESSION_TOKEN:hunter2", "AWS_SESSION_TOKEN:hunter2", "AWS_SESSION_TOKEN:xxxxx"},
		{"postgres://u:a/b@h/db", `parse "postgres://u:a/b@h/db": invalid port`, `parse "postgres://u:xxxxx@h/db": invalid port`},
		{"mysql://u:p@tcp(h:3306)/db", "dial tcp h:3306: mysql://u:p@tcp(h:3306)/db, p", "dial tcp h:3306: mysql://u:xxxxx@tcp(h:3306)/db, p"},
		{"postgres://u:p@h/db", "dial tcp: lookup h: no such host (password=p)", "dial tcp: lookup h: no such host (password=xxxxx)"},
		{"postgres://u:tcp@h/db", "dial tcp h:5432: refused", "dial tcp h:5432: refused"},
		{"postgres://postgres:postgres@h/postgres", "postgres://postgres:postgres@h/postgres: role postgres", "postgres://postgres:xxxxx@h/postgres: role postgres"},
		{"mongodb://u:parley@h/parley", "the database parley of mongodb://u:parley@h", "the database parley of mongodb://u:xxxxx@h"},
		{"u:hunter2@tcp(h:3306)/db", "bad u:hunter2@tcp(h:3306)/db", "bad u:xxxxx@tcp(h:3306)/db"},
		{"sqlite:/var/hunter2@x", "no /var/hunter2@x", "no /var/hunter2@x"},
		{"sqlite:/var/x", "sqlite:/var/x", "sqlite:/var/x"},
		{"postgres://h/db", "nothing is secret at :@ all", "nothing is secret at :@ all"},
	} {
		assert.Equal(t, c.want, config.Settings{Store: c.store}.Hide(c.text), c.store)
	}
	s := config.Settings{AdminToken: "open-sesame-open-sesame", MailSender: "smtp://u:s3cret@h", Bus: "kafka://u:k4fk4pw@h"}
	assert.Equal(t, "xxxxx, xxxxx and xxxxx", s.Hide("open-sesame-open-sesame, s3cret and k4fk4pw"))
}

// TestAStoreThatCannotBeReadIsRefusedWithoutItsPassword gives addresses in forms that are none of ours.
func TestAStoreThatCannotBeReadIsRefusedWithoutItsPassword(t *testing.T) {
	t.Parallel()
	for _, pair := range []string{
		"PARLEY_STORE=host=h user=u password=s3cret dbname=d", "PARLEY_STORE=postgresql:host=h password=s3cret", "PARLEY_STORE=u:s3cret@tcp(h:3306)/db",
		"PARLEY_STORE=oracle://u:s3%2Fcret@h/db?password=s3cret", "PARLEY_STORE=oracle://u:s3/cret@h", "PARLEY_REDIS=redis://:s3cret@h:x/0",
		"PARLEY_REDIS=redis://h:1/0?password=s3cret&x=y", "PARLEY_BUS=kafka://u:s3cret@h:x", "PARLEY_MAIL_SENDER=smtp://u:s3cret@h:x", "PARLEY_MAIL_QUEUE=redis://:s3cret@h",
	} {
		_, _, err := load(t, []string{pair})
		require.Error(t, err, pair)
		assert.NotContains(t, err.Error(), "s3cret", pair)
		assert.NotContains(t, err.Error(), "cret@", pair)
	}
}
