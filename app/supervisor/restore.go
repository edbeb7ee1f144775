package supervisor

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"capsid/app/session"
	"capsid/app/snapshot"
	"capsid/guest/control"
	"capsid/proxy/dns"
	"capsid/vmm"
)

// origin is the snapshot that a session goes on from; nil: its machine boots.
type origin struct {
	*snapshot.Snapshot
	warm  bool // it was kept to start sessions with: a boot does as well
	share []byte
	around
}

// lives says whether programs of a session run in it: not in a machine that nobody has set up yet.
func (o *origin) lives() bool { return o != nil && !o.blank() }

func (o *origin) blank() bool { return len(o.Manifest.User.Name) == 0 }

// around is what the host knows of a machine beside its files.
type around struct {
	Names    []dns.Binding `json:"names"`    // the synthetic addresses in the guest's memory
	Lockdown []string      `json:"lockdown"` // what the guest said of its own walls
}

// openOrigin opens and checks the snapshot that the session goes on from. Of a snapshot of the disk alone only the disk is taken, which is in the session's folder by now.
func (s *Supervisor) openOrigin(ctx context.Context) (*origin, error) {
	ref := s.sess.Parent
	if ref == nil || ref.Snapshot == "" {
		return nil, nil
	}
	detail, end := s.state.step("check snapshot")
	detail(ref.Snapshot)
	kept, err := snapshot.Open(filepath.Join(snapshot.Folder(s.cfg.Paths.Folder(ref.Session)), ref.Snapshot))
	if err != nil {
		return nil, err
	}
	if err := kept.VerifyOnce(ctx, s.cfg.Paths, nil); err != nil {
		return nil, err
	}
	end()
	if kept.Manifest.Kind != snapshot.Memory {
		return nil, nil
	}
	if name := s.backend.Name(); kept.Manifest.Backend != name {
		return nil, &session.Error{Message: fmt.Sprintf("snapshot %s was taken on the backend %s, and %s runs here", ref, kept.Manifest.Backend, name), Hint: "capsid doctor shows why"}
	}
	return s.readOrigin(kept)
}

// readOrigin reads what a snapshot has beside the machine.
func (s *Supervisor) readOrigin(kept *snapshot.Snapshot) (*origin, error) {
	from := &origin{Snapshot: kept}
	if from.blank() {
		return from, nil
	}
	if kept.Manifest.User != s.user {
		return nil, &session.Error{Message: fmt.Sprintf("snapshot %s is of the user %s, not of %s", kept.Name, kept.Manifest.User.Name, s.user.Name), Hint: "only who took it can restore it"}
	}
	var err error
	if s.sess.Workspace != "" {
		if from.share, err = readBounded(kept.Path(shareFile), maxShareState); err != nil {
			return nil, err
		}
	}
	data, err := readBounded(kept.Path(aroundFile), maxAround)
	if err == nil {
		err = json.Unmarshal(data, &from.around)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", aroundFile, err)
	}
	return from, nil
}

// The bounds of what is read of a snapshot: those of what writes it, about.
const (
	maxShareState = 257 << 20
	maxAround     = 64 << 20
)

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return data, err
}

// restore makes the machine that goes on where the snapshot was taken. It rests.
func (s *Supervisor) restore(ctx context.Context, from *origin, cfg vmm.Config) (vmm.Machine, error) {
	restorer, ok := s.backend.(vmm.Restorer)
	if !ok {
		return nil, &session.Error{Message: "the backend " + s.backend.Name() + " cannot restore snapshots", Hint: "capsid doctor shows the backends"}
	}
	return restorer.Restore(ctx, cfg, from.Dir)
}

// renew makes the restored machine one of its own before any of its programs goes on.
func (s *Supervisor) renew(ctx context.Context, from *origin) error {
	_, end := s.state.step("renew")
	limit, cancel := context.WithTimeoutCause(ctx, setupTime, fmt.Errorf("the guest did not take its identity within %v", setupTime))
	defer cancel()
	entropy := make([]byte, 64)
	rand.Read(entropy)
	id := control.Identity{Entropy: entropy, Hostname: s.sess.Name, Time: time.Now()}
	if from.lives() {
		id.Env = environment(s.agent)
	}
	err := s.control.Renew(limit, id)
	if err == nil && from.lives() {
		err = s.control.Thaw(limit)
	}
	if err != nil {
		return s.startFault(ctx, "renew", err, limit)
	}
	end()
	if s.share != nil {
		if lost := s.share.process.Lost(); lost > 0 {
			s.notice("error", fmt.Sprintf("%d files that were open in the machine are not in the workspace any more: programs get ESTALE from them", lost))
		}
	}
	s.lockdown = cleanLines(from.Lockdown)
	return nil
}

// goOn shows what runs in the restored machine.
func (s *Supervisor) goOn(ctx context.Context) error {
	list, err := s.lookAtTerminals(ctx)
	if err != nil {
		return s.startFault(ctx, "terminals", err, ctx)
	}
	for _, t := range list {
		if t.Running {
			s.watchTerminal(t.Name)
		}
	}
	s.state.change(func(st *session.Status) { st.Defences = s.defences() })
	s.nowUp()
	return nil
}
