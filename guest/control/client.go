package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// handshakeTime bounds the SSH handshake: key exchange in an emulated machine that is still starting takes seconds.
const handshakeTime = 2 * time.Minute

// Client talks to the agent of one machine over one stream of its control port. Its methods may be called from any
// goroutine. Nothing that the guest sends is trusted: answers are bounded, and text for people has no control characters.
type Client struct {
	ssh  *ssh.Client
	key  ssh.PublicKey
	done chan struct{}
	once sync.Once
	err  error
}

// NewClient makes the SSH handshake on conn and owns conn from then on, also when it fails.
func NewClient(conn net.Conn) (*Client, error) {
	c := &Client{done: make(chan struct{})}
	_ = conn.SetDeadline(time.Now().Add(handshakeTime))
	sc, channels, requests, err := ssh.NewClientConn(conn, "capsid", &ssh.ClientConfig{
		User: "agent",
		// Nobody stands between, so what counts is what an emulated processor is quick at: its AES is several times slower than plain arithmetic.
		Config: ssh.Config{
			Ciphers:      []string{"chacha20-poly1305@openssh.com", "aes128-gcm@openssh.com"},
			KeyExchanges: []string{"curve25519-sha256"},
		},
		// The port can be reached by the guest's first process alone and its key is new at each boot: there is nothing to compare it with.
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error { c.key = key; return nil },
	})
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("control handshake: %w", err)
	}
	_ = conn.SetDeadline(time.Time{})
	c.ssh = ssh.NewClient(sc, channels, requests)
	go func() {
		err := c.ssh.Wait()
		c.finish(err)
	}()
	return c, nil
}

func (c *Client) finish(err error) {
	c.once.Do(func() {
		if errors.Is(err, io.EOF) {
			err = nil
		}
		c.err = err
		close(c.done)
	})
}

// HostKey is the key that the agent made when it booted.
func (c *Client) HostKey() ssh.PublicKey { return c.key }

// Done is closed when the connection has ended.
func (c *Client) Done() <-chan struct{} { return c.done }

// Wait returns when the connection has ended; nil means that one side closed it.
func (c *Client) Wait() error {
	<-c.done
	return c.err
}

// Close ends the connection. Terminals run on; commands started by Run are hung up.
func (c *Client) Close() error {
	c.finish(nil)
	return c.ssh.Close()
}

// Setup gives the machine its identity.
func (c *Client) Setup(ctx context.Context, s Setup) (SetupResult, error) {
	a, err := c.call(ctx, Call{Call: CallSetup, Setup: &s})
	if err != nil {
		return SetupResult{}, fmt.Errorf("guest setup: %w", err)
	}
	if a.Setup == nil {
		return SetupResult{}, errors.New("guest setup: the agent's answer has no result")
	}
	return a.Setup.clean(), nil
}

// SetClock sets the guest's wall clock, which stood still while the machine was paused.
func (c *Client) SetClock(ctx context.Context, t time.Time) error {
	if _, err := c.call(ctx, Call{Call: CallClock, Time: t}); err != nil {
		return fmt.Errorf("guest clock: %w", err)
	}
	return nil
}

// Freeze stops the programs of the session, and returns when none runs. What is started now waits. It may be called again.
func (c *Client) Freeze(ctx context.Context) error {
	if _, err := c.call(ctx, Call{Call: CallFreeze}); err != nil {
		return fmt.Errorf("guest freeze: %w", err)
	}
	return nil
}

// Thaw lets them run on. It may be called again.
func (c *Client) Thaw(ctx context.Context) error {
	if _, err := c.call(ctx, Call{Call: CallThaw}); err != nil {
		return fmt.Errorf("guest thaw: %w", err)
	}
	return nil
}

// Renew makes another machine of one that was restored from a snapshot. It is called before Thaw, and may be called again.
func (c *Client) Renew(ctx context.Context, id Identity) error {
	if _, err := c.call(ctx, Call{Call: CallRenew, Renew: &id}); err != nil {
		return fmt.Errorf("guest identity: %w", err)
	}
	return nil
}

