//go:build linux

package agent

import (
	"errors"
	"io"
	"os"

	"github.com/pkg/sftp"
)

// sftpName is the name (argument 0) under which this program serves SFTP on its standard input and output. A process of its
// own runs as the user, so that the kernel checks every path; the agent itself would open anything.
const sftpName = "capsid-sftp"

type stdio struct{}

func (stdio) Read(p []byte) (int, error)  { return os.Stdin.Read(p) }
func (stdio) Write(p []byte) (int, error) { return os.Stdout.Write(p) }
func (stdio) Close() error                { return os.Stdin.Close() }

// serveSFTP is the whole life of that process; its result is the exit status.
func serveSFTP() int {
	// Relative names begin in this process's folder, the user's home. The option WithServerWorkingDirectory would make the targets of
	// symbolic links absolute too.
	s, err := sftp.NewServer(stdio{})
	if err != nil {
		return 1
	}
	if err := s.Serve(); err != nil && !errors.Is(err, io.EOF) {
		return 1
	}
	return 0
}
