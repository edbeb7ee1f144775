package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"sync"

	"github.com/coder/websocket"
)

// TerminalConn is one view of a named terminal: Read its output, Write what is typed. Closing it leaves the terminal running.
type TerminalConn struct {
	ctx    context.Context
	cancel context.CancelFunc
	ws     *websocket.Conn
	exit   chan int
	once   sync.Once
	rest   []byte // read, not yet handed out; used by Read alone
}

// errTerminalGone: the WebSocket ended without the program's status.
var errTerminalGone = errors.New("the terminal's connection was lost")

// maxMessage bounds one message of a terminal; the supervisor's are far smaller.
const maxMessage = 1 << 20

// Terminal attaches to a named terminal, with its recent output first. The main terminal is started with the agent's command if it does not run.
// ctx bounds the dialing alone.
func (c *Client) Terminal(ctx context.Context, name string, cols, rows int) (*TerminalConn, error) {
	q := url.Values{"cols": {strconv.Itoa(cols)}, "rows": {strconv.Itoa(rows)}}
	if name == MainTerminal {
		q.Set("start", "1")
	}
	ws, resp, err := websocket.Dial(ctx, base+"/v1/terminals/"+url.PathEscape(name)+"?"+q.Encode(), &websocket.DialOptions{HTTPClient: c.http})
	if err != nil {
		if resp != nil && resp.StatusCode >= 400 {
			return nil, apiError(resp)
		}
		return nil, unwrapURL(err)
	}
	ws.SetReadLimit(maxMessage)
	t := &TerminalConn{ws: ws, exit: make(chan int, 1)}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t, nil
}

// Read returns output. io.EOF means that the program has ended (Exit has its status) or that the connection was closed.
func (t *TerminalConn) Read(p []byte) (int, error) {
	for len(t.rest) == 0 {
		kind, data, err := t.ws.Read(t.ctx)
		if err != nil {
			if t.ctx.Err() != nil || websocket.CloseStatus(err) == websocket.StatusNormalClosure {
				return 0, io.EOF
			}
			return 0, fmt.Errorf("%w: %w", errTerminalGone, err)
		}
		if kind == websocket.MessageBinary {
			t.rest = data
			continue
		}
		var m TerminalMessage
		if json.Unmarshal(data, &m) == nil && m.Exit != nil {
			t.once.Do(func() { t.exit <- *m.Exit })
		}
	}
	n := copy(p, t.rest)
	t.rest = t.rest[n:]
	return n, nil
}

// Write sends what was typed.
func (t *TerminalConn) Write(p []byte) (int, error) {
	for sent := 0; sent < len(p); {
		// Far below the supervisor's limit for one message.
		n := min(len(p)-sent, 16<<10)
		if err := t.ws.Write(t.ctx, websocket.MessageBinary, p[sent:sent+n]); err != nil {
			return sent, err
		}
		sent += n
	}
	return len(p), nil
}

// Resize tells the terminal how large this view is.
func (t *TerminalConn) Resize(cols, rows int) error {
	data, err := json.Marshal(TerminalMessage{Resize: &Size{Cols: cols, Rows: rows}})
	if err != nil {
		return err
	}
	return t.ws.Write(t.ctx, websocket.MessageText, data)
}

// Exit receives the program's status once, when it ends while somebody Reads. It is never closed.
func (t *TerminalConn) Exit() <-chan int { return t.exit }

// Close ends this view.
func (t *TerminalConn) Close() error {
	t.cancel()
	return t.ws.CloseNow()
}
