package session

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"capsid/app/backend"
	"capsid/assets"
	"capsid/guest/image"
	"capsid/proxy/policy"
	"capsid/vmm"
)

// The size of a session where nothing says otherwise: enough for each of the agents at work, and small enough to have several.
const (
	defaultCPUs   = 2
	defaultMemory = 2 << 30
	minMemory     = 256 << 20
	maxMemory     = 1 << 40
	maxCPUs       = 16
	// minFree is what a session needs on the disk that its folder lies on, before its agent has done anything.
	minFree = 256 << 20
)

// resolve checks the options and fills in the defaults, so that nothing is made for a session that cannot start.
func (s *Store) resolve(ctx context.Context, o StartOptions) (Session, string, error) {
	sess := Session{
		Name: o.Name, Agent: o.Agent, Access: o.Access, CPUs: o.CPUs, Memory: o.Memory, Backend: o.Backend,
		Image: o.Image, Autonomous: !o.Supervised, Cold: o.Cold,
	}
	if sess.Access == "" {
		sess.Access = ReadWrite
	}
	agent, err := s.agent(o.Agent)
	if err != nil {
		return sess, "", err
	}
	if sess.Workspace, err = s.workspace(o, &sess.Access); err != nil {
		return sess, "", err
	}
	if sess.Policy, err = policyFile(o.Policy, sess); err != nil {
		return sess, "", err
	}
	p, err := policy.Load(PolicyPaths(s.paths, sess, agent))
	if err != nil {
		return sess, "", err
	}
	sess.Cold = sess.Cold || p.Session().Cold
	if err := size(&sess, p.Session()); err != nil {
		return sess, "", err
	}
	if err := backed(ctx, &sess, p.Session()); err != nil {
		return sess, "", err
	}
	if err := s.room(); err != nil {
		return sess, "", err
	}
	img, err := s.image(o.Image)
	if err != nil {
		return sess, "", err
	}
	sess.Image = img.Digest
	exe, err := program(o.Executable)
	return sess, exe, err
}

func (s *Store) agent(name string) (assets.Agent, error) {
	agents, err := assets.Agents(s.paths.Agents())
	if err != nil {
		return assets.Agent{}, err
	}
	var names []string
	for _, a := range agents {
		if a.Name == name {
			return a, nil
		}
		names = append(names, a.Name)
	}
	return assets.Agent{}, &Error{Message: fmt.Sprintf("there is no agent %q", name), Hint: "choose one of " + strings.Join(names, ", ")}
}

func (s *Store) workspace(o StartOptions, access *Access) (string, error) {
	if o.Workspace == "" {
		return "", nil
	}
	path, wide, err := checkWorkspace(o.Workspace)
	switch {
	case err != nil:
		return "", err
	case wide && !o.AcceptWide:
		return "", &Error{Message: fmt.Sprintf("%s holds far more than one project", path), Kind: ErrWide, Hint: "choose a project's folder, or say yes to share all of it read-only"}
	case wide:
		*access = ReadOnly
		return path, nil
	}
	// A session that could write to these would write its own policy, or read other sessions.
	for _, own := range []string{s.paths.State, s.paths.Data, s.paths.Config, s.paths.Runtime} {
		if within(path, own) || within(own, path) {
			return "", &Error{Message: fmt.Sprintf("workspace %s overlaps Capsid's own folder %s", path, own), Hint: "choose another folder"}
		}
	}
	return path, nil
}

// within reports whether path lies in dir or is it.
func within(path, dir string) bool {
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// policyFile makes the path of a session's policy file absolute. It may not lie where the agent can write.
func policyFile(path string, sess Session) (string, error) {
	if path == "" {
		return "", nil
	}
	abs, err := filepath.Abs(path)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs)
	}
	if err != nil {
		return "", &Error{Message: "policy file " + path, Err: unwrapPath(err), Hint: "check the path"}
	}
	if sess.Workspace != "" && sess.Access != ReadOnly && within(abs, sess.Workspace) {
		return "", &Error{Message: fmt.Sprintf("policy file %s lies in the workspace, where the agent could write it", abs), Hint: "move it out of there"}
	}
	return abs, nil
}

func unwrapPath(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

func size(sess *Session, d policy.SessionDefaults) error {
	if sess.CPUs == 0 {
		sess.CPUs = d.CPUs
	}
	if sess.CPUs == 0 {
		sess.CPUs = defaultCPUs
	}
	if sess.Memory == 0 {
		sess.Memory = d.Memory
	}
	if sess.Memory == 0 {
		sess.Memory = defaultMemory
	}
	if sess.CPUs < 1 || sess.CPUs > maxCPUs {
		return &Error{Message: fmt.Sprintf("%d processors", sess.CPUs), Hint: fmt.Sprintf("choose 1 to %d", maxCPUs)}
	}
	if sess.Memory < minMemory || sess.Memory > maxMemory {
		return &Error{Message: fmt.Sprintf("a memory of %d MiB", sess.Memory>>20), Hint: `choose at least "256MiB"`}
	}
	return nil
}

// backed looks at the backend that was asked for. Where none was, the supervisor chooses: that cannot go wrong by a slip of a person.
func backed(ctx context.Context, sess *Session, d policy.SessionDefaults) error {
	if sess.Backend == "" {
		sess.Backend = d.Backend
	}
	if sess.Backend == "" || sess.Backend == backend.Auto {
		sess.Backend = ""
		return nil
	}
	_, err := ChooseBackend(ctx, backend.All(), sess.Backend)
	return err
}

// ChooseBackend is backend.Choose with an error that has its next step.
func ChooseBackend(ctx context.Context, list []vmm.Backend, name string) (backend.Choice, error) {
	choice, err := backend.Choose(ctx, list, name)
	var e *backend.Error
	if errors.As(err, &e) {
		return choice, &Error{Message: e.Message, Hint: e.Fix}
	}
	return choice, err
}

// room checks that the disk of the session's folder has some left.
func (s *Store) room() error {
	var st unix.Statfs_t
	if err := unix.Statfs(s.paths.Sessions(), &st); err != nil {
		return fmt.Errorf("%s: %w", s.paths.Sessions(), err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < minFree {
		return &Error{
			Message: fmt.Sprintf("the disk is full: %d MiB are left in %s, and a session needs %d", free>>20, s.paths.Sessions(), int64(minFree)>>20),
			Hint:    "make room: capsid ps shows old sessions, capsid rm removes them",
		}
	}
	return nil
}

func (s *Store) image(digest string) (*image.Image, error) {
	var img *image.Image
	var err error
	if digest == "" {
		img, err = image.Latest(s.paths.Images())
	} else {
		img, err = image.Open(filepath.Join(s.paths.Images(), filepath.Base(digest)))
	}
	switch {
	case errors.Is(err, image.ErrNone):
		return nil, &Error{Message: "there is no image to start from", Hint: "capsid image build makes one, in some minutes", Kind: image.ErrNone}
	case err != nil:
		return nil, err
	}
	return img, nil
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
