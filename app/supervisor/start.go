package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"capsid/app/session"
	"capsid/app/snapshot"
	"capsid/assets"
	"capsid/guest/control"
	"capsid/guest/image"
	"capsid/guest/link"
	"capsid/proxy"
	"capsid/proxy/ca"
	"capsid/proxy/ledger"
	"capsid/proxy/policy"
	"capsid/vmm"
)

// start brings everything up. On failure the caller unwinds what is up by then.
func (s *Supervisor) start(ctx context.Context) error {
	// First: what cannot run needs no disk.
	chosen, err := session.ChooseBackend(ctx, s.cfg.Backends, s.sess.Backend)
	if err != nil {
		return err
	}
	s.backend = chosen.Backend
	s.state.change(func(st *session.Status) { st.Backend = chosen.Name() })
	img, err := s.checkImage(ctx)
	if err != nil {
		return err
	}
	from, err := s.openOrigin(ctx)
	if err != nil {
		return err
	}
	if s.authority, err = ca.Open(s.cfg.Paths.CA()); err != nil {
		return fmt.Errorf("open authority: %w", err)
	}
	warm := from == nil && s.sess.Parent == nil && !s.sess.Cold && s.backend.Capabilities().Snapshot
	if warm {
		from = s.openWarm(ctx)
	}
	up := s.down.mark()
	err = s.bringUp(ctx, img, from)
	if err != nil && from != nil && from.warm && ctx.Err() == nil {
		s.down.runTo(up)
		s.refuse(from.Name, err)
		from = nil
		err = s.bringUp(ctx, img, nil)
	}
	if err != nil {
		return err
	}
	s.state.change(func(st *session.Status) {
		st.Backing = fmt.Sprintf("%s: %s (%s)", chosen.Name(), s.machine.Info().Detail, chosen.Why)
	})
	if from.lives() {
		return s.goOn(ctx)
	}
	if warm && from == nil {
		s.keepTemplate(ctx)
	}
	if err := s.setUp(ctx); err != nil {
		return err
	}
	if err := s.openMain(ctx); err != nil {
		return err
	}
	if warm {
		s.followPrompt()
	}
	return nil
}

