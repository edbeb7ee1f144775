// Package control is what is spoken on the link's control port: SSH (RFC 4251–4254) with the agent as server. Besides the
// usual session channels (exec, pty-req, shell, signal, subsystem sftp, exit-status) and direct-tcpip, there are two channel types of our own:
//
//	setup@capsid      one JSON request and one JSON answer: Setup → SetupResult, and the other calls named below
//	terminal@capsid   a named terminal that belongs to the agent, not to the connection
//
// The SSH user name chooses who a command runs as: "root", or anything else for the session's ordinary user.
// There is no authentication: only the host can dial the port.
package control

import "time"

// Setup gives a booted machine its identity. It is sent once, before anything else of the session runs.
type Setup struct {
	Hostname string    `json:"hostname"`
	User     User      `json:"user"`
	Time     time.Time `json:"time"`    // the host's clock
	Entropy  []byte    `json:"entropy"` // at least 32 bytes, credited to the guest's random pool
	// CA is the proxy's certificate, PEM; it goes into every trust store of the guest (system bundle, Node, Python, git).
	CA []byte `json:"ca"`
	// Env is the whole environment of the session's programs, KEY=VALUE, beyond HOME, USER, LOGNAME, SHELL, PATH and the trust-store variables, which the agent sets.
	Env    []string `json:"env"`
	Mounts []Mount  `json:"mounts"`
	// Files are written into the guest, owned by the user, missing folders made.
	Files []File `json:"files"`
}

// Identity is what a machine that was restored from a snapshot has of its own. What is empty stays as it is, but for Entropy.
type Identity struct {
	Entropy  []byte `json:"entropy"` // at least 32 bytes, taken up before all else
	Hostname string `json:"hostname,omitempty"`
	// MachineID is 32 hexadecimal digits (machine-id(5)); made of Entropy when it is empty.
	MachineID string    `json:"machineID,omitempty"`
	Time      time.Time `json:"time,omitzero"` // the host's clock
	// Env replaces Setup's for programs that are started from now on; nil leaves it.
	Env []string `json:"env,omitempty"`
}

// User is the ordinary user that the session's programs run as. It may use sudo without a password.
type User struct {
	Name string `json:"name"`
	UID  uint32 `json:"uid"` // never 0
	GID  uint32 `json:"gid"`
	Home string `json:"home"` // absolute
}

// Mount is a host folder: the agent dials the share port with Tag and mounts what answers at Path.
type Mount struct {
	Tag      string `json:"tag"`
	Path     string `json:"path"` // absolute; made if missing, with its parents traversable by the user
	ReadOnly bool   `json:"readOnly"`
}

// File is one seeded file. Path is absolute, or begins with "~/" for the user's home.
type File struct {
	Path    string `json:"path"`
	Mode    uint32 `json:"mode"`
	Content []byte `json:"content"`
}

// SetupResult is the agent's answer to Setup.
type SetupResult struct {
	Kernel   string            `json:"kernel"`   // uname -r
	Versions map[string]string `json:"versions"` // of the image, from its os-release and agents
	Steps    []StepTime        `json:"steps"`    // what took how long since the kernel started, in order
	Lockdown []string          `json:"lockdown"` // each layer that is in force in the guest
	Warnings []string          `json:"warnings"`
}

// StepTime is one measured step of the guest's start.
type StepTime struct {
	Name     string        `json:"name"`
	Duration time.Duration `json:"duration"` // nanoseconds
}

// TerminalSpec asks for a named terminal. If one of that name runs, it is attached to (its recent output is replayed, with all
// sequences that ask the terminal for an answer taken out, and after modes that were set before it); otherwise Command is started in a new one. An empty Command
// only attaches and is an error when there is none.
type TerminalSpec struct {
	Name    string   `json:"name"`
	Command []string `json:"command,omitempty"`
	Dir     string   `json:"dir,omitempty"`
	Env     []string `json:"env,omitempty"` // beyond the session's
	Cols    int      `json:"cols"`
	Rows    int      `json:"rows"`
	Root    bool     `json:"root,omitempty"`
}

// TerminalInfo is one row of the list of terminals.
type TerminalInfo struct {
	Name     string    `json:"name"`
	Command  []string  `json:"command"`
	Started  time.Time `json:"started"`
	Running  bool      `json:"running"`
	ExitCode int       `json:"exitCode"` // valid when not Running; 128+n for signal n
	Clients  int       `json:"clients"`
	Title    string    `json:"title,omitempty"`
}
