// Package session is the model of a session (one agent in one machine), its folder on disk, and the client of its supervisor's API.
package session

import (
	"time"

	"capsid/guest/control"
)

// State is where a session is in its life.
type State string

const (
	Starting State = "starting"
	Running  State = "running"
	Paused   State = "paused"
	Stopped  State = "stopped" // ended in order, or its supervisor is gone
	Failed   State = "failed"  // could not start, or its machine crashed; Error says why
	// Suspended is a session whose machine is on disk, as the snapshot that Status.Suspended names: it goes on from there, also after the computer was restarted.
	Suspended State = "suspended"
)

// Access is how the workspace is shared.
type Access string

const (
	ReadWrite Access = "read-write"
	ReadOnly  Access = "read-only"
)

// Session is what was asked for; session.json in the session's folder.
type Session struct {
	ID         string    `json:"id"`   // 8 hexadecimal digits
	Name       string    `json:"name"` // unique among living sessions: [a-z0-9][a-z0-9-]{0,40}
	Agent      string    `json:"agent"`
	Workspace  string    `json:"workspace"` // absolute, symbolic links resolved; empty when none is shared
	Access     Access    `json:"access"`
	CPUs       int       `json:"cpus"`
	Memory     int64     `json:"memory"` // bytes
	Backend    string    `json:"backend"`
	Image      string    `json:"image"`            // digest
	Policy     string    `json:"policy,omitempty"` // a policy file for this session alone, beside user.toml
	Autonomous bool      `json:"autonomous"`
	Cold       bool      `json:"cold,omitempty"` // its machine boots, whatever is kept warm
	Created    time.Time `json:"created"`
	// Parent is the snapshot that the machine was restored from last; nil when it was booted. A fork's lies in another session's folder.
	Parent *SnapshotRef `json:"parent,omitempty"`
}

// SnapshotRef names a snapshot by the session in whose folder it lies; an empty Snapshot means that session itself.
type SnapshotRef struct {
	Session  string `json:"session"` // ID
	Snapshot string `json:"snapshot,omitempty"`
}

func (r SnapshotRef) String() string {
	if r.Snapshot == "" {
		return "session " + r.Session
	}
	return r.Session + "/" + r.Snapshot
}

// Status is a session as it is now; status.json in its folder and GET /v1/status.
type Status struct {
	Session
	State     State                  `json:"state"`
	PID       int                    `json:"pid"` // the supervisor's, while it lives
	Started   time.Time              `json:"started"`
	Ended     time.Time              `json:"ended"`
	Steps     []Step                 `json:"steps"` // of the start, in order
	Terminals []control.TerminalInfo `json:"terminals"`
	Backing   string                 `json:"backing"`  // what runs the machine and why, one line
	Defences  []string               `json:"defences"` // every layer in force, one line each
	Error     string                 `json:"error,omitempty"`
	Hint      string                 `json:"hint,omitempty"`      // the next step when there is an Error
	Console   []string               `json:"console,omitempty"`   // last console lines of a failed machine
	Blocked   int                    `json:"blocked"`             // refused requests that nobody has decided on yet
	Suspended string                 `json:"suspended,omitempty"` // the snapshot that a suspended session goes on from
	Work      *Work                  `json:"work,omitempty"`      // what takes long just now; nil when nothing does
}

// Step is one step of a session's start, shown as it happens.
type Step struct {
	Name     string        `json:"name"`
	Done     bool          `json:"done"`
	Duration time.Duration `json:"duration"` // nanoseconds, when Done
	Detail   string        `json:"detail,omitempty"`
}

// Work is something that takes long.
type Work struct {
	Name  string `json:"name"`            // "snapshot before-the-fix"
	Stage string `json:"stage"`           // what of it: "write memory"
	Done  int64  `json:"done,omitempty"`  // bytes; of
	Total int64  `json:"total,omitempty"` // 0 while that is not known
}

// MainTerminal is the terminal that the session's agent runs in.
const MainTerminal = "main"
