package ui

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/fyne/v2/widget"

	"capsid/app/session"
	"capsid/app/ui/traffic"
	"capsid/proxy/ledger"
)

func TestNewSessionShowsItsStepsThenItsTerminal(t *testing.T) {
	f := newStandIn()
	f.hold = make(chan struct{})
	b := newBench(t, f)
	dir := t.TempDir()
	b.tap("button", "New Codex")
	b.until("the dialog is there", func() bool { return b.shows("text", "New Codex") })
	entry := b.entry("folder")
	entry.SetText(dir + "/")
	f.client("000000a1").noTerminal = errors.New("no terminal here")
	b.tap("button", "Start")
	b.until("all steps are shown", func() bool { return b.shows("text", "step set up guest") })
	if len(b.w.dialogs) != 0 {
		t.Error("the dialog is still there")
	}
	if s := b.w.current(); s == nil || s.st.State != session.Starting || b.w.win.Title() != "codex-1 – Capsid" {
		t.Errorf("in front: %+v, title %q", s, b.w.win.Title())
	}
	close(f.hold)
	b.until("it runs", func() bool { return b.w.current().st.State == session.Running && b.w.active.view == "terminal" })
	o := f.started[0]
	if o.Agent != "codex" || o.Workspace != dir || o.Supervised || o.AcceptWide || o.Access != "" {
		t.Errorf("started with %+v", o)
	}
	if got := b.w.memory.State().Recent; len(got) != 1 || got[0] != dir {
		t.Errorf("recent folders %v", got)
	}
}

// What runs the machine can be chosen where there is a choice, and is left alone otherwise.
func TestBackendIsChosen(t *testing.T) {
	f := newStandIn()
	b := newBench(t, f)
	machine := func() *widget.Select {
		for i := len(b.w.probe.items) - 1; i >= 0; i-- {
			if s, ok := b.w.probe.items[i].obj.(*widget.Select); ok {
				return s
			}
		}
		return nil
	}
	open := func() {
		t.Helper()
		b.tap("button", "New Shell")
		b.until("the dialog is there", func() bool { return b.shows("text", "New Shell") })
	}
	f.mu.Lock()
	f.usable = []Backend{{"kvm", "kvm-amd, Linux 6.12"}, {"soft", "QEMU 9.1.0, TCG"}}
	f.mu.Unlock()
	open()
	if machine() != nil {
		t.Error("a choice of one")
	}
	// The dialog has looked anew.
	b.until("the window knows of both", func() bool { return len(b.w.backends.Usable) == 2 })
	b.tap("button", "Cancel")
	open()
	if s := machine(); s == nil || !b.shows("entry", "machine") || s.SelectedIndex() != 0 {
		t.Fatalf("no choice: %s", b.shown())
	}
	b.tap("button", "Start")
	b.until("it has started", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return len(f.started) == 1 })
	b.until("it runs", func() bool { return b.w.current() != nil && b.w.current().st.State == session.Running })
	if got := b.w.status.backing; !strings.Contains(got, "soft: QEMU 9.1.0") || !strings.Contains(got, "not kvm: /dev/kvm is absent") {
		t.Errorf("status line: %q", got)
	}
	open()
	machine().SetSelectedIndex(2)
	b.tap("button", "Start")
	b.until("another has started", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return len(f.started) == 2 })
	if f.started[0].Backend != "" || f.started[1].Backend != "soft" {
		t.Errorf("started on %q and %q", f.started[0].Backend, f.started[1].Backend)
	}
}

func (b *bench) entry(name string) *lineEntry {
	b.t.Helper()
	for i := len(b.w.probe.items) - 1; i >= 0; i-- {
		if e, ok := b.w.probe.items[i].obj.(*lineEntry); ok && b.w.probe.items[i].name() == name {
			return e
		}
	}
	b.t.Fatalf("no entry %q", name)
	return nil
}

func TestFailedStartTellsWhyAndStaysReadable(t *testing.T) {
	f := newStandIn()
	f.startErr = &session.Error{Message: "the machine did not boot", Hint: "capsid doctor"}
	b := newBench(t, f)
	b.w.start(f.agents[0], session.StartOptions{Agent: "claude", Workspace: "/tmp"})
	b.until("the failure is told", func() bool { return b.shows("text", "claude-1 could not start") })
	if !b.shows("text", "the machine did not boot") || !b.shows("button", "Try again") || !b.shows("button", "Copy") {
		t.Errorf("shown: %s", b.shown())
	}
	b.tap("button", "Close")
	b.w.reload() // the store knows nothing of it; the tab stays for reading
	b.pump()
	if len(b.w.panes) != 1 || b.w.active.s.st.State != session.Failed {
		t.Fatalf("%d tabs", len(b.w.panes))
	}
	if text := failureText(b.w.active.s.st); !strings.Contains(text, "Kernel panic") || !strings.Contains(text, "capsid doctor") {
		t.Errorf("to be copied: %s", text)
	}
	b.tap("button", "Close tab")
	b.w.reload()
	b.until("it is forgotten", func() bool { return len(b.w.order) == 0 })
}

