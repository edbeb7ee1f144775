package session

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"

	"capsid/guest/control"
	"capsid/proxy/ledger"
)

// Client speaks to one session's supervisor. It may be used from any goroutine and needs no Close. Where no supervisor listens, errors
// are ErrNotRunning.
type Client struct {
	socket string
	http   *http.Client
	// From says where decisions are made, as it is shown beside them; "command line" when empty.
	From string
}

// NewClient returns a client of the supervisor that listens on a unix socket.
func NewClient(socket string) *Client {
	c := &Client{socket: socket}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
		DisableKeepAlives: true, // no idle connection to close, and a request costs no more on a unix socket
	}}
	return c
}

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.socket)
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, &Error{Message: "the session is not running", Hint: "capsid ps shows its state", Kind: ErrNotRunning}
	}
	return conn, err
}

// base is the API's address; the host in it has no meaning on a unix socket.
const base = "http://capsid"

// call sends one request. in and out may be nil.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, base+path, body)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return unwrapURL(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 {
		return apiError(resp)
	}
	if out == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
	return json.NewDecoder(resp.Body).Decode(out)
}

// unwrapURL takes off the layer that names method and URL: it says nothing to a person here.
func unwrapURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return err
}

func apiError(resp *http.Response) error {
	var e APIError
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil {
		err = json.Unmarshal(data, &e)
	}
	if err != nil || e.Error == "" {
		return fmt.Errorf("the supervisor answered %s", resp.Status)
	}
	return &Error{Message: e.Error, Hint: e.Hint}
}

// Status returns the session as it is now.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var st Status
	err := c.call(ctx, "GET", "/v1/status", nil, &st)
	return st, err
}

// Pause stops the machine's processors; Resume lets them run again. Each returns when it is done.
func (c *Client) Pause(ctx context.Context) error {
	return c.call(ctx, "POST", "/v1/pause", nil, nil)
}

// Resume undoes Pause.
func (c *Client) Resume(ctx context.Context) error {
	return c.call(ctx, "POST", "/v1/resume", nil, nil)
}

// Snapshot keeps the machine as it is now, and lets it go on. When ctx ends first there is no snapshot.
func (c *Client) Snapshot(ctx context.Context, r SnapshotRequest) (SnapshotResult, error) {
	var done SnapshotResult
	err := c.call(ctx, "POST", "/v1/snapshots", r, &done)
	return done, err
}

// Suspend keeps the machine as it is now and ends the session, which goes on from there when it is resumed.
func (c *Client) Suspend(ctx context.Context) (SnapshotResult, error) {
	var done SnapshotResult
	err := c.call(ctx, "POST", "/v1/suspend", nil, &done)
	return done, err
}

// Kill ends the session: the machine is powered off, or cut off when it takes too long. It returns when the machine is gone.
func (c *Client) Kill(ctx context.Context) error {
	return c.call(ctx, "POST", "/v1/kill", nil, nil)
}

// Decide records what a person decided about a host, and puts it in force. action is allow or block; scope is session, project or always.
func (c *Client) Decide(ctx context.Context, host, action, scope string) error {
	from := c.From
	if from == "" {
		from = "command line"
	}
	return c.call(ctx, "POST", "/v1/decisions", DecisionRequest{Host: host, Action: action, Scope: scope, From: from}, nil)
}

// Ledger returns entries in the order of their IDs.
func (c *Client) Ledger(ctx context.Context, q ledger.Query) ([]ledger.Entry, error) {
	v := url.Values{}
	if q.After != 0 {
		v.Set("after", strconv.FormatInt(q.After, 10))
	}
	if q.Limit != 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	if q.Blocked {
		v.Set("blocked", "1")
	}
	if q.Host != "" {
		v.Set("host", q.Host)
	}
	var list []ledger.Entry
	err := c.call(ctx, "GET", "/v1/ledger?"+v.Encode(), nil, &list)
	return list, err
}

// Blocked returns what was refused and not decided on, grouped by registrable domain.
func (c *Client) Blocked(ctx context.Context) ([]ledger.Group, error) {
	var list []ledger.Group
	err := c.call(ctx, "GET", "/v1/blocked", nil, &list)
	return list, err
}

// Terminals lists the machine's terminals.
func (c *Client) Terminals(ctx context.Context) ([]control.TerminalInfo, error) {
	var list []control.TerminalInfo
	err := c.call(ctx, "GET", "/v1/terminals", nil, &list)
	return list, err
}

// OpenTerminal starts a named terminal, if none of that name runs.
func (c *Client) OpenTerminal(ctx context.Context, spec control.TerminalSpec) error {
	return c.call(ctx, "POST", "/v1/terminals", spec, nil)
}

// Control returns the bytes of the machine's control port, on which the agent speaks SSH; see control.NewClient. ctx bounds the dialing alone.
func (c *Client) Control(ctx context.Context) (net.Conn, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	req, err := http.NewRequest("GET", base+"/v1/control", nil)
	if err == nil {
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", ControlProtocol)
		err = req.Write(conn)
	}
	var resp *http.Response
	r := bufio.NewReader(conn)
	if err == nil {
		resp, err = http.ReadResponse(r, req)
	}
	if err == nil && resp.StatusCode != http.StatusSwitchingProtocols {
		err = apiError(resp)
		resp.Body.Close()
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &bufferedConn{conn, r}, nil
}

// bufferedConn reads first what came along with the answer's head. It embeds the interface, not the UnixConn, whose file descriptor io.Copy would
// splice from, past the buffer.
type bufferedConn struct {
	net.Conn
	r *bufio.Reader
}

func (c *bufferedConn) Read(p []byte) (int, error) { return c.r.Read(p) }

// CloseWrite ends this side's bytes.
func (c *bufferedConn) CloseWrite() error { return c.Conn.(*net.UnixConn).CloseWrite() }
