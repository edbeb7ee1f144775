package share

import (
	"encoding/json"
	"fmt"

	"golang.org/x/sys/unix"
)

// The share process is started with these descriptors.
const (
	folderFD  = 3 // the folder, O_PATH
	controlFD = 4 // a SOCK_SEQPACKET: settings come in, a report goes out, then orders come in
)

// Each order is one byte, with a descriptor.
const (
	orderServe = iota // a stream socket: serve it
	orderSave         // a pipe: write 0 and the state to it, or 1 and what went wrong
	orderLoad         // a pipe: read the state from it. It comes right after the settings that announce it
)

// settings is the one message that the process is told what to do by.
type settings struct {
	Owners   owners `json:"owners"`
	ReadOnly bool   `json:"readOnly"`
	Load     bool   `json:"load,omitempty"`
}

// report is the process's one answer.
type report struct {
	Defences []string `json:"defences"`
	Lost     int      `json:"lost,omitempty"`
	Error    string   `json:"error,omitempty"`
}

// maxControl bounds the messages of the control socket.
const maxControl = 16 << 10

func sendJSON(fd int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return retry(func() error {
		_, err := unix.Write(fd, b)
		return err
	})
}

func receiveJSON(fd int, v any) error {
	buf := make([]byte, maxControl)
	n := 0
	err := retry(func() (err error) {
		n, err = unix.Read(fd, buf)
		return err
	})
	if err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("the other side has ended")
	}
	return json.Unmarshal(buf[:n], v)
}
