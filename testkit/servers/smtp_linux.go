package servers

import (
	"crypto/x509"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/testkit/local"
)

const (
	smtpUser     = "app"
	smtpPassword = "p@ss:word of/tests"
	smtpPatience = 30 * time.Second
)

// eximConfiguration is that of a server which takes mail from who knows the password and puts each
// into a file. DIR, PORT, UID and GID are replaced.
const eximConfiguration = `
primary_hostname = localhost
exim_user = UID
exim_group = GID
never_users =
keep_environment =
deliver_drop_privilege = true
spool_directory = DIR/spool
log_file_path = DIR/log-%s
pid_file_path = DIR/pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = PORT
tls_advertise_hosts = *
tls_certificate = DIR/certificate.pem
tls_privatekey = DIR/key.pem
auth_advertise_hosts = ${if eq{$tls_in_cipher}{}{}{*}}
host_lookup =
acl_smtp_rcpt = recipients

begin acl
recipients:
  require authenticated = *
  defer local_parts = later
        message = come back later
  deny  local_parts = nobody
        message = no such mailbox
  accept

begin routers
all:
  driver = accept
  transport = inbox

begin transports
inbox:
  driver = appendfile
  directory = DIR/inbox
  maildir_format
  user = UID
  group = GID

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_condition = ${if and{{eq{$auth2}{USER}}{eq{$auth3}{PASSWORD}}}}
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = ${if and{{eq{$auth1}{USER}}{eq{$auth2}{PASSWORD}}}}
`

// startSMTP starts Exim (Debian: exim4-daemon-light) as an unprivileged user.
func startSMTP(t testing.TB) *SMTPServer {
	t.Helper()
	notShort(t)
	program, err := local.ProgramsIn("exim4", "exim4", "/usr/sbin")
	if err != nil {
		t.Skipf("SMTP: %v; set %s to the URL of a server", err, SMTPVariable)
	}
	s, err := serveSMTP(t, filepath.Join(program, "exim4"))
	if err != nil {
		t.Fatalf("servers: start Exim: %v", err)
	}
	return s
}

func serveSMTP(t testing.TB, program string) (*SMTPServer, error) {
	t.Helper()
	process, err := local.New("Exim", true)
	if err != nil {
		return nil, err
	}
	certificate, key, err := local.Certificate(1)
	if err != nil {
		return nil, err
	}
	port, err := local.FreePort()
	if err != nil {
		return nil, err
	}
	uid, gid := os.Geteuid(), os.Getegid()
	if uid == 0 {
		uid, gid = local.Nobody, local.Nobody
	}
	configuration := strings.NewReplacer("DIR", process.Folder(), "PORT", strconv.Itoa(port), "UID", strconv.Itoa(uid), "GID", strconv.Itoa(gid),
		"USER", smtpUser, "PASSWORD", smtpPassword).Replace(eximConfiguration)
	files := map[string][]byte{"certificate.pem": certificate, "key.pem": key, "configuration": []byte(configuration)}
	for name, content := range files {
		if err := os.WriteFile(process.File(name), content, 0o600); err != nil {
			return nil, err
		}
		if err := os.Chown(process.File(name), uid, gid); err != nil {
			return nil, err
		}
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	process.Command = func() (*exec.Cmd, error) {
		cmd := exec.Command(program, "-C", process.File("configuration"), "-bdf")
		local.Unprivileged(cmd)
		return cmd, nil
	}
	process.Ready, process.Patience, process.Forks = local.Listening(address), smtpPatience, true
	startFor(t, process)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certificate)
	return &SMTPServer{
		URL: "smtp://" + smtpUser + ":" + "p%40ss%3Aword%20of%2Ftests" + "@" + address, Roots: roots, inbox: process.File("inbox/new"),
	}, nil
}

func readMails(t testing.TB, inbox string) [][]byte {
	t.Helper()
	entries, err := os.ReadDir(inbox)
	if err != nil && !errors.Is(err, os.ErrNotExist) { // nothing was delivered yet
		t.Fatalf("servers: %v", err)
	}
	var mails [][]byte
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(inbox, e.Name()))
		if err != nil {
			t.Fatalf("servers: %v", err)
		}
		mails = append(mails, content)
	}
	return mails
}
