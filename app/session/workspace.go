package session

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// checkWorkspace returns the folder's absolute path with symbolic links resolved, or says what is wrong with it. wide means that it is the whole
// file system or holds somebody's whole home.
func checkWorkspace(dir string) (path string, wide bool, err error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", false, err
	}
	path, err = filepath.EvalSymlinks(abs)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", false, &Error{Message: fmt.Sprintf("workspace %s does not exist", abs), Hint: "mkdir -p " + abs}
	case errors.Is(err, os.ErrPermission):
		return "", false, unreadable(abs)
	case err != nil:
		return "", false, &Error{Message: "workspace " + abs, Err: err, Hint: "choose another folder"}
	}
	fi, err := os.Stat(path)
	if err != nil {
		return "", false, unreadable(path)
	}
	if !fi.IsDir() {
		return "", false, &Error{Message: fmt.Sprintf("workspace %s is a file", path), Hint: "choose the folder that holds it: " + filepath.Dir(path)}
	}
	d, err := os.Open(path)
	if err != nil {
		return "", false, unreadable(path)
	}
	defer d.Close()
	if _, err := d.Readdirnames(1); err != nil && err != io.EOF {
		return "", false, unreadable(path)
	}
	return path, isWide(path), nil
}

func unreadable(path string) error {
	return &Error{Message: fmt.Sprintf("workspace %s cannot be read", path), Err: os.ErrPermission, Hint: "make it readable, or choose another folder"}
}

// isWide: "/", the home folder, or any folder that the home folder lies in.
func isWide(path string) bool {
	if path == "/" {
		return true
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return false
	}
	if real, err := filepath.EvalSymlinks(home); err == nil {
		home = real
	}
	return home == path || strings.HasPrefix(home, path+"/")
}
