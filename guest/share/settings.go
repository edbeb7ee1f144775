package share

import (
	"encoding/json"
	"fmt"

	"golang.org/x/sys/unix"
)

// The share process is started with these descriptors.
const (
	folderFD  = 3 // the folder, O_PATH
	controlFD = 4 // a SOCK_SEQPACKET: settings come in, a report goes out, then a socket comes in for each stream
)

// settings is the one message that the process is told what to do by.
type settings struct {
	Owners   owners `json:"owners"`
	ReadOnly bool   `json:"readOnly"`
}

// report is the process's one answer.
type report struct {
	Defences []string `json:"defences"`
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
