package supervisor

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"capsid/app/session"
	"capsid/guest/link"
	"capsid/guest/share"
)

// maxMounts bounds the streams of one share at the same time. The guest needs one.
const maxMounts = 4

// tagTime is how long the guest may take to say which share it wants.
const tagTime = 30 * time.Second

// shareServer joins the guest's share streams with the process that serves the workspace.
type shareServer struct {
	process *share.Process
	slots   chan struct{}
	log     *slog.Logger
}

// readOnly: the guest may not write to the workspace.
func (s *Supervisor) readOnly() bool { return s.sess.Access == session.ReadOnly }

// startShare starts the process that serves the workspace, if there is one. A machine that goes on from a snapshot finds its files as it left them.
func (s *Supervisor) startShare(ctx context.Context, from *origin) error {
	if s.sess.Workspace == "" {
		return nil
	}
	detail, end := s.state.step("workspace")
	detail(s.sess.Workspace)
	me, err := GuestUser()
	if err != nil {
		return err
	}
	cfg := share.Config{
		Executable: s.cfg.Executable, Args: []string{"share-serve"}, Dir: s.sess.Workspace, ReadOnly: s.readOnly(),
		HostUID: os.Getuid(), HostGID: os.Getgid(), GuestUID: int(me.UID), GuestGID: int(me.GID),
		Log: slog.NewLogLogger(s.log.Handler(), slog.LevelInfo).Writer(),
	}
	if from != nil {
		cfg.State = from.share
	}
	p, err := share.Start(ctx, cfg)
	if err != nil {
		return fmt.Errorf("share the workspace: %w", err)
	}
	s.down.add(func() { p.Close() })
	go func() {
		<-p.Done()
		if err := p.Err(); err != nil {
			s.notice("error", "the machine has lost its workspace: "+err.Error())
		}
	}()
	end()
	s.share = &shareServer{process: p, slots: make(chan struct{}, maxMounts), log: s.log}
	return nil
}

// serve takes the guest's streams until the machine ends.
func (h *shareServer) serve(l net.Listener) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		select {
		case h.slots <- struct{}{}:
			go func() {
				defer func() { <-h.slots }()
				h.mount(conn)
			}()
		default:
			h.log.Warn("the guest opened too many share streams")
			conn.Close()
		}
	}
}

// mount reads which share is wanted and hands the stream on.
func (h *shareServer) mount(conn net.Conn) {
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(tagTime))
	tag, err := readTag(conn)
	if err != nil || tag != workspaceTag {
		h.log.Warn("the guest asked for a share that there is not", "tag", cleanLine(tag), "error", err)
		return
	}
	conn.SetReadDeadline(time.Time{})
	stream, ok := conn.(link.Conn)
	if !ok {
		h.log.Error("the share's listener gave a stream without half-close")
		return
	}
	if err := h.process.Serve(stream); err != nil {
		h.log.Info("share stream ended", "reason", err)
	}
}

// readTag reads one length byte and that many bytes.
func readTag(r io.Reader) (string, error) {
	var n [1]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return "", err
	}
	tag := make([]byte, n[0])
	_, err := io.ReadFull(r, tag)
	return string(tag), err
}
