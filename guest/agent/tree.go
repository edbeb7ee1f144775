//go:build linux

package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// tree is a folder that files are written below; in the machine it is "/". Paths are relative to it, and no symbolic link leads out of it.
type tree struct{ root *os.Root }

func openTree(dir string) (tree, error) {
	r, err := os.OpenRoot(dir)
	if err != nil {
		return tree{}, err
	}
	return tree{r}, nil
}

// write replaces a file as a whole: what was there, a link too, is not written through.
func (t tree) write(name string, data []byte, mode fs.FileMode) error {
	return t.writeAs(name, data, mode, -1, -1)
}

func (t tree) writeAs(name string, data []byte, mode fs.FileMode, uid, gid int) error {
	if dir := path.Dir(name); dir != "." {
		if err := t.root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	temp := name + ".capsid-new"
	if err := t.root.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := t.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	// The mask of the process does not apply to what is asked for here.
	err = errors.Join(err, f.Chmod(mode))
	if uid >= 0 {
		err = errors.Join(err, f.Chown(uid, gid))
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = t.root.Rename(temp, name)
	}
	if err != nil {
		_ = t.root.Remove(temp)
	}
	return err
}

// read is empty for a file that is not there.
func (t tree) read(name string) ([]byte, error) {
	b, err := t.root.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// makeOwned makes the folders of a relative path that are missing, owned by uid and gid.
func (t tree) makeOwned(dir string, uid, gid int) error {
	at := ""
	for _, part := range strings.Split(path.Clean(dir), "/") {
		at = path.Join(at, part)
		err := t.root.Mkdir(at, 0o755)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err == nil {
			err = t.root.Lchown(at, uid, gid)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// below is an absolute path relative to the tree.
func below(abs string) (string, error) {
	if !filepath.IsAbs(abs) || strings.ContainsRune(abs, 0) {
		return "", fmt.Errorf("%q is not an absolute path", abs)
	}
	rel := strings.TrimPrefix(path.Clean(abs), "/")
	if rel == "" {
		return "", errors.New("the root folder is not allowed here")
	}
	return rel, nil
}
