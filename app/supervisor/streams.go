package supervisor

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/coder/websocket"

	"capsid/app/session"
	"capsid/guest/control"
)

// control joins the request's connection with a stream to the machine's control port.
func (a *api) control(w http.ResponseWriter, r *http.Request) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), session.ControlProtocol) {
		reply(w, nil, &session.Error{Message: "ask with Upgrade: " + session.ControlProtocol})
		return
	}
	guest, err := a.engine.DialControl(r.Context())
	if err != nil {
		reply(w, nil, err)
		return
	}
	defer guest.Close()
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		reply(w, nil, err)
		return
	}
	defer conn.Close()
	io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+session.ControlProtocol+"\r\n\r\n")
	stop := context.AfterFunc(a.ended, func() {
		conn.Close()
		guest.Close()
	})
	defer stop()
	join(conn, rw.Reader, guest)
}

// join copies both ways and passes on the end of each way by itself.
func join(conn net.Conn, buffered *bufio.Reader, guest interface {
	io.ReadWriter
	CloseWrite() error
	Close() error
}) {
	var both sync.WaitGroup
	both.Go(func() {
		io.Copy(guest, buffered)
		guest.CloseWrite()
	})
	io.Copy(conn, guest)
	if u, ok := conn.(interface{ CloseWrite() error }); ok {
		u.CloseWrite()
	}
	// SSH is over when the agent's side is: the client has nothing left to say.
	conn.Close()
	guest.Close()
	both.Wait()
}

func (a *api) openTerminal(w http.ResponseWriter, r *http.Request) {
	var spec control.TerminalSpec
	if !body(w, r, &spec) {
		return
	}
	if spec.Cols <= 0 || spec.Rows <= 0 {
		spec.Cols, spec.Rows = 80, 24
	}
	t, err := a.engine.Terminal(r.Context(), spec, false)
	if err == nil {
		t.Close() // the terminal runs on
	}
	reply(w, struct{}{}, err)
}

// terminal joins a WebSocket with a view of a terminal.
func (a *api) terminal(w http.ResponseWriter, r *http.Request) {
	spec := control.TerminalSpec{Name: r.PathValue("name"), Cols: 80, Rows: 24}
	if n, err := strconv.ParseUint(r.FormValue("cols"), 10, 12); err == nil && n > 0 {
		spec.Cols = int(n)
	}
	if n, err := strconv.ParseUint(r.FormValue("rows"), 10, 12); err == nil && n > 0 {
		spec.Rows = int(n)
	}
	t, err := a.engine.Terminal(r.Context(), spec, r.FormValue("start") == "1")
	if err != nil {
		reply(w, nil, err)
		return
	}
	defer t.Close()
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // it has answered
	}
	defer ws.CloseNow()
	ws.SetReadLimit(maxBody)
	ctx, cancel := context.WithCancel(a.ended)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { t.Close() })
	defer stop()
	var typing sync.WaitGroup
	defer typing.Wait()
	defer cancel() // ends the reading below
	typing.Go(func() {
		typed(ctx, ws, t)
		cancel()
	})

	buf := make([]byte, 32<<10)
	for {
		n, err := t.Read(buf)
		if n > 0 && ws.Write(ctx, websocket.MessageBinary, buf[:n]) != nil {
			return
		}
		if err != nil {
			break
		}
	}
	code, ok := <-t.Exit()
	if !ok {
		return
	}
	if data, err := json.Marshal(session.TerminalMessage{Exit: &code}); err == nil {
		ws.Write(ctx, websocket.MessageText, data)
	}
	ws.Close(websocket.StatusNormalClosure, "")
}

// typed passes on what the client types and how large it is, until it goes.
func typed(ctx context.Context, ws *websocket.Conn, t terminal) {
	for {
		kind, data, err := ws.Read(ctx)
		if err != nil {
			return
		}
		if kind == websocket.MessageBinary {
			if _, err := t.Write(data); err != nil {
				return
			}
			continue
		}
		var m session.TerminalMessage
		if json.Unmarshal(data, &m) == nil && m.Resize != nil && m.Resize.Cols > 0 && m.Resize.Rows > 0 {
			t.Resize(m.Resize.Cols, m.Resize.Rows)
		}
	}
}
