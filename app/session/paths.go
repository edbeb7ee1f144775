package session

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// Paths says where everything of Capsid lies. Each is a folder of Capsid's own unless it says otherwise.
type Paths struct {
	State   string // sessions: $XDG_STATE_HOME/capsid
	Runtime string // sockets: $XDG_RUNTIME_DIR/capsid, or /tmp/capsid-UID where that is unset
	Data    string // images and the authority: $XDG_DATA_HOME/capsid
	Config  string // a person's files: $XDG_CONFIG_HOME/capsid
	Corp    string // the organisation's policy file: /etc/capsid/corp.toml
}

// DefaultPaths follows the XDG base directory specification. As it demands, values that are not absolute are ignored.
func DefaultPaths() (Paths, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return Paths{}, err
	}
	base := func(env, fallback string) string {
		if dir := os.Getenv(env); filepath.IsAbs(dir) {
			return filepath.Join(dir, "capsid")
		}
		return filepath.Join(home, fallback, "capsid")
	}
	p := Paths{
		State:   base("XDG_STATE_HOME", ".local/state"),
		Data:    base("XDG_DATA_HOME", ".local/share"),
		Config:  base("XDG_CONFIG_HOME", ".config"),
		Runtime: fmt.Sprintf("/tmp/capsid-%d", os.Getuid()),
		Corp:    "/etc/capsid/corp.toml",
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		p.Runtime = filepath.Join(dir, "capsid")
	}
	return p, nil
}

// Sessions holds one folder for each session, named by its ID.
func (p Paths) Sessions() string { return filepath.Join(p.State, "sessions") }

// Folder is the folder of one session.
func (p Paths) Folder(id string) string { return filepath.Join(p.Sessions(), id) }

// Socket is where a session's supervisor serves its API.
func (p Paths) Socket(id string) string { return filepath.Join(p.Runtime, id+".sock") }

// Images holds one folder for each image, named by its digest.
func (p Paths) Images() string { return filepath.Join(p.Data, "images") }

// CA holds this installation's authority.
func (p Paths) CA() string { return filepath.Join(p.Data, "ca") }

// UserPolicy is a person's policy file, never written by the program.
func (p Paths) UserPolicy() string { return filepath.Join(p.Config, "user.toml") }

// Decisions holds what a person clicked for projects and for always.
func (p Paths) Decisions() string { return filepath.Join(p.Config, "decisions.toml") }

// SessionDecisions holds what a person clicked for one session.
func (p Paths) SessionDecisions(id string) string {
	return filepath.Join(p.Folder(id), "decisions.toml")
}

// Agents holds a person's own agent files.
func (p Paths) Agents() string { return filepath.Join(p.Config, "agents") }

// environ returns the variables that make DefaultPaths of a child process answer p.
func (p Paths) environ() []string {
	var env []string
	for name, dir := range map[string]string{
		"XDG_STATE_HOME": p.State, "XDG_DATA_HOME": p.Data, "XDG_CONFIG_HOME": p.Config, "XDG_RUNTIME_DIR": p.Runtime,
	} {
		if filepath.Base(dir) == "capsid" {
			env = append(env, name+"="+filepath.Dir(dir))
		}
	}
	return env
}

// prepare makes the folders that sessions need. Runtime may lie in /tmp, where anyone could have put it first: it must be ours alone.
func (p Paths) prepare() error {
	if err := os.MkdirAll(p.Sessions(), 0o700); err != nil {
		return err
	}
	// Made now, since changes are watched for in it.
	if err := os.MkdirAll(p.Config, 0o700); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(p.Runtime), 0o700); err != nil {
		return err
	}
	if err := os.Mkdir(p.Runtime, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	fi, err := os.Lstat(p.Runtime)
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !fi.IsDir() || !ok || int(st.Uid) != os.Getuid() || fi.Mode().Perm()&0o077 != 0 {
		return &Error{Message: p.Runtime + " is not a folder of yours alone", Hint: "remove it, or set XDG_RUNTIME_DIR to a private folder"}
	}
	return nil
}