func TestStartCanBeCancelled(t *testing.T) {
	f := newStandIn()
	f.hold = make(chan struct{})
	b := newBench(t, f)
	b.w.start(f.agents[3], session.StartOptions{Agent: "shell"})
	b.tap("button", "Cancel")
	b.until("nothing is left of it", func() bool { return len(b.w.panes) == 0 && len(b.w.order) == 0 })
	if len(b.w.dialogs) != 0 {
		t.Errorf("a cancelled start is told as a failure: %s", b.shown())
	}
}

func TestMissingImageIsOffered(t *testing.T) {
	f := newStandIn()
	f.noImage, f.stepTime = true, 30*time.Millisecond
	b := newBench(t, f)
	b.until("the welcome tells of it", func() bool { return b.shows("button", "Build the image now") })
	b.w.start(f.agents[3], session.StartOptions{Agent: "shell"})
	b.tap("button", "Build it")
	b.until("it is being built", func() bool { return b.shows("text", "Building the image") })
	b.tap("button", "Cancel")
	b.until("the building has ended", func() bool { return len(b.w.dialogs) == 0 })
	if len(f.started) != 0 {
		t.Fatal("a session was started without an image")
	}
	b.w.start(f.agents[3], session.StartOptions{Agent: "shell"})
	b.tap("button", "Build it")
	b.until("the session starts by itself afterwards", func() bool { return b.w.current() != nil })
}

func TestWideFolderIsAskedFor(t *testing.T) {
	f := newStandIn()
	f.startErr = &session.Error{Message: "/ holds far more than one project", Err: session.ErrWide}
	b := newBench(t, f)
	f.refuseEarly = true
	b.w.start(f.agents[0], session.StartOptions{Agent: "claude", Workspace: "/"})
	b.until("it asks", func() bool { return b.shows("button", "Share it read-only") })
	f.mu.Lock()
	f.startErr = nil
	f.mu.Unlock()
	b.tap("button", "Share it read-only")
	b.until("it starts", func() bool { return b.w.current() != nil })
	if !f.started[1].AcceptWide {
		t.Error("the answer was not handed on")
	}
}

func TestAllowTakesEffectAndShowsIt(t *testing.T) {
	b, c := withSession(t)
	c.ask(ledger.Entry{Kind: ledger.HTTP, Method: "GET", Host: "a.example.com", Port: 443, URL: "https://a.example.com/x", Status: 403, Done: true, Decision: ledger.Ask, Process: "curl"})
	c.ask(ledger.Entry{Kind: ledger.HTTP, Method: "GET", Host: "b.example.com", Port: 8443, URL: "https://b.example.com/x", Status: 403, Done: true, Decision: ledger.Ask})
	b.tap("tab", "Blocked 1")
	b.tap("button", "example.com: Allow for this session")
	b.until("the card says so", func() bool { return b.shows("card", "example.com ✓ Allowed for this session") })
	b.until("the badge is gone", func() bool { return b.w.egress.heads[pageBlocked].badge == 0 })
	var got []string
	c.mu.Lock()
	for _, d := range c.decided {
		got = append(got, d.Action+" "+d.Host+" "+d.Scope)
	}
	c.mu.Unlock()
	if fmt.Sprint(got) != "[allow b.example.com:8443 session allow a.example.com session]" && fmt.Sprint(got) != "[allow a.example.com session allow b.example.com:8443 session]" {
		t.Errorf("decided %v", got)
	}
	if b.shows("button", "example.com: Allow") {
		t.Error("what is decided can be decided again")
	}
	b.tap("button", "example.com: Undo")
	b.until("the other way is decided", func() bool { return b.shows("card", "example.com ✓ Blocked for this session") })
}

func TestDecisionThatFailedIsTold(t *testing.T) {
	b, c := withSession(t)
	c.ask(ledger.Entry{Kind: ledger.HTTP, Host: "a.example.com", Port: 443, Decision: ledger.Ask, Done: true})
	b.tap("tab", "Blocked 1")
	c.mu.Lock()
	c.fail = errors.New("corp.toml allows no decisions of your own")
	c.mu.Unlock()
	b.tap("button", "example.com: Always")
	b.until("the card says so", func() bool { return b.shows("card", "example.com not decided: corp.toml") })
	if !b.shows("button", "example.com: Allow for this session") {
		t.Error("it cannot be tried again")
	}
}

