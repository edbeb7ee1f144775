package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"capsid/app/session"
	"capsid/app/terminal/vt"
	"capsid/guest/control"
	"capsid/proxy/ledger"
)

// TestForkGoesOn takes snapshots of one machine in the middle of its work, restores it in place and forks it, and looks whether all that ran goes on in each, as a machine of its
// own. The same session's snapshots are then damaged, and its supervisor is killed while it takes one.
func TestForkGoesOn(t *testing.T) {
	h := newHouse(t)
	out := newHolder(t)
	ws := h.workspace("project")
	st := h.start("parent", "shell", ws, "--policy", h.write("fork.toml", out.policy()), "--cpus", "2", "--memory", "1GiB")
	p := h.steady(st, ws)
	s := h.look(st)
	// t_RK asks the terminal something whose answer this editor, without its +termresponse, takes for keys.
	s.key("printf '\\033[1;32mgreen\\033[0m before\\n'; vi --cmd 'set t_RK=' ~/letter\r")
	s.await("~~~~~~~~")
	s.key("iDear reader,\rthis is ümlaut ")
	s.await("is ümlaut")
	// Each view that comes has the editor paint anew, and all but the first do without its message.
	h.look(st)
	if !s.becomes(func() bool { return !strings.Contains(s.text(), "[New File]") }, patience) {
		t.Fatalf("the editor does not paint anew:\n%s", s.text())
	}
	before := p.identity()
	drawn := map[string]string{"parent": p.ask("draw")}

	n := p.count()
	picture := s.frame()
	h.must("snapshot", "parent", "first")

	// The parent goes on as if nothing had been.
	p.goesOn(n)
	out.finish()
	if got := p.ask("held 1"); got != "whole, then again by parent" {
		t.Errorf("in the parent, what was held ended so: %s", got)
	}
	s.key("that only the parent has")
	s.await("that only the parent has")
	p.ask("note parent, after the first snapshot")
	h.sameFrame("the parent, seen anew", h.look(st), s.frame())

	t.Run("restore", func(t *testing.T) {
		h.must("restore", "parent", "first", "--force", "--detach")
		h := h.in(t)
		p := p.in(h)
		if p.Parent == nil || *p.Parent != (session.SnapshotRef{Session: p.ID, Snapshot: "first"}) {
			t.Errorf("the restored session's parent is %v", p.Parent)
		}
		s := h.look(p.Status)
		h.sameFrame("restored", s, picture)
		p.goesOn(n)
		if got := p.ask("held 1"); got != "ConnectionResetError, then again by parent" {
			t.Errorf("restored, what was held ended so: %s", got)
		}
		p.ask("note parent, restored")
		p.counted("parent")
		if got := p.identity(); got.machine == before.machine || got.boot == before.boot {
			t.Errorf("the restored machine is not one of its own: %+v, before %+v", got, before)
		}
		drawn["restored"] = p.ask("draw")
		if rows := h.rows(p.ID); len(withPath(rows, "/again/parent")) != 2 {
			t.Errorf("the restored session's ledger does not go on:\n%s", describe(rows))
		}
		s.key("and more ")
		s.await("ümlaut and more")
		picture = s.frame()
		before = p.identity()
		n = p.count()
	})

	t.Run("fork", func(t *testing.T) {
		children := h.in(t).fork("parent", "child", 3)
		seen := map[string]string{before.machine: "parent", before.boot: "parent", before.random: "parent"}
		for _, child := range children {
			h := h.in(t)
			c := p.of(h, child)
			if child.Parent == nil || *child.Parent != (session.SnapshotRef{Session: st.ID, Snapshot: "fork-1"}) {
				t.Errorf("the parent of %s is %v", child.Name, child.Parent)
			}
			s := h.look(child)
			h.sameFrame(child.Name, s, picture)
			c.goesOn(n)
			if got := c.ask("held 2"); got != "ConnectionResetError, then again by parent; ConnectionResetError, then again by "+child.Name {
				t.Errorf("in %s, what was held ended so: %s", child.Name, got)
			}
			if got := c.ask("pipe"); got != "whole" {
				t.Errorf("the pipe of %s is %s", child.Name, got)
			}
			c.ask("note " + child.Name)
			id := c.identity()
			if id.host != child.Name || id.etc != child.Name {
				t.Errorf("%s is called %s, and %s in /etc/hostname", child.Name, id.host, id.etc)
			}
			drawn[child.Name] = c.ask("draw")
			for _, own := range []string{id.machine, id.boot, id.random} {
				if other := seen[own]; other != "" {
					t.Errorf("%s and %s are one machine: %s", child.Name, other, own)
				}
				seen[own] = child.Name
			}
			s.key(child.Name + " was here\x1b:wq\r")
			s.await("green before") // the shell's screen, below the editor's
			if got := c.sh("cat ~/letter"); !strings.HasSuffix(got, "this is ümlaut and more "+child.Name+" was here") {
				t.Errorf("the letter of %s: %q", child.Name, got)
			}
			c.sh("curl -sS http://" + heldHost + "/mark/" + child.Name)
		}
		// The others have come up since: each must have gone on alone.
		for _, child := range children {
			c := p.of(h.in(t), child)
			c.counted("parent", child.Name)
			rows := h.rows(child.ID)
			for _, other := range children {
				if got := len(withPath(rows, "/mark/"+other.Name)); (got == 1) != (other.ID == child.ID) {
					t.Errorf("the ledger of %s has %d rows of %s", child.Name, got, other.Name)
				}
			}
			if len(withPath(rows, "/again/parent")) != 0 {
				t.Errorf("the ledger of %s has what its parent did:\n%s", child.Name, describe(rows))
			}
		}
		c := p.in(h.in(t))
		c.goesOn(n)
		if got := c.ask("held 1"); got != "ConnectionResetError, then again by parent" {
			t.Errorf("the fork has disturbed its parent: %s", got)
		}
		if got := c.ask("pipe"); got != "whole" {
			t.Errorf("the parent's pipe is %s", got)
		}
		for name, random := range drawn {
			if other := seen[random]; other != "" {
				t.Errorf("a program draws %s in %s and in %s", random, name, other)
			}
			seen[random] = name
		}
	})

	text, err := os.ReadFile(filepath.Join(ws, "notes"))
	if err != nil {
		t.Fatal(err)
	}
	want := "parent, after the first snapshot\nparent, restored\nchild-1\nchild-2\nchild-3\n"
	if string(text) != want {
		t.Errorf("the file of the workspace that all hold open has %q, want %q", text, want)
	}
	t.Run("damage", func(t *testing.T) { damage(t, h.in(t), st.ID) })
	t.Run("kill", func(t *testing.T) { killAtWork(t, p.in(h.in(t))) })
}

