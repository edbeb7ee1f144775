package supervisor

import (
	"strings"
	"unicode"

	"capsid/guest/control"
)

const (
	maxWords = 64  // items of a list that the guest sent
	maxLine  = 200 // runes of one line that the guest sent
)

// cleanLine makes a line of what the guest said: bounded, without anything that moves a cursor.
func cleanLine(s string) string {
	n := 0
	var b strings.Builder
	for _, r := range s {
		if n == maxLine {
			break
		}
		if unicode.IsPrint(r) {
			b.WriteRune(r)
			n++
		}
	}
	return b.String()
}

// defences lists every layer that is in force, the host's first: those are what counts.
func (s *Supervisor) defences() []string {
	list := []string{
		"network: the machine has no network card; every connection and name goes through the proxy in this session's supervisor",
		"secrets: nothing of the host's environment reaches the session",
	}
	if d, ok := s.machine.(interface{ Defences() []string }); ok {
		for _, line := range d.Defences() {
			list = append(list, "machine: "+line)
		}
	}
	if s.share != nil {
		for _, line := range s.share.process.Defences() {
			list = append(list, "share: "+line)
		}
	}
	for _, line := range s.lockdown {
		list = append(list, "guest: "+line)
	}
	return list
}

// cleanLines bounds what the guest said in lines.
func cleanLines(list []string) []string {
	var out []string
	for _, line := range list[:min(len(list), maxWords)] {
		out = append(out, cleanLine(line))
	}
	return out
}

// cleanTerminals bounds what the guest says of its terminals.
func cleanTerminals(list []control.TerminalInfo) []control.TerminalInfo {
	if len(list) > maxWords {
		list = list[:maxWords]
	}
	for i := range list {
		t := &list[i]
		t.Name, t.Title = cleanLine(t.Name), cleanLine(t.Title)
		if len(t.Command) > maxWords {
			t.Command = t.Command[:maxWords]
		}
		for j := range t.Command {
			t.Command[j] = cleanLine(t.Command[j])
		}
	}
	return list
}