func TestPrivateAddressesHaveNoAllowButton(t *testing.T) {
	b, c := withSession(t)
	c.ask(ledger.Entry{Kind: ledger.HTTP, Host: "169.254.169.254", Port: 80, Decision: ledger.Block, Done: true})
	b.tap("tab", "Blocked 1")
	b.until("the card is there", func() bool { return b.shows("card", "169.254.169.254") })
	for _, e := range b.w.probe.dump(b.w.win.Canvas(), nil) {
		if strings.Contains(e.Name, "Allow") || strings.Contains(e.Name, "Always") || strings.Contains(e.Name, "Project") {
			t.Errorf("there is a %s %q", e.Role, e.Name)
		}
	}
	// Not even by a call: the patterns to allow are none.
	if p := traffic.Patterns(c.groups[0], "allow"); len(p) != 0 {
		t.Errorf("allow would decide %v", p)
	}
}

func TestAlwaysIsNeverTheLoudButton(t *testing.T) {
	b, _ := withSession(t)
	k := newCard(b.w)
	if k.session.look != loud || k.always.look != quiet || k.project.look == loud || k.block.look == loud {
		t.Error("the narrowest decision must be the loudest button")
	}
}

func TestStormOfRequestsIsDrawnAFewTimes(t *testing.T) {
	b, c := withSession(t)
	before := b.ran
	const n = 20000
	for i := range n {
		c.ask(ledger.Entry{Kind: ledger.HTTP, Method: "GET", Host: fmt.Sprintf("h%d.example.com", i%50), Port: 443, URL: "https://x.example.com/", Status: 200, Done: true, Decision: ledger.Allow})
		if i%500 == 0 {
			b.pump()
		}
	}
	s := b.w.current()
	b.until("the last is known", func() bool { return s.traffic.Last() == n })
	b.until("the last is shown", func() bool {
		rows := b.w.egress.live.rows
		return len(rows) > 0 && rows[len(rows)-1].ID == n
	})
	if len(b.w.egress.live.rows) > traffic.DefaultRows {
		t.Errorf("%d rows are kept", len(b.w.egress.live.rows))
	}
	if drawn := b.ran - before; drawn > n/20 {
		t.Errorf("%d calls on the UI goroutine for %d rows", drawn, n)
	}
}

func TestLostEventsAreFetched(t *testing.T) {
	b, c := withSession(t)
	c.ask(ledger.Entry{Kind: ledger.HTTP, Host: "a.example", Decision: ledger.Allow, Done: true})
	c.mu.Lock()
	for i := int64(2); i < 10; i++ {
		c.rows = append(c.rows, ledger.Entry{ID: i, Kind: ledger.HTTP, Host: "lost.example", Decision: ledger.Allow, Done: true})
	}
	c.mu.Unlock()
	c.ask(ledger.Entry{Kind: ledger.HTTP, Host: "b.example", Decision: ledger.Allow, Done: true})
	b.until("all rows are shown", func() bool { return len(b.w.egress.live.rows) == 10 })
}

func TestDetailsOfARow(t *testing.T) {
	b, c := withSession(t)
	c.ask(ledger.Entry{Kind: ledger.HTTP, Method: "POST", Host: "a.example", Port: 443, URL: "https://a.example/x?y=1", Status: 200, Done: true, Decision: ledger.Allow, Rule: "a.example",
		Source: "user.toml:3", Reason: "listed", Process: "node", Sent: 12, Received: 3400, Duration: time.Second})
	b.until("the row is shown", func() bool { return b.shows("row", "allowed POST a.example/x?y=1 200") })
	b.w.egress.live.list.Select(0)
	text := fmt.Sprint(liveDetail(b.w.egress.live.rows[0]))
	for _, want := range []string{"https://a.example/x?y=1", "allowed by a.example (user.toml:3)", "listed", "node", "3.4 kB", "1.0 s"} {
		if !strings.Contains(text, want) {
			t.Errorf("the details lack %q: %s", want, text)
		}
	}
	if !b.w.egress.live.detail.Visible() {
		t.Error("the details are not shown")
	}
}

func TestRemoveAsksFirst(t *testing.T) {
	b, _ := withSession(t)
	b.w.askRemove(b.w.current())
	b.tap("button", "Cancel")
	if len(b.f.removed) != 0 {
		t.Fatal("removed without a yes")
	}
	b.w.askRemove(b.w.current())
	b.tap("button", "Remove")
	b.until("it is gone with its tab", func() bool { return len(b.w.order) == 0 && len(b.w.panes) == 0 })
	if !b.shows("button", "Start Claude") {
		t.Errorf("no welcome: %s", b.shown())
	}
}

func TestStopAsksFirst(t *testing.T) {
	b, c := withSession(t)
	b.w.askStop(b.w.current())
	b.tap("button", "Stop")
	b.until("the supervisor is asked", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return slices.Contains(c.calls, "kill")
	})
}