// in is the house for a part of a test.
func (h *house) in(t testing.TB) *house {
	part := *h
	part.t = t
	return &part
}

// fork forks a session and ends its children with the test.
func (h *house) fork(of, name string, count int, more ...string) []session.Status {
	h.t.Helper()
	h.must(append([]string{"fork", of, "--count", strconv.Itoa(count), "--name", name, "--detach"}, more...)...)
	var list []session.Status
	for i := range count {
		child := name
		if count > 1 {
			child = fmt.Sprintf("%s-%d", name, i+1)
		}
		h.t.Cleanup(func() {
			if h.t.Failed() {
				h.tell(child)
			}
			h.must("rm", "--force", child)
		})
		st, err := h.store.Find(child)
		if err != nil {
			h.t.Fatal(err)
		}
		if st.State != session.Running {
			h.t.Fatalf("%s is %s: %s", child, st.State, st.Error)
		}
		list = append(list, st)
	}
	return list
}

// steady is the program testdata/steady.py in a session's machine.
type steady struct {
	h *house
	session.Status
}

func (h *house) steady(st session.Status, ws string) *steady {
	h.t.Helper()
	program, err := os.ReadFile("testdata/steady.py")
	if err != nil {
		h.t.Fatal(err)
	}
	path := filepath.Join(ws, "steady.py")
	if err := os.WriteFile(path, program, 0o644); err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	spec := control.TerminalSpec{Name: "steady", Command: []string{"sh", "-c", `exec python3 "$0" ~ "$1" "$2"`, path, ws, heldHost}, Cols: 80, Rows: 24}
	if err := h.store.Client(st.ID).OpenTerminal(ctx, spec); err != nil {
		h.t.Fatal(err)
	}
	h.lookAt(st, "steady").await("steady")
	return &steady{h, st}
}

// in is the same session as it is now.
func (p *steady) in(h *house) *steady {
	h.t.Helper()
	st, err := h.store.Find(p.ID)
	if err != nil {
		h.t.Fatal(err)
	}
	return &steady{h, st}
}

// of is the program in another session.
func (p *steady) of(h *house, st session.Status) *steady { return &steady{h, st} }

// sh runs a script in the machine.
func (p *steady) sh(script string) string {
	p.h.t.Helper()
	return strings.TrimSpace(p.h.must("run", p.Name, "--", "bash", "-ec", script))
}

// ask sends the program a command.
func (p *steady) ask(command string) string {
	p.h.t.Helper()
	return p.sh("exec 3<>/dev/tcp/127.0.0.1/7070; echo '" + command + "' >&3; cat <&3")
}

func (p *steady) count() int {
	p.h.t.Helper()
	text := p.ask("past 0")
	n, err := strconv.Atoi(text)
	if err != nil {
		p.h.t.Fatalf("the count of %s: %q", p.Name, text)
	}
	return n
}

// goesOn waits until the program has counted further than n.
func (p *steady) goesOn(n int) {
	p.h.t.Helper()
	p.ask("past " + strconv.Itoa(n))
}