// Terminals lists the agent's terminals, those whose program has ended too, oldest first.
func (c *Client) Terminals(ctx context.Context) ([]TerminalInfo, error) {
	a, err := c.call(ctx, Call{Call: CallTerminals})
	if err != nil {
		return nil, fmt.Errorf("list terminals: %w", err)
	}
	for i := range a.Terminals {
		a.Terminals[i] = a.Terminals[i].clean()
	}
	return a.Terminals, nil
}

// PowerOff asks the guest to end its programs, write its disk and switch itself off. It returns when the agent has begun to.
func (c *Client) PowerOff(ctx context.Context) error {
	if _, err := c.call(ctx, Call{Call: CallPowerOff}); err != nil {
		return fmt.Errorf("guest power off: %w", err)
	}
	return nil
}

// SFTP opens a file transfer session as the ordinary user, beginning in its home folder.
func (c *Client) SFTP() (*sftp.Client, error) {
	s, err := sftp.NewClient(c.ssh)
	if err != nil {
		return nil, fmt.Errorf("guest sftp: %w", err)
	}
	return s, nil
}

// Dial connects to a port that a guest program listens on. Only the guest's loopback addresses are reached. The result has a CloseWrite method.
func (c *Client) Dial(network, addr string) (net.Conn, error) {
	conn, err := c.ssh.Dial(network, addr)
	if err != nil {
		return nil, fmt.Errorf("guest port %s: %w", addr, err)
	}
	return conn, nil
}

// call makes one call on a channel of its own.
func (c *Client) call(ctx context.Context, call Call) (Answer, error) {
	body, err := json.Marshal(call)
	if err != nil {
		return Answer{}, err
	}
	if len(body) > MaxCall {
		return Answer{}, fmt.Errorf("the request has %d bytes, more than %d", len(body), MaxCall)
	}
	ch, err := c.open(ctx, ChannelSetup, nil, nil)
	if err != nil {
		return Answer{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = ch.Close() })
	defer stop()
	defer ch.Close()
	answer, err := exchange(ch, body)
	if ctx.Err() != nil {
		return Answer{}, ctx.Err()
	}
	if err != nil {
		return Answer{}, err
	}
	if answer.Error != "" {
		return Answer{}, errors.New(cleanText(answer.Error, 4096))
	}
	return answer, nil
}

func exchange(ch ssh.Channel, body []byte) (Answer, error) {
	var a Answer
	if _, err := ch.Write(body); err != nil {
		return a, err
	}
	if err := ch.CloseWrite(); err != nil {
		return a, err
	}
	raw, err := io.ReadAll(io.LimitReader(ch, MaxAnswer+1))
	if err != nil {
		return a, err
	}
	if len(raw) > MaxAnswer {
		return a, fmt.Errorf("the agent's answer is larger than %d bytes", MaxAnswer)
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		return a, fmt.Errorf("the agent's answer: %w", err)
	}
	return a, nil
}

// open opens a channel and gives up waiting when ctx ends; a channel that comes later is closed. handle takes the guest's requests on
// the channel, and must return when they end; nil refuses them all.
func (c *Client) open(ctx context.Context, kind string, extra []byte, handle func(<-chan *ssh.Request)) (ssh.Channel, error) {
	if handle == nil {
		handle = ssh.DiscardRequests
	}
	type result struct {
		ch  ssh.Channel
		err error
	}
	got := make(chan result)
	go func() {
		ch, requests, err := c.ssh.OpenChannel(kind, extra)
		if err == nil {
			go handle(requests)
		}
		select {
		case got <- result{ch, err}:
		case <-ctx.Done():
			if err == nil {
				_ = ch.Close()
			}
		}
	}()
	select {
	case r := <-got:
		var refused *ssh.OpenChannelError
		if errors.As(r.err, &refused) {
			return nil, errors.New(cleanText(refused.Message, 1024))
		}
		return r.ch, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
