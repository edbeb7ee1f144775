//go:build linux

package agent

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"capsid/guest/agent/reap"
	"capsid/guest/control"

	"golang.org/x/crypto/ssh"
)

const (
	handshakeTime  = 2 * time.Minute // of SSH; an emulated machine is slow
	maxConnections = 64
	maxChannels    = 1024 // on one connection
)

// serverConfig is what a control server needs of its machine.
type serverConfig struct {
	procs *reap.Reaper
	self  string // path of this program, which serves SFTP when it is started as sftpName
	log   func(format string, args ...any)
	// setup gives the machine its identity; it returns who the user is and the environment of programs.
	setup    func(ctx context.Context, s control.Setup) (control.SetupResult, account, []string, error)
	clock    func(time.Time) error
	powerOff func()
	// freeze stops the programs and thaw lets them run on; each may be called again.
	freeze, thaw func() error
	// renew gives a restored machine another identity. It returns the whole environment of programs that id.Env makes.
	renew func(id control.Identity) ([]string, error)
}

// server serves the control port.
type server struct {
	serverConfig
	ssh       *ssh.ServerConfig
	terminals *terminals

	setting sync.Mutex // held during Setup
	result  *control.SetupResult

	mu   sync.Mutex
	user *account // nil before Setup
	env  []string
}

func newServer(cfg serverConfig) (*server, error) {
	s := &server{serverConfig: cfg, ssh: &ssh.ServerConfig{NoClientAuth: true, ServerVersion: "SSH-2.0-Capsid"}}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("host key: %w", err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return nil, fmt.Errorf("host key: %w", err)
	}
	s.ssh.AddHostKey(signer)
	s.terminals = newTerminals(cfg.procs)
	return s, nil
}

// serve takes connections until the listener is closed, and returns when all have ended.
func (s *server) serve(l net.Listener) error {
	var conns sync.WaitGroup
	defer conns.Wait()
	room := make(chan struct{}, maxConnections)
	for {
		c, err := l.Accept()
		if err != nil {
			return fmt.Errorf("control port: %w", err)
		}
		select {
		case room <- struct{}{}:
		default:
			_ = c.Close()
			continue
		}
		conns.Go(func() {
			defer func() { <-room }()
			s.serveConn(c)
		})
	}
}

func (s *server) serveConn(c net.Conn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(handshakeTime))
	conn, channels, requests, err := ssh.NewServerConn(c, s.ssh)
	if err != nil {
		s.log("control handshake: %v", err)
		return
	}
	defer conn.Close()
	_ = c.SetDeadline(time.Time{})
	// Keep-alives are global requests: any answer, also a refusal, shows that the agent lives.
	go ssh.DiscardRequests(requests)

	var handlers sync.WaitGroup
	defer handlers.Wait()
	room := make(chan struct{}, maxChannels)
	for nc := range channels {
		select {
		case room <- struct{}{}:
		default:
			_ = nc.Reject(ssh.ResourceShortage, "too many channels")
			continue
		}
		handlers.Go(func() {
			defer func() { <-room }()
			s.serveChannel(conn.User(), nc)
		})
	}
}

func (s *server) serveChannel(user string, nc ssh.NewChannel) {
	switch nc.ChannelType() {
	case "session":
		ch, reqs, err := nc.Accept()
		if err == nil {
			newSession(s, user, ch).serve(reqs)
		}
	case control.ChannelTerminal:
		s.serveTerminal(nc)
	case control.ChannelSetup:
		ch, reqs, err := nc.Accept()
		if err == nil {
			go ssh.DiscardRequests(reqs)
			s.serveCall(ch)
		}
	case "direct-tcpip":
		serveForward(nc)
	default:
		_ = nc.Reject(ssh.UnknownChannelType, "unknown channel type")
	}
}

var errNotSetUp = errors.New("the machine is not set up yet")

// who is the account for a command, and the environment of the session.
func (s *server) who(root bool) (account, []string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if root {
		return rootAccount(), s.env, nil
	}
	if s.user == nil {
		return account{}, nil, errNotSetUp
	}
	return *s.user, s.env, nil
}
