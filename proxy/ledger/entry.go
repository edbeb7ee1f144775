package ledger

import "time"

// Kind says what an entry is about.
type Kind string

const (
	HTTP    Kind = "http"    // one request; WebSocket upgrades too
	Connect Kind = "connect" // a TCP connection that was refused, or never became HTTP
	DNS     Kind = "dns"     // a question that was refused
)

// Decision is what was done with it.
type Decision string

const (
	Allow Decision = "allow"
	Block Decision = "block" // refused by a rule
	Ask   Decision = "ask"   // refused now, queued for a person's review
)

// Entry is one row. Everything in it that came from the guest is text of bounded length with control characters replaced.
type Entry struct {
	ID       int64         `json:"id"`
	Time     time.Time     `json:"time"`
	Session  string        `json:"session"`
	Kind     Kind          `json:"kind"`
	Process  string        `json:"process,omitempty"` // as the guest claims; empty when unknown
	Method   string        `json:"method,omitempty"`
	URL      string        `json:"url,omitempty"`
	Host     string        `json:"host"` // lower case, ASCII form; an IP literal when no name was asked for
	Port     int           `json:"port,omitempty"`
	Status   int           `json:"status,omitempty"`   // HTTP status that the guest got; 0 while under way
	Sent     int64         `json:"sent"`               // body bytes guest → upstream
	Received int64         `json:"received"`           // body bytes upstream → guest
	Duration time.Duration `json:"duration,omitempty"` // nanoseconds
	Done     bool          `json:"done"`               // false while the request is under way
	Decision Decision      `json:"decision"`
	Rule     string        `json:"rule,omitempty"`   // the pattern that decided
	Source   string        `json:"source,omitempty"` // file:line of it
	Reason   string        `json:"reason,omitempty"` // one line for a person
}
