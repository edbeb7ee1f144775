package main

// This file alone speaks to the person. Its rules: what a command answers goes to standard output, everything else to standard error; an error
// is one line and names the next step; colours and moving lines are for terminals only; text that came from a guest is printed
// without control characters.

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	xterm "golang.org/x/term"

	"capsid/app/session"
)

// term is where the person sits.
type term struct {
	in  *os.File
	out io.Writer
	err io.Writer
	// outFile and errFile are out and err where they are files.
	outFile, errFile *os.File
}

func newTerm(in, out, err *os.File) *term {
	return &term{in: in, out: out, err: err, outFile: out, errFile: err}
}

func isTerminal(f *os.File) bool { return f != nil && xterm.IsTerminal(int(f.Fd())) }

// asks reports whether there is somebody to ask.
func (t *term) asks() bool { return isTerminal(t.in) }

// fail prints an error as one line.
func (t *term) fail(err error) {
	msg := oneLine(err.Error())
	hint := session.Hint(err)
	var usage usageError
	if errors.As(err, &usage) && usage.cmd != nil {
		hint = usage.cmd.CommandPath() + " --help"
	}
	if hint != "" && !strings.Contains(msg, hint) {
		msg += " (" + oneLine(hint) + ")"
	}
	fmt.Fprintf(t.err, "capsid: %s\n", msg)
}

// oneLine makes one line of text that may come from anywhere.
func oneLine(s string) string {
	s = strings.Join(strings.FieldsFunc(strings.TrimSpace(s), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
	return plain(s)
}

// plain takes out what would move the cursor or colour the text.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return -1
	}, s)
}

func quote(s string) string { return strconv.Quote(s) }

// note says something beside the command's answer.
func (t *term) note(format string, args ...any) {
	fmt.Fprintf(t.err, format+"\n", args...)
}

// confirm asks a question that has yes or no as its answer; no is the default. It is shown on the terminal itself, wherever the output goes.
func (t *term) confirm(question string) bool {
	var w io.Writer = t.err
	if tty, err := os.OpenFile("/dev/tty", os.O_WRONLY, 0); err == nil {
		defer tty.Close()
		w = tty
	}
	fmt.Fprintf(w, "%s [y/N] ", question)
	line, _ := bufio.NewReader(io.LimitReader(t.in, 1024)).ReadString('\n') // no answer is a no
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true
	}
	return false
}

// json prints an answer for programs.
func (t *term) json(v any) error {
	enc := json.NewEncoder(t.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// table prints rows below a head.
func (t *term) table(head []string, rows [][]string) error {
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{head}, rows...) {
		cells := make([]string, len(row))
		for i, c := range row {
			cells[i] = strings.ReplaceAll(plain(c), "\t", " ")
		}
		fmt.Fprintln(w, strings.TrimRight(strings.Join(cells, "\t"), "\t "))
	}
	return w.Flush()
}

// steps shows the steps of a session's start as they happen: on a terminal each with its time as it runs, else a line when it is done.
func (t *term) steps() func(session.Status) {
	shown := 0       // steps whose last line is printed
	partial := false // a line without its end is on the screen
	live := isTerminal(t.errFile)
	return func(st session.Status) {
		for i := shown; i < len(st.Steps); i++ {
			s := st.Steps[i]
			line := "  " + s.Name
			if s.Detail != "" {
				line += ": " + plain(s.Detail)
			}
			if s.Done {
				line += fmt.Sprintf(" (%s)", short(s.Duration))
			} else if !live {
				return
			}
			if partial {
				fmt.Fprint(t.err, "\r\x1b[K")
			}
			fmt.Fprint(t.err, line)
			partial = !s.Done
			if !s.Done {
				return
			}
			fmt.Fprintln(t.err)
			shown = i + 1
		}
	}
}

// cut shortens a text to n runes.
func cut(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}

// short is a duration as people say it.
func short(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// bytesText is a size as people say it.
func bytesText(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1000*1000:
		return fmt.Sprintf("%.1f kB", float64(n)/1000)
	case n < 1000*1000*1000:
		return fmt.Sprintf("%.1f MB", float64(n)/1000/1000)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1000/1000/1000)
}