func TestClosingTheWindowLeavesSessionsAlone(t *testing.T) {
	b, c := withSession(t)
	b.w.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := b.w.Wait(ctx); err != nil {
		t.Fatal("goroutines of the window outlive it")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.calls) != 0 || len(b.f.removed) != 0 {
		t.Errorf("closing the window did %v, %v", c.calls, b.f.removed)
	}
}

func TestEndedSessionSaysSo(t *testing.T) {
	b, _ := withSession(t)
	st := running("00000001", "claude-1")
	st.State, st.Error, st.Hint, st.Console = session.Failed, "the machine crashed", "capsid rm claude-1", []string{"panic"}
	b.f.put(st)
	b.until("it is told", func() bool { return b.shows("text", "claude-1 has failed") })
}

func TestBellInABackTab(t *testing.T) {
	b, _ := withSession(t)
	other := running("00000002", "gemini-1")
	b.f.client("00000002").noTerminal = errors.New("no terminal here")
	b.f.put(other)
	b.until("both are listed", func() bool { return len(b.w.order) == 2 })
	back := b.w.active
	b.w.openSession("00000002")
	b.w.rang(back, "", "")
	if !back.tab.bell || !back.s.bell {
		t.Error("a bell in a back tab is not marked")
	}
	b.w.rang(b.w.active, "", "")
	if b.w.active.tab.bell {
		t.Error("what is in front of the person's eyes is marked")
	}
	b.w.selectPane(back)
	if back.tab.bell || back.s.bell {
		t.Error("the mark stays after a look")
	}
}

func TestKeysAreTakenOnce(t *testing.T) {
	b, _ := withSession(t)
	seen := map[string]string{}
	for _, m := range b.w.win.MainMenu().Items {
		for _, it := range m.Items {
			k, ok := it.Shortcut.(*desktop.CustomShortcut)
			if !ok {
				continue
			}
			if other := seen[k.ShortcutName()]; other != "" {
				t.Errorf("%s is both %q and %q", k.ShortcutName(), other, it.Label)
			}
			seen[k.ShortcutName()] = it.Label
		}
	}
	if len(seen) < 15 {
		t.Errorf("%d keys", len(seen))
	}
}

func TestProbe(t *testing.T) {
	b, _ := withSession(t)
	path := filepath.Join(t.TempDir(), "p")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- b.w.ServeProbe(l) }()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintln(conn)
	got := make(chan []Element, 1)
	go func() {
		var list []Element
		json.NewDecoder(conn).Decode(&list)
		got <- list
	}()
	var list []Element
	b.until("the probe answers", func() bool {
		select {
		case list = <-got:
			return true
		default:
			return false
		}
	})
	i := slices.IndexFunc(list, func(e Element) bool { return e.Role == "button" && e.Name == "New Claude" })
	if i < 0 || list[i].Width < 50 || list[i].Y < 5 {
		t.Errorf("told: %+v", list)
	}
	l.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestMenuOfASession(t *testing.T) {
	b, c := withSession(t)
	choose := func(label string) {
		t.Helper()
		for _, it := range b.w.menuOf(b.w.current()).Items {
			if it.Label == label && !it.Disabled {
				it.Action()
				b.pump()
				return
			}
		}
		t.Fatalf("%q is not offered", label)
	}
	b.w.sidebar.rows["00000001"].TappedSecondary(&fyne.PointEvent{AbsolutePosition: fyne.NewPos(100, 300)})
	if b.w.win.Canvas().Overlays().Top() == nil {
		t.Error("the other mouse button shows no menu")
	}
	b.w.win.Canvas().Overlays().Top().Hide()
	choose("Copy the ssh command")
	if got := b.w.app.Clipboard().Content(); got != "capsid ssh claude-1" {
		t.Errorf("on the clipboard: %q", got)
	}
	choose("Pause")
	b.until("the supervisor is asked", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return slices.Contains(c.calls, "pause")
	})
	choose("Remove…")
	b.tap("button", "Cancel")
	if len(b.f.removed) != 0 {
		t.Error("removed without a yes")
	}
}

func TestSubfolders(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"b", "A", ".hidden", "ab"} {
		mkdir(t, filepath.Join(dir, d))
	}
	for prefix, want := range map[string]string{"": "[A ab b]", "a": "[ab]", ".": "[.hidden]", "zz": "[]"} {
		if got := fmt.Sprint(subfolders(dir, prefix)); got != want {
			t.Errorf("below %q: %s, want %s", prefix, got, want)
		}
	}
	if got := subfolders(filepath.Join(dir, "none"), ""); got != nil {
		t.Errorf("a folder that is missing has %v", got)
	}
}

func mkdir(t *testing.T, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
}