// counted reads the program's file from the machine's disk: no number must be missing, and each be written by the machine that had the name at the time.
func (p *steady) counted(names ...string) {
	p.h.t.Helper()
	p.h.must("run", p.Name, "--root", "--", "sh", "-ec", "sync; echo 3 >/proc/sys/vm/drop_caches")
	var order []string
	n := 0
	for line := range strings.Lines(p.sh("cat ~/count")) {
		n++
		number, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		if number != strconv.Itoa(n) {
			p.h.t.Errorf("line %d of the count of %s is %q", n, p.Name, line)
			return
		}
		if len(order) == 0 || order[len(order)-1] != name {
			order = append(order, name)
		}
	}
	if !slices.Equal(order, names) {
		p.h.t.Errorf("in %s it was counted by %q, want %q", p.Name, order, names)
	}
}

// identity is what a machine has of its own.
type identity struct{ host, etc, machine, boot, random string }

// identity asks the machine, and sees that it has both of its processors and the host's time.
func (p *steady) identity() identity {
	p.h.t.Helper()
	begun := time.Now()
	text := p.sh(`for cpu in 0 1; do taskset -c $cpu true; done
hostname; cat /etc/hostname /etc/machine-id /proc/sys/kernel/random/boot_id; head -c 16 /dev/urandom | od -An -tx1 | tr -d ' '; nproc; date +%s`)
	f := strings.Fields(text)
	if len(f) != 7 {
		p.h.t.Fatalf("%s says of itself %q", p.Name, text)
	}
	if f[5] != "2" {
		p.h.t.Errorf("%s has %s processors", p.Name, f[5])
	}
	const apart = 3 * time.Second
	seconds, err := strconv.ParseInt(f[6], 10, 64)
	if now := time.Unix(seconds, 0); err != nil || now.Before(begun.Add(-apart)) || now.After(time.Now().Add(apart)) {
		p.h.t.Errorf("in %s it is %v, on the host it was %v", p.Name, now, begun)
	}
	return identity{f[0], f[1], f[2], f[3], f[4]}
}

func withPath(rows []ledger.Entry, path string) []ledger.Entry {
	return slices.DeleteFunc(slices.Clone(rows), func(e ledger.Entry) bool { return !strings.HasSuffix(e.URL, path) })
}

// frame is what the screen shows, once nothing more comes of what was asked: the caller has awaited that.
func (s *screen) frame() *vt.Frame {
	var f vt.Frame
	s.vt.Snapshot(&f, -1)
	return &f
}

// sameFrame waits until a screen shows the same, cell for cell.
func (h *house) sameFrame(name string, s *screen, want *vt.Frame) {
	h.t.Helper()
	var differ string
	if !s.becomes(func() bool { differ = difference(s.frame(), want); return differ == "" }, patience) {
		h.t.Errorf("the screen of %s: %s; it shows:\n%s", name, differ, s.text())
	}
}

func difference(got, want *vt.Frame) string {
	if got.Cols != want.Cols || got.Rows != want.Rows {
		return fmt.Sprintf("%d×%d, want %d×%d", got.Cols, got.Rows, want.Cols, want.Rows)
	}
	for y := range want.Lines {
		for x, cell := range want.Lines[y].Cells {
			if seen(got.Lines[y].Cells[x]) != seen(cell) {
				return fmt.Sprintf("line %d, column %d is %+v, want %+v", y, x, got.Lines[y].Cells[x], cell)
			}
		}
	}
	if got.Cursor != want.Cursor || got.Modes != want.Modes {
		return fmt.Sprintf("cursor %+v, modes %+v; want %+v, %+v", got.Cursor, got.Modes, want.Cursor, want.Modes)
	}
	return ""
}

// seen is a cell as it looks: one that was erased is a blank.
func seen(c vt.Cell) vt.Cell {
	if c.Rune == 0 && c.Width == 1 {
		c.Rune = ' '
	}
	return c
}

// heldHost is the name of a holder.
const heldHost = "held.test"

// holder is a host outside that begins answers and keeps them.
type holder struct {
	server *httptest.Server
	ends   chan struct{}
}

func newHolder(t testing.TB) *holder {
	o := &holder{ends: make(chan struct{})}
	o.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/held" {
			fmt.Fprint(w, strings.Replace(strings.TrimPrefix(r.URL.Path, "/"), "/", " by ", 1))
			return
		}
		fmt.Fprint(w, "begun")
		http.NewResponseController(w).Flush()
		select {
		case <-o.ends:
			fmt.Fprint(w, "whole")
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() {
		o.server.CloseClientConnections()
		o.server.Close()
	})
	return o
}

// finish ends the answer that is held.
func (o *holder) finish() { o.ends <- struct{}{} }

func (o *holder) policy() string {
	return fmt.Sprintf("[network]\nallow = [%q]\n\n[network.upstream.\"%s:80\"]\naddress = %q\n", heldHost, heldHost, o.server.Listener.Addr())
}
