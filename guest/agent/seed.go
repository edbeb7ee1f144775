//go:build linux

package agent

import (
	"fmt"
	"io/fs"
	"path"
	"strings"

	"capsid/guest/control"
)

// seed writes the session's files, owned by the user. Those of the home folder are written below it whatever links are in it.
func (t tree) seed(a account, files []control.File) error {
	rel, err := below(a.home)
	if err != nil {
		return err
	}
	home, err := t.root.OpenRoot(rel)
	if err != nil {
		return err
	}
	defer home.Close()
	for _, f := range files {
		if err := t.seedOne(tree{home}, a, f); err != nil {
			return fmt.Errorf("file %s: %w", f.Path, err)
		}
	}
	return nil
}

func (t tree) seedOne(home tree, a account, f control.File) error {
	base, name := home, ""
	if rest, ok := strings.CutPrefix(f.Path, "~/"); ok {
		name = path.Clean("/" + rest)[1:]
	} else if rest, ok := strings.CutPrefix(path.Clean(f.Path), a.home+"/"); ok {
		name = rest
	} else {
		var err error
		base = t
		if name, err = below(f.Path); err != nil {
			return err
		}
	}
	if name == "" {
		return fmt.Errorf("the path names no file")
	}
	uid, gid := int(a.uid), int(a.gid)
	if dir := path.Dir(name); dir != "." {
		if err := base.makeOwned(dir, uid, gid); err != nil {
			return err
		}
	}
	mode := fs.FileMode(f.Mode).Perm()
	if mode == 0 {
		mode = 0o644
	}
	return base.writeAs(name, f.Content, mode, uid, gid)
}
