package control

import "time"

// The channel types and requests beyond those of RFC 4254.
const (
	// ChannelSetup carries one Call and one Answer, each JSON and ended by end-of-file of its direction. Calls are channels and not
	// global requests, since those must fit one SSH packet (256 KiB).
	ChannelSetup = "setup@capsid"
	// ChannelTerminal is opened with a TerminalSpec as JSON in its extra data. Bytes are the terminal's; "window-change" (RFC 4254, 6.7)
	// resizes it; "exit-status" (6.10) precedes the end.
	ChannelTerminal = "terminal@capsid"
	// RequestCommand starts a Command (JSON) in a session channel, as "exec" does, with no shell between.
	RequestCommand = "command@capsid"
)

// Bounds on what one side takes from the other.
const (
	MaxCall   = 64 << 20 // seeded files and certificates go to the guest
	MaxAnswer = 1 << 20  // nothing that comes from the guest is larger
)

// The names of calls.
const (
	CallSetup     = "setup"
	CallClock     = "clock"
	CallTerminals = "terminals"
	CallPowerOff  = "poweroff"
	CallFreeze    = "freeze"
	CallThaw      = "thaw"
	CallRenew     = "renew"
)

// Call is one request on a ChannelSetup.
type Call struct {
	Call  string    `json:"call"`
	Setup *Setup    `json:"setup,omitempty"` // of CallSetup
	Time  time.Time `json:"time,omitzero"`   // of CallClock
	Renew *Identity `json:"renew,omitempty"` // of CallRenew
}

// Answer is what a Call is answered with. A call that failed has an Error and nothing else.
type Answer struct {
	Error     string         `json:"error,omitempty"`
	Setup     *SetupResult   `json:"setup,omitempty"`
	Terminals []TerminalInfo `json:"terminals,omitempty"`
}

// Command is what RequestCommand starts.
type Command struct {
	Command []string `json:"command"`
	Dir     string   `json:"dir,omitempty"` // the home folder when empty
	Env     []string `json:"env,omitempty"` // beyond the session's
	Root    bool     `json:"root,omitempty"`
}

// Size is a terminal's, in cells.
type Size struct {
	Cols int `json:"cols"`
	Rows int `json:"rows"`
}

// windowChange is the payload of "window-change".
type windowChange struct {
	Cols, Rows, Width, Height uint32
}

// ptyRequest is the payload of "pty-req".
type ptyRequest struct {
	Term                      string
	Cols, Rows, Width, Height uint32
	Modes                     string
}
