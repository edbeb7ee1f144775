package supervisor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"capsid/app/session"
	"capsid/app/snapshot"
	"capsid/app/warm"
	"capsid/vmm"
)

// nobody stands in the manifest of a machine that is nobody's yet: it must not tell of the session that it was made along with.
const nobody = "00000000"

// machineParts are what every machine that is kept warm is made from.
func (s *Supervisor) machineParts() []any {
	return []any{s.cfg.Version, s.sess.Image, s.backend.Name(), s.sess.CPUs, s.sess.Memory}
}

func (s *Supervisor) templateName() (string, error) {
	return warm.Name(warm.Template, s.machineParts()...)
}

// promptName is that of the agent at its prompt in this folder. All that the agent may have read by then is a part of it, as far as the host has it.
func (s *Supervisor) promptName() (string, error) {
	if s.sess.Workspace == "" || s.sess.Agent == "shell" {
		return "", nil
	}
	var dir unix.Stat_t
	if err := unix.Stat(s.sess.Workspace, &dir); err != nil {
		return "", err
	}
	p := s.cfg.Paths
	setup, err := s.setup()
	if err != nil {
		return "", err
	}
	setup.Hostname, setup.Entropy, setup.Time = "", nil, time.Time{}
	parts := append(s.machineParts(), s.agent.CommandLine(s.sess.Autonomous), setup, dir.Dev, dir.Ino)
	for _, path := range []string{p.Corp, p.UserPolicy(), p.Decisions(), s.sess.Policy} {
		digest, err := digestFile(path)
		if err != nil {
			return "", err
		}
		parts = append(parts, digest)
	}
	files, err := agentFiles(s.sess.Workspace)
	if err != nil {
		return "", err
	}
	return warm.Name(warm.Prompt, append(parts, files)...)
}

// digestFile is empty for a file that is not there.
func digestFile(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), err
}

// What agents read of a folder before they are asked anything.
var agentConfig = []string{
	"CLAUDE.md", "CLAUDE.local.md", ".claude", ".mcp.json", "AGENTS.md", ".codex", "GEMINI.md", ".gemini", ".geminiignore", ".gitignore", ".git/HEAD", ".git/config",
}

// maxConfig bounds what is looked at in a folder: one with more has no prompt kept.
const maxConfig = 2000

// agentFiles tells the folder's agent configuration from any other: name, size and time of each file.
func agentFiles(workspace string) ([]string, error) {
	var list []string
	for _, name := range agentConfig {
		err := filepath.WalkDir(filepath.Join(workspace, name), func(path string, e fs.DirEntry, err error) error {
			if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
				return nil
			}
			if err != nil {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			if len(list) == maxConfig {
				return fmt.Errorf("more than %d files of agents' configuration", maxConfig)
			}
			list = append(list, fmt.Sprintf("%s %v %d %d", path, info.Mode(), info.Size(), info.ModTime().UnixNano()))
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// openWarm looks for a machine that the session can go on from: the agent at its prompt in this folder, or else one that has booted. nil when there is none, and when it cannot
// be used, which is said.
func (s *Supervisor) openWarm(ctx context.Context) *origin {
	store := warm.Open(s.cfg.Paths)
	for _, name := range []func() (string, error){s.promptName, s.templateName} {
		name, err := name()
		if err != nil {
			s.log.Warn("warm start", "error", err)
			continue
		}
		if name == "" {
			continue
		}
		kept, err := store.Find(name)
		if kept == nil && err == nil {
			continue
		}
		var from *origin
		if err == nil {
			err = kept.VerifyOnce(ctx, s.cfg.Paths, nil)
		}
		if err == nil {
			from, err = s.readOrigin(kept)
		}
		if err == nil {
			from.warm = true
			return from
		}
		if ctx.Err() != nil {
			return nil
		}
		s.refuse(name, err)
	}
	return nil
}

// refuse says why a machine that was kept warm is not used, and throws it away.
func (s *Supervisor) refuse(name string, err error) {
	s.notice("info", "the machine boots, since the one that was kept warm cannot be used: "+err.Error())
	if err := warm.Open(s.cfg.Paths).Remove(name); err != nil && !errors.Is(err, snapshot.ErrUnknown) {
		s.log.Warn("remove what was kept warm", "name", name, "error", err)
	}
}

// keepTemplate keeps the machine, which has booted and knows nothing of the session, for others to go on from. What goes wrong is no fault of the session.
func (s *Supervisor) keepTemplate(ctx context.Context) {
	name, err := s.templateName()
	if err != nil {
		s.log.Warn("keep a template", "error", err)
		return
	}
	draft, err := warm.Open(s.cfg.Paths).Begin(name)
	if err != nil {
		s.log.Info("keep no template", "reason", err) // another session keeps it, mostly
		return
	}
	_, end := s.state.step("keep for the next")
	var layers []string
	top := ""
	if layers, err = snapshot.Layers(s.folder); err == nil {
		top, err = snapshot.NewTop(s.folder)
	}
	if err == nil {
		err = s.machine.(vmm.Snapshotter).Snapshot(ctx, vmm.SnapshotConfig{Dir: draft.Dir(), Tops: []string{top}})
	}
	end()
	if err != nil {
		s.log.Warn("keep a template", "error", errors.Join(err, draft.Abort()))
		return
	}
	s.tasks.Go(func() {
		_, err := s.commit(s.ending, draft, s.warmManifest(), layers, func(string, int64, int64) {})
		s.kept(name, errors.Join(err, draft.Abort()))
	})
}

func (s *Supervisor) warmManifest() snapshot.Manifest {
	return snapshot.Manifest{
		Session: session.Session{ID: nobody, CPUs: s.sess.CPUs, Memory: s.sess.Memory},
		Backend: s.backend.Name(), Capsid: s.cfg.Version, Image: s.sess.Image, Kind: snapshot.Memory,
	}
}

// kept ends the keeping of a warm machine.
func (s *Supervisor) kept(name string, err error) {
	if err != nil {
		s.log.Info("nothing was kept warm", "name", name, "reason", err)
		return
	}
	s.log.Info("kept warm", "name", name)
	if err := warm.Open(s.cfg.Paths).Prune(s.cfg.Paths.Images()); err != nil {
		s.log.Warn("prune what is kept warm", "error", err)
	}
}

// followPrompt keeps a machine of the agent at its prompt in this folder, once it is there, unless there is one.
func (s *Supervisor) followPrompt() {
	name, err := s.promptName()
	if err != nil || name == "" {
		s.prompt.spoil()
		if err != nil {
			s.log.Warn("keep the prompt", "error", err)
		}
		return
	}
	s.tasks.Go(func() {
		defer s.prompt.spoil()
		select {
		case <-s.prompt.ready:
		case <-s.prompt.over:
			return
		case <-s.ending.Done():
			return
		}
		s.kept(name, s.keepPrompt(s.ending, name))
	})
}

var errTyped = errors.New("somebody typed before the agent was at its prompt")

func (s *Supervisor) keepPrompt(ctx context.Context, name string) error {
	s.pausing.Lock()
	defer s.pausing.Unlock()
	if !s.prompt.waits() || s.state.get().State != session.Running {
		return errTyped
	}
	if again, err := s.promptName(); err != nil || again != name {
		return errors.Join(err, errors.New("what the agent read has changed meanwhile"))
	}
	draft, err := warm.Open(s.cfg.Paths).Begin(name)
	if err != nil {
		return err
	}
	defer draft.Abort()
	m := s.warmManifest()
	m.User = s.user
	_, _, err = s.take(ctx, draft, m, false, func(string, int64, int64) {})
	return err
}
