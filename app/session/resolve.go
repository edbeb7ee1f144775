package session

import (
	"fmt"
	"os"
	"path/filepath"
)

// resolve checks the options and fills in the defaults, so that nothing is made for a session that cannot start.
func (s *Store) resolve(o StartOptions) (Session, string, error) {
	sess := Session{
		Name: o.Name, Agent: o.Agent, Access: o.Access, CPUs: o.CPUs, Memory: o.Memory, Backend: o.Backend,
		Image: o.Image, Policy: o.Policy, Autonomous: !o.Supervised,
	}
	if sess.Access == "" {
		sess.Access = ReadWrite
	}
	if o.Workspace != "" {
		path, wide, err := checkWorkspace(o.Workspace)
		if err != nil {
			return sess, "", err
		}
		if wide && !o.AcceptWide {
			return sess, "", &Error{Message: fmt.Sprintf("%s holds far more than one project", path), Err: ErrWide, Hint: "choose a project's folder, or say yes to share all of it read-only"}
		}
		if wide {
			sess.Access = ReadOnly
		}
		sess.Workspace = path
	}
	exe, err := program(o.Executable)
	return sess, exe, err
}

// program finds the capsid program: this one, or the one beside it.
func program(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(self), "capsid")
	if _, err := os.Stat(path); err != nil {
		return "", &Error{Message: "the capsid program is missing", Err: err, Hint: "install capsid beside " + self}
	}
	return path, nil
}
