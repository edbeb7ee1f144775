package mitm

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"capsid/proxy/ledger"
	"capsid/proxy/policy"
)

// notice is what a program in the machine reads in place of a response, as text or as JSON.
type notice struct {
	status   int
	Decision ledger.Decision `json:"decision,omitempty"` // empty: nothing was refused, it failed
	Host     string          `json:"host"`
	Port     int             `json:"port"`
	Method   string          `json:"method"`
	URL      string          `json:"url"`
	Rule     string          `json:"rule,omitempty"`
	Source   string          `json:"source,omitempty"`
	Reason   string          `json:"reason,omitempty"`
	// Allow is the command with which a person can allow it, on the host; empty where a click cannot.
	Allow   string `json:"allow,omitempty"`
	HowTo   string `json:"how_to_allow,omitempty"`
	Session string `json:"session"`
}

func (s *Server) notice(r *http.Request, c *guestConn, status int) *notice {
	return &notice{status: status, Host: c.host, Port: c.port, Method: text(r.Method, 32), URL: rowURL(c, r.URL), Session: s.cfg.Session}
}

// refuse answers a request that is not carried, and records it.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, c *guestConn, status int, v policy.Verdict, start time.Time) {
	d := s.notice(r, c, status)
	d.Decision, d.Rule, d.Source, d.Reason = v.Decision, v.Rule, v.Source, v.Reason
	if status == http.StatusForbidden && !c.unbound {
		s.howToAllow(d)
	}
	d.write(w, r.Header.Get("Accept"))
	e := s.entry(r, c, v, start)
	e.Status, e.Done, e.Duration = status, true, time.Since(start)
	s.cfg.Refused.Add(e)
}

// howToAllow follows policy's order: what is clicked comes before the default and after the lists and rules that refuse.
func (s *Server) howToAllow(d *notice) {
	host := d.Host
	if d.Port != 80 && d.Port != 443 {
		host = net.JoinHostPort(d.Host, strconv.Itoa(d.Port))
	}
	clickable := d.Decision == ledger.Ask || d.Rule == "default" || strings.Contains(d.Source, "decisions.toml")
	switch {
	case s.cfg.Locked():
		d.HowTo = "The policy is locked by corp.toml: only the organisation that wrote it can allow this."
	case policy.IsPrivateHost(d.Host) || d.Source == "built in" && d.Rule != "default":
		d.HowTo = "No click can allow it: only a rule in the person's user.toml that names this very address can."
	case clickable:
		d.Allow = "capsid allow " + host + " --session " + s.cfg.Session
		d.HowTo = "A person can allow it, on the host and not in this machine: in the Blocked tab of the Capsid window, or with the command\n\n    " + d.Allow + "\n\nThen try again."
	default:
		d.HowTo = "A person can allow it by changing that rule in " + d.Source + ", on the host and not in this machine. Then try again."
	}
}

// write sends the notice: JSON when that is asked for, else text.
func (d *notice) write(w http.ResponseWriter, accept string) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if d.Decision != "" {
		h.Set("Capsid-Decision", string(d.Decision))
	}
	var body []byte
	if strings.Contains(strings.ToLower(accept), "json") {
		h.Set("Content-Type", "application/json")
		body = d.json()
	} else {
		h.Set("Content-Type", "text/plain; charset=utf-8")
		body = []byte(d.text())
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(d.status)
	w.Write(body)
}

// headline is one sentence: what happened to which request.
func (d *notice) headline() string {
	switch {
	case d.Decision == "":
		return fmt.Sprintf("Capsid could not carry %s %s", d.Method, d.URL)
	case d.Decision == ledger.Ask:
		return fmt.Sprintf("Capsid blocked %s %s: no rule allows it yet; it waits for a person's review", d.Method, d.URL)
	}
	return fmt.Sprintf("Capsid blocked %s %s", d.Method, d.URL)
}

func (d *notice) text() string {
	var b strings.Builder
	b.WriteString(d.headline() + ".\nNothing of it has left this machine.\n")
	if d.Decision == "" {
		b.Reset()
		b.WriteString(d.headline() + ".\n")
	}
	if d.Reason != "" {
		b.WriteString("\nReason: " + d.Reason + "\n")
	}
	if d.Rule != "" {
		b.WriteString("Decided by: " + d.Rule + " (" + d.Source + ")\n")
	}
	if d.HowTo != "" {
		b.WriteString("\n" + d.HowTo + "\n")
	}
	return b.String()
}

// json has the shape that clients of model APIs look into for a message.
func (d *notice) json() []byte {
	message := d.headline() + "."
	if d.Reason != "" {
		message += " Reason: " + d.Reason + "."
	}
	if d.HowTo != "" {
		message += " " + strings.Join(strings.Fields(d.HowTo), " ")
	}
	kind := "capsid_upstream"
	if d.Decision != "" {
		kind = "capsid_blocked"
	}
	out, err := json.Marshal(map[string]any{"error": map[string]any{"type": kind, "message": message, "code": d.status}, "capsid": d})
	if err != nil {
		return []byte(`{}`) // plain strings and numbers: cannot happen
	}
	return append(out, '\n')
}

// text bounds what the guest sent before it is repeated.
func text(s string, n int) string {
	return strings.ToValidUTF8(s[:min(len(s), n)], "")
}
