package dns

import (
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"capsid/proxy/ledger"
	"capsid/proxy/policy"
)

const (
	// maxMessage bounds a question. A single question with every option in use is far below it.
	maxMessage = 4096
	maxStreams = 512
	idle       = 2 * time.Minute // RFC 7766 §6.2.3 leaves it to the server; clients dial again
)

// Config is what a Server works with.
type Config struct {
	Session string
	Table   *Table
	// Name says whether any connection to a name could be allowed.
	Name func(host string) policy.Verdict
	// Add records a refusal; it must not let a storm through.
	Add func(ledger.Entry)
	Log *slog.Logger
}

// Server answers DNS over TCP.
type Server struct {
	cfg    Config
	floods floods

	mu      sync.Mutex
	closed  bool
	open    map[io.Closer]struct{} // listeners and streams
	streams int
	wg      sync.WaitGroup
}

// New returns a server. It owns nothing until Serve is called.
func New(cfg Config) *Server {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg, open: map[io.Closer]struct{}{}}
}

// Serve answers on the streams of l until Close, or until l fails. It closes l. After Close it returns nil.
func (s *Server) Serve(l net.Listener) error {
	if !s.enter(l, false) {
		l.Close()
		return nil
	}
	defer s.leave(l, false)
	for {
		c, err := l.Accept()
		if err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.closed || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		if !s.enter(c, true) {
			c.Close()
			continue
		}
		go func() {
			defer s.leave(c, true)
			s.stream(c)
		}()
	}
}

func (s *Server) enter(c io.Closer, stream bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || stream && s.streams >= maxStreams {
		return false
	}
	if stream {
		s.streams++
	}
	s.open[c] = struct{}{}
	s.wg.Add(1)
	return true
}

func (s *Server) leave(c io.Closer, stream bool) {
	c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if stream {
		s.streams--
	}
	delete(s.open, c)
	s.wg.Done()
}

// Close ends all streams and returns when nothing runs any more.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	for c := range s.open {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
	return nil
}

// stream answers the questions of one stream, in order: an answer needs no waiting for anything.
func (s *Server) stream(c net.Conn) {
	buf := make([]byte, 2+maxMessage)
	for {
		c.SetDeadline(time.Now().Add(idle))
		if _, err := io.ReadFull(c, buf[:2]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(buf))
		if n > maxMessage {
			s.refuse("", "", "messages", "a DNS message of more than 4096 bytes")
			return
		}
		if _, err := io.ReadFull(c, buf[2:2+n]); err != nil {
			return
		}
		answer := s.Answer(buf[2 : 2+n])
		if answer == nil {
			return
		}
		// One write, or a slow path between would see two segments (RFC 7766 §8).
		out := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(answer)), uint16(len(answer)))
		if _, err := c.Write(append(out, answer...)); err != nil {
			return
		}
	}
}

// refuse records what a built-in rule refused.
func (s *Server) refuse(host, kind, rule, reason string) {
	s.cfg.Add(ledger.Entry{
		Time: time.Now(), Session: s.cfg.Session, Kind: ledger.DNS, Method: kind, Host: host, Decision: ledger.Block,
		Rule: rule, Source: "built in", Reason: reason, Done: true,
	})
}
