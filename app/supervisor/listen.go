package supervisor

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"capsid/app/session"
)

// maxSocket is the longest path of a unix socket: sun_path has 108 bytes, one of them ends it (unix(7)).
const maxSocket = 107

// listen makes the session's socket. The caller holds the session's lock, so a socket that lies there is a dead supervisor's.
func listen(path string, log *slog.Logger) (net.Listener, error) {
	if len(path) > maxSocket {
		return nil, &session.Error{Message: fmt.Sprintf("the socket's path is too long: %s", path), Hint: "set XDG_RUNTIME_DIR to a shorter folder"}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	// The folder is ours alone, so nobody came before this.
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return &ownListener{l, log}, nil
}

// ownListener takes connections of this user and of root alone.
type ownListener struct {
	*net.UnixListener
	log *slog.Logger
}

func (l *ownListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		uid, err := peerUID(conn)
		if err == nil && (uid == os.Getuid() || uid == 0) {
			return conn, nil
		}
		l.log.Warn("a connection of another user was refused", "uid", uid, "error", err)
		conn.Close()
	}
}

// peerUID asks the kernel who connected (SO_PEERCRED, unix(7)).
func peerUID(conn *net.UnixConn) (uid int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, err
	}
	uid = -1
	var credErr error
	err = raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); credErr == nil {
			uid = int(cred.Uid)
		}
	})
	return uid, errors.Join(err, credErr)
}
