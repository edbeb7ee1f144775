package session

import (
	"time"

	"capsid/proxy/ledger"
)

// The supervisor's API is HTTP with JSON on the session's unix socket; `curl --unix-socket` is a client of it. An answer of 400 and above
// has an APIError as its body.
//
//	GET  /v1/status                  Status
//	GET  /v1/events                  server-sent events: status, ledger, notice; the first is a status
//	POST /v1/pause, /v1/resume       Status
//	POST /v1/snapshots               SnapshotRequest: SnapshotResult. It is given up when the client goes; Status.Work says how far it is
//	POST /v1/suspend                 SnapshotResult: a snapshot, after which the session ends as Suspended
//	POST /v1/kill                    powers the machine off, then ends the supervisor
//	GET  /v1/control                 Upgrade: capsid-control, then the bytes of the control port (SSH)
//	GET  /v1/terminals               list of control.TerminalInfo
//	POST /v1/terminals               control.TerminalSpec: starts it if it does not run
//	GET  /v1/terminals/{name}        WebSocket; ?cols=&rows=&start=1. Binary messages are bytes, text messages JSON: Resize up, Exit down
//	POST /v1/decisions               DecisionRequest
//	GET  /v1/ledger                  ?after=&limit=&blocked=1&host=: list of ledger.Entry
//	GET  /v1/blocked                 list of ledger.Group
//
// ControlProtocol is the name that GET /v1/control upgrades to.
const ControlProtocol = "capsid-control"

// EventKind names an event.
type EventKind string

const (
	StatusEvent EventKind = "status"
	LedgerEvent EventKind = "ledger"
	NoticeEvent EventKind = "notice"
)

// Event is one message of GET /v1/events; the field that Kind names is set. A client that reads too slowly loses ledger events,
// never the last status; Ledger has them all.
type Event struct {
	Kind   EventKind     `json:"kind"`
	Status *Status       `json:"status,omitempty"`
	Entry  *ledger.Entry `json:"entry,omitempty"`
	Notice *Notice       `json:"notice,omitempty"`
}

// Notice tells a person something that no status has: a policy file was taken up, or has a fault.
type Notice struct {
	Time  time.Time `json:"time"`
	Level string    `json:"level"` // "info" or "error"
	Text  string    `json:"text"`
}

// APIError is the body of an answer that is an error.
type APIError struct {
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
}

// DecisionRequest is what a person decided about a host.
type DecisionRequest struct {
	Host   string `json:"host"`
	Action string `json:"action"` // allow, block
	Scope  string `json:"scope"`  // session, project, always
	From   string `json:"from"`   // where it was made: "window", "command line"
}

// SnapshotRequest asks for a snapshot of the running machine.
type SnapshotRequest struct {
	Name string `json:"name,omitempty"` // [a-z0-9][a-z0-9.-]*; empty: the first free of snap-1, snap-2 and so on
	Note string `json:"note,omitempty"` // one line, a person's
}

// SnapshotResult says what was made.
type SnapshotResult struct {
	Name   string        `json:"name"`
	Rested time.Duration `json:"rested"` // nanoseconds that the session's programs stood still
	Bytes  int64         `json:"bytes"`  // that removing it gives back
}

// TerminalMessage is a text message on a terminal's WebSocket.
type TerminalMessage struct {
	Resize *Size `json:"resize,omitempty"` // client to supervisor
	Exit   *int  `json:"exit,omitempty"`   // supervisor to client: the program has ended; 128+n for signal n
}

// Size of a terminal, in cells.
type Size struct {
	Cols int `json:"cols"`
	Rows int `json:"rows"`
}
