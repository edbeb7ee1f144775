package supervisor

import (
	"crypto/rand"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"capsid/assets"
	"capsid/guest/control"
)

// GuestUser is the ordinary user of a session's programs: the host's own, so that names and numbers in the workspace match. Root is not
// ordinary; in its place comes "agent".
func GuestUser() (control.User, error) {
	if os.Getuid() == 0 {
		return control.User{Name: "agent", UID: 1000, GID: 1000, Home: "/home/agent"}, nil
	}
	me := control.User{Name: "agent", UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	// A user without an entry, or with a name that useradd(8) would not take, is as real.
	if u, err := user.LookupId(strconv.Itoa(os.Getuid())); err == nil && userName.MatchString(u.Username) {
		me.Name = u.Username
	}
	me.Home = "/home/" + me.Name
	return me, nil
}

var userName = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)

// environment is all that the session's programs get, beside what the agent sets; nothing of the host's comes along.
func environment(agent assets.Agent) []string {
	env := []string{"TERM=xterm-256color", "COLORTERM=truecolor", "LANG=C.UTF-8"}
	if tz := timezone(); tz != "" {
		env = append(env, "TZ="+tz)
	}
	return append(env, agent.Environ()...)
}

// timezone is the host's, as a name of the tz database, or "".
func timezone() string {
	if tz := os.Getenv("TZ"); zoneName.MatchString(tz) {
		return tz
	}
	target, err := filepath.EvalSymlinks("/etc/localtime")
	if err != nil {
		return ""
	}
	if _, name, ok := strings.Cut(target, "/zoneinfo/"); ok && zoneName.MatchString(name) {
		return name
	}
	return ""
}

var zoneName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}$`)

// workspaceTag names the workspace's share on the link.
const workspaceTag = "workspace"

// setup is what the booted machine is told of its identity.
func (s *Supervisor) setup() (control.Setup, error) {
	me, err := GuestUser()
	if err != nil {
		return control.Setup{}, err
	}
	entropy := make([]byte, 64)
	rand.Read(entropy)
	out := control.Setup{Hostname: s.sess.Name, User: me, Entropy: entropy, CA: s.authority.CertPEM(), Env: environment(s.agent)}
	if s.sess.Workspace != "" {
		out.Mounts = []control.Mount{{Tag: workspaceTag, Path: s.sess.Workspace, ReadOnly: s.readOnly()}}
	}
	if out.Files, err = s.agent.Seed(assets.Place{Workspace: s.dir(me), Home: me.Home}); err != nil {
		return control.Setup{}, err
	}
	out.Time = time.Now()
	return out, nil
}

// dir is where the session's programs start.
func (s *Supervisor) dir(me control.User) string {
	if s.sess.Workspace != "" {
		return s.sess.Workspace
	}
	return me.Home
}
