package session

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// StartOptions says what session to start. Zero fields are defaults.
type StartOptions struct {
	Agent      string // the name of an agent's file: claude, codex, gemini, shell, or a person's own
	Name       string // empty: the agent's with the first free number
	Workspace  string // empty: none is shared
	Access     Access // empty: read-write
	CPUs       int    // 0: [session] of the policy files, else 2
	Memory     int64  // bytes; 0: [session] of the policy files, else 2 GiB
	Policy     string // a policy file for this session alone
	Backend    string // a name, or "auto" for the best that works here; empty: [session] of the policy files, else auto
	Image      string // digest; empty: the newest
	Cold       bool   // boot the machine, even where one is kept warm
	Supervised bool   // the agent asks before it acts; by default it does not, since the machine is the sandbox
	// AcceptWide lets the workspace be the whole file system or a home folder, which Start refuses with ErrWide otherwise. Such a workspace
	// is shared read-only whatever Access says.
	AcceptWide bool
	// Executable is the capsid program; empty: the one beside the running program.
	Executable string
}

// The files that a supervisor finds open.
const (
	LockFD  = 3 // the session's lock, held
	ReadyFD = 4 // a pipe: one APIError in JSON, with an empty Error once the API is served
)

// Start makes a session and starts its supervisor, then follows it until it runs: onStatus, which may be nil, sees each change. When
// the session does not come up, or ctx ends before it does, all of it is taken away again; the Status that comes with the error
// then still says how far it got. The session does not depend on the process that started it.
func (s *Store) Start(ctx context.Context, opts StartOptions, onStatus func(Status)) (Status, error) {
	sess, exe, err := s.resolve(ctx, opts)
	if err != nil {
		return Status{}, err
	}
	return s.launch(ctx, sess, exe, nil, onStatus)
}

// launch makes the session, puts into its folder what furnish does, and runs it.
func (s *Store) launch(ctx context.Context, sess Session, exe string, furnish func(folder string) error, onStatus func(Status)) (Status, error) {
	if err := ctx.Err(); err != nil {
		return Status{}, err
	}
	lock, err := s.create(&sess)
	if err != nil {
		return Status{}, fmt.Errorf("make session: %w", full(err))
	}
	if furnish != nil {
		err = full(furnish(s.paths.Folder(sess.ID)))
	}
	st := Status{Session: sess, State: Starting}
	if err == nil {
		st, err = s.run(ctx, exe, sess, lock, onStatus)
	} else {
		lock.Close()
	}
	if err == nil {
		return st, nil
	}
	// The cause is worth more than what the tidying up may add.
	if rmErr := s.discard(sess.ID); rmErr != nil {
		err = fmt.Errorf("%w (and %v)", err, rmErr)
	}
	return st, err
}

// run starts the supervisor of a session whose lock is held, which it takes over, and follows it until it runs. After an error it is gone.
func (s *Store) run(ctx context.Context, exe string, sess Session, lock *os.File, onStatus func(Status)) (Status, error) {
	st := Status{Session: sess, State: Starting}
	if onStatus != nil {
		onStatus(st)
	}
	sup, err := s.spawn(exe, sess.ID, lock)
	lock.Close() // the supervisor has it now
	if err != nil {
		return st, err
	}
	if st, err = s.follow(ctx, sup, st, onStatus); err != nil {
		sup.end()
	}
	return st, err
}

// supervisor is the process, as its starter sees it.
type supervisor struct {
	process *os.Process
	gone    chan struct{} // closed when it has ended
	ready   *os.File
	log     string
}

// spawn starts the supervisor in a session (setsid) of its own, so that a ctrl-C meant for its starter does not reach it.
func (s *Store) spawn(exe, id string, lock *os.File) (*supervisor, error) {
	folder := s.paths.Folder(id)
	log, err := os.OpenFile(filepath.Join(folder, "supervisor.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, full(err)
	}
	defer log.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	cmd := exec.Command(exe, "supervise", id)
	cmd.Dir = folder
	cmd.Env = supervisorEnv(s.paths)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{lock, w} // LockFD, ReadyFD
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		r.Close()
		return nil, &Error{Message: "start the supervisor", Err: err, Hint: "is " + exe + " the capsid program?"}
	}
	sup := &supervisor{process: cmd.Process, gone: make(chan struct{}), ready: r, log: log.Name()}
	go func() {
		cmd.Wait() // its end shows in gone, its reason in status.json and its log
		close(sup.gone)
	}()
	return sup, nil
}

// supervisorEnv lets through what finds files and programs and no more: whatever secrets this process has in its environment, no part of a
// session sees them.
func supervisorEnv(p Paths) []string {
	env := p.environ()
	for _, name := range []string{"PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// awaitReady returns when the API is served.
func (sup *supervisor) awaitReady(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { sup.ready.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	defer sup.ready.Close()
	var e APIError
	err := json.NewDecoder(io.LimitReader(sup.ready, 1<<20)).Decode(&e)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return &Error{Message: "the supervisor ended at once: " + lastLine(sup.log), Hint: "capsid doctor looks for what is missing"}
	case e.Error != "":
		return &Error{Message: e.Error, Hint: e.Hint}
	}
	return nil
}

// follow returns when the session runs, has failed, or ctx ends.
func (s *Store) follow(ctx context.Context, sup *supervisor, st Status, onStatus func(Status)) (Status, error) {
	if err := sup.awaitReady(ctx); err != nil {
		return st, err
	}
	watch, cancel := context.WithCancel(ctx)
	defer cancel()
	events, err := s.Client(st.ID).Events(watch)
	if err != nil && ctx.Err() == nil && !errors.Is(err, ErrNotRunning) {
		return st, err
	}
	if err == nil {
		for e := range events {
			if e.Kind != StatusEvent || e.Status == nil {
				continue
			}
			st = *e.Status
			if onStatus != nil {
				onStatus(st)
			}
			switch st.State {
			case Running, Paused:
				return st, nil
			case Failed, Stopped:
				return st, failure(st)
			}
		}
	}
	if ctx.Err() != nil {
		return st, ctx.Err()
	}
	// The stream ended first: the last word is in the folder.
	<-sup.gone
	last, err := s.read(st.ID)
	if err != nil {
		return st, err
	}
	return last, failure(last)
}

func failure(st Status) error {
	if st.Error == "" {
		return &Error{Message: "the session was ended while it started"}
	}
	return &Error{Message: st.Error, Hint: st.Hint}
}

// stopTime is how long a supervisor may take to end in order.
const stopTime = 20 * time.Second

// end makes the supervisor end, in order if it can, and waits for it.
func (sup *supervisor) end() {
	sup.process.Signal(unix.SIGTERM)
	timer := time.NewTimer(stopTime)
	defer timer.Stop()
	select {
	case <-sup.gone:
	case <-timer.C:
		sup.process.Kill()
		<-sup.gone
	}
}

// full puts the next step to an error about a full disk.
func full(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return &Error{Message: "the disk is full", Err: err, Hint: "make room: capsid ps shows old sessions, capsid rm removes them"}
	}
	return err
}

// lastLine returns the end of a log, for a message.
func lastLine(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if fi, err := f.Stat(); err == nil && fi.Size() > 4096 {
		f.Seek(-4096, io.SeekEnd)
	}
	data, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(string(bytes.TrimSpace(data)), "\n")
	if last := lines[len(lines)-1]; last != "" {
		return last
	}
	return "it said nothing"
}

// WritePID records, in the lock that a supervisor holds, which process that is.
func WritePID(lock *os.File) error {
	if err := lock.Truncate(0); err != nil {
		return err
	}
	_, err := lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}