// bringUp makes the machine with what is around it, and waits until it answers; from a snapshot as a machine of its own.
func (s *Supervisor) bringUp(ctx context.Context, img *image.Image, from *origin) error {
	if s.sess.Parent == nil {
		if err := s.makeDisk(ctx, from); err != nil {
			return err
		}
	}
	layers, err := snapshot.Layers(s.folder)
	if err != nil {
		return err
	}
	if err := s.startShare(ctx, from); err != nil {
		return err
	}
	// What snapshots of an earlier machine of this session differed from; the new one has its own.
	if err := os.Remove(filepath.Join(s.folder, "ram.base")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	cfg := vmm.Config{
		Name: s.sess.Name, Kernel: img.Kernel(), Initrd: img.Initrd(), CPUs: s.sess.CPUs, Memory: s.sess.Memory, Dir: s.folder,
		Disks: []vmm.Disk{{Path: img.Root(), ReadOnly: true}, {Layers: layers}},
	}
	verb, do := "start machine", s.backend.Start
	if from != nil {
		verb, do = "restore machine", func(ctx context.Context, cfg vmm.Config) (vmm.Machine, error) { return s.restore(ctx, from, cfg) }
	}
	detail, end := s.state.step(verb)
	detail(s.backend.Name())
	if s.machine, err = do(ctx, cfg); err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	s.down.add(func() { s.machine.Close() })
	end()
	if err := s.serveGuest(from); err != nil {
		return err
	}
	if from == nil {
		return s.connect(ctx, "boot", bootTime)
	}
	if err := s.machine.Resume(ctx); err != nil {
		return fmt.Errorf("resume machine: %w", err)
	}
	if err := s.connect(ctx, "connect", connectTime); err != nil {
		return err
	}
	return s.renew(ctx, from)
}

// makeDisk makes the session's disk: an empty one, or that of a machine that was kept.
func (s *Supervisor) makeDisk(ctx context.Context, from *origin) error {
	_, end := s.state.step("make disk")
	err := snapshot.RemoveDisk(s.folder) // of a start that came to nothing
	if err == nil && from != nil {
		err = snapshot.LinkDisk(ctx, s.folder, from.Snapshot)
	} else if err == nil {
		var path string
		if path, err = snapshot.NewDisk(s.folder); err == nil {
			err = makeDisk(ctx, path)
		}
	}
	if err != nil {
		return fmt.Errorf("make disk: %w", err)
	}
	end()
	return nil
}

func (s *Supervisor) openPolicy() (err error) {
	p := s.cfg.Paths
	agents, err := assets.Agents(p.Agents())
	if err != nil {
		return fmt.Errorf("agents: %w", err)
	}
	for _, a := range agents {
		if a.Name == s.sess.Agent {
			s.agent = a
		}
	}
	if s.agent.Name == "" {
		return &session.Error{Message: fmt.Sprintf("there is no agent %q", s.sess.Agent), Hint: "capsid new --help lists them"}
	}
	s.policy, err = policy.Open(session.PolicyPaths(p, s.sess, s.agent))
	if err != nil {
		return err
	}
	if s.ledger, err = ledger.Open(filepath.Join(s.folder, "ledger.db")); err != nil {
		return fullDisk(err)
	}
	s.down.add(func() {
		if err := s.ledger.Close(); err != nil {
			s.log.Error("close the ledger", "error", err)
		}
	})
	if from := s.sess.Parent; from != nil {
		if err := s.ledger.WentOn(ledger.Origin{Time: time.Now(), Session: from.Session, Snapshot: from.Snapshot}); err != nil {
			return fullDisk(err)
		}
	}
	s.followPolicy()
	s.followLedger()
	return nil
}

func (s *Supervisor) checkImage(ctx context.Context) (*image.Image, error) {
	detail, end := s.state.step("check image")
	img, err := image.Open(filepath.Join(s.cfg.Paths.Images(), s.sess.Image))
	if err != nil {
		return nil, fmt.Errorf("open image: %w", err)
	}
	shown := -1
	err = img.VerifyOnce(ctx, filepath.Join(s.cfg.Paths.Runtime, "verified-"+img.Digest), func(done, total int64) {
		if total > 0 && int(done*100/total)/10 != shown {
			shown = int(done*100/total) / 10
			detail(fmt.Sprintf("%d %%", done*100/total))
		}
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &session.Error{Message: "the image is damaged", Err: err, Hint: "capsid image build makes it anew"}
	}
	detail(img.Digest[:12])
	end()
	return img, nil
}

// serveGuest takes the streams that the guest opens: its only ways out.
func (s *Supervisor) serveGuest(from *origin) error {
	cfg := proxy.Config{Session: s.sess.ID, Policy: s.policy, CA: s.authority, Ledger: s.ledger, Log: s.log}
	if from != nil {
		cfg.Names = from.Names
	}
	out, err := proxy.New(cfg)
	if err != nil {
		return fmt.Errorf("start proxy: %w", err)
	}
	s.proxy = out
	s.down.add(func() { out.Close() })
	egress, err := s.machine.Listen(link.Egress)
	if err != nil {
		return err
	}
	dns, err := s.machine.Listen(link.DNS)
	if err != nil {
		return err
	}
	go s.logEnd("egress", func() error { return out.ServeEgress(egress) })
	go s.logEnd("dns", func() error { return out.ServeDNS(dns) })
	if s.share == nil {
		return nil
	}
	files, err := s.machine.Listen(link.Share)
	if err != nil {
		return err
	}
	go s.logEnd("share", func() error { return s.share.serve(files) })
	return nil
}

// logEnd runs a server whose listener ends with the machine.
func (s *Supervisor) logEnd(name string, serve func() error) {
	if err := serve(); err != nil {
		s.log.Info("server ended", "name", name, "reason", err)
	}
}

// connect waits until the guest answers on its control port.
func (s *Supervisor) connect(ctx context.Context, stage string, most time.Duration) error {
	_, end := s.state.step(stage)
	limit, cancel := context.WithTimeoutCause(ctx, most, fmt.Errorf("the guest did not answer within %v", most))
	defer cancel()
	conn, err := s.machine.Dial(limit, link.Control)
	if err == nil {
		stop := context.AfterFunc(limit, func() { conn.Close() })
		s.control, err = control.NewClient(conn)
		if !stop() && err == nil {
			s.control.Close()
			err = limit.Err()
		}
	}
	if err != nil {
		return s.startFault(ctx, stage, err, limit)
	}
	s.down.add(func() { s.control.Close() })
	end()
	return nil
}

// startFault names the cause that says most: the caller's wish, the machine's end, the time that is up, then the error itself.
func (s *Supervisor) startFault(ctx context.Context, stage string, err error, limit context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	e := &session.Error{Message: stage, Err: err, Hint: "the machine's last lines are in " + filepath.Join(s.folder, "console.log") + "; capsid doctor looks for what is missing"}
	if errors.Is(err, link.ErrClosed) {
		// The machine is about to end, and knows better why.
		select {
		case <-s.machine.Done():
		case <-time.After(clockTime):
		}
	}
	select {
	case <-s.machine.Done():
		if mErr := s.machine.Err(); mErr != nil {
			e.Err = mErr
		} else {
			e.Err = errors.New("the machine powered off")
		}
	default:
		if limit.Err() != nil {
			e.Err = context.Cause(limit)
		}
	}
	return e
}

// setUp gives the machine its identity, and records what stands around it.
func (s *Supervisor) setUp(ctx context.Context) error {
	detail, end := s.state.step("set up")
	setup, err := s.setup()
	if err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	limit, cancel := context.WithTimeoutCause(ctx, setupTime, fmt.Errorf("the guest was not set up within %v", setupTime))
	defer cancel()
	result, err := s.control.Setup(limit, setup)
	if err != nil {
		return s.startFault(ctx, "set up", err, limit)
	}
	kernel := cleanLine(result.Kernel)
	detail("Linux " + kernel)
	end()
	s.log.Info("guest", "kernel", kernel, "steps", result.Steps, "versions", result.Versions)
	s.lockdown = cleanLines(result.Lockdown)
	s.state.change(func(st *session.Status) { st.Defences = s.defences() })
	for i, w := range result.Warnings {
		if i == maxWords {
			break
		}
		s.notice("error", "in the machine: "+cleanLine(w))
	}
	return nil
}

// openMain starts the agent's program in its terminal.
func (s *Supervisor) openMain(ctx context.Context) error {
	_, end := s.state.step("terminal")
	t, err := s.control.Terminal(ctx, s.mainSpec(control.TerminalSpec{Name: session.MainTerminal, Cols: 100, Rows: 30}))
	if err != nil {
		return s.startFault(ctx, "terminal", err, ctx)
	}
	end()
	s.watchTerminal(session.MainTerminal)
	t.Close()
	s.nowUp()
	return nil
}

// nowUp tells that the session runs.
func (s *Supervisor) nowUp() {
	close(s.up)
	s.state.change(func(st *session.Status) { st.State = session.Running })
	s.log.Info("running", "after", time.Since(s.state.get().Started))
}
