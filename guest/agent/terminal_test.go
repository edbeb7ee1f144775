//go:build linux

package agent

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"capsid/guest/control"
)

func attach(t *testing.T, c *control.Client, spec control.TerminalSpec) *control.Terminal {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	term, err := c.Terminal(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = term.Close() })
	return term
}

func exitOf(t *testing.T, term *control.Terminal) int {
	t.Helper()
	select {
	case code, ok := <-term.Exit():
		if !ok {
			t.Fatal("the terminal ended without a status")
		}
		return code
	case <-time.After(time.Minute):
		t.Fatal("the terminal does not end")
		return 0
	}
}

func TestTerminal(t *testing.T) {
	b, c := ready(t)
	spec := control.TerminalSpec{
		Name: "agent", Cols: 90, Rows: 20, Env: []string{"EXTRA=e"},
		Command: sh(`printf '\033]0;\342\234\263 title\007\033[c'; echo $TERM $COLORTERM $EXTRA $SESSION; stty size; while read x; do echo got $x; [ $x = quit ] && exit 6; done`),
	}
	if _, err := c.Terminal(t.Context(), control.TerminalSpec{Name: "agent"}); err == nil || !strings.Contains(err.Error(), "no terminal is named") {
		t.Errorf("got %v", err)
	}
	one := attach(t, c, spec)
	got := expect(t, one, "20 90\r\n")
	if !strings.Contains(got, "xterm-256color truecolor e yes\r\n") || !strings.Contains(got, "\x1b[c") {
		t.Errorf("got %q", got)
	}
	_, _ = io.WriteString(one, "a\n")
	expect(t, one, "got a\r\n")

	// It survives the connection, and a second client sees what was written, without the question.
	_ = c.Close()
	c = b.client()
	two := attach(t, c, control.TerminalSpec{Name: "agent"})
	got = expect(t, two, "got a\r\n")
	if strings.Contains(got, "\x1b[c") || !strings.Contains(got, "\x1b]0;✳ title\a") {
		t.Errorf("replayed %q", got)
	}
	three := attach(t, c, spec) // it runs, so its command is not started again
	expect(t, three, "got a\r\n")
	_, _ = io.WriteString(three, "b\n")
	expect(t, two, "got b\r\n")
	list, err := c.Terminals(t.Context())
	if err != nil || len(list) != 1 || !list[0].Running || list[0].Title != "✳ title" || list[0].Clients < 2 || list[0].Command[0] != "sh" {
		t.Errorf("list: %+v, %v", list, err)
	}

	_, _ = io.WriteString(two, "quit\n")
	for _, x := range []*control.Terminal{two, three} {
		if code := exitOf(t, x); code != 6 {
			t.Errorf("exit %d", code)
		}
	}
	list, err = c.Terminals(t.Context())
	if err != nil || len(list) != 1 || list[0].Running || list[0].ExitCode != 6 {
		t.Errorf("list: %+v, %v", list, err)
	}
	// What it wrote last can still be read, and its name be used again.
	last := attach(t, c, control.TerminalSpec{Name: "agent"})
	if all, err := io.ReadAll(last); !strings.Contains(string(all), "got quit\r\n") || err != nil {
		t.Errorf("got %q, %v", all, err)
	}
	if code := exitOf(t, last); code != 6 {
		t.Errorf("exit %d", code)
	}
	again := attach(t, c, control.TerminalSpec{Name: "agent", Command: sh("echo anew; kill -KILL $$"), Cols: 80, Rows: 24})
	all, err := io.ReadAll(again)
	if string(all) != "anew\r\n" || err != nil {
		t.Errorf("got %q, %v", all, err)
	}
	if code := exitOf(t, again); code != 137 {
		t.Errorf("exit %d", code)
	}
}

func TestTerminalSize(t *testing.T) {
	_, c := ready(t)
	spec := control.TerminalSpec{Name: "s", Cols: 90, Rows: 20, Command: sh("trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done")}
	one := attach(t, c, spec)
	expect(t, one, "ready\r\n")
	if err := one.Resize(70, 30); err != nil {
		t.Fatal(err)
	}
	expect(t, one, "30 70\r\n")
	spec.Cols, spec.Rows = 60, 40
	two := attach(t, c, spec)
	expect(t, two, "40 60\r\n")
	// The same size again: the program is told all the same, so that it paints.
	three := attach(t, c, spec)
	expect(t, three, "40 60\r\n")
	expect(t, three, "40 60\r\n")
}

func TestSlowClient(t *testing.T) {
	_, c := ready(t)
	spec := control.TerminalSpec{
		Name: "flood", Cols: 80, Rows: 24,
		Command: sh("read x; i=0; head -c 20000000 /dev/zero | tr '\\0' 'z' | fold -w 79; echo; echo the end; read x"),
	}
	slow := attach(t, c, spec) // reads nothing at first
	fast := attach(t, c, spec)
	_, _ = io.WriteString(fast, "\n")
	expectEnd(t, fast, "the end\r\n")
	// The slow one is brought up to date by a fresh start.
	got := expectEnd(t, slow, "the end\r\n")
	if got >= 20_000_000 {
		t.Errorf("the slow client got %d bytes", got)
	}
	list, err := c.Terminals(t.Context())
	if err != nil || !list[0].Running {
		t.Errorf("list: %+v, %v", list, err)
	}
}

// expectEnd reads until it has seen want, and returns how much that was.
func expectEnd(t *testing.T, r *control.Terminal, want string) int {
	t.Helper()
	timer := time.AfterFunc(2*time.Minute, func() { _ = r.Close() })
	defer timer.Stop()
	var tail []byte
	total := 0
	buf := make([]byte, 32<<10)
	for !strings.Contains(string(tail), want) {
		n, err := r.Read(buf)
		total += n
		tail = append(tail, buf[:n]...)
		tail = tail[max(0, len(tail)-2*len(buf)):]
		if err != nil {
			t.Fatalf("%v after %d bytes, %.100q", err, total, tail)
		}
	}
	return total
}
