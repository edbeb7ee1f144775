package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// checkTools names all programs that are missing at once.
func checkTools(root bool) error {
	tools := []struct{ program, pkg string }{{"mmdebstrap", "mmdebstrap"}, {"mkfs.erofs", "erofs-utils"}, {"npm", "npm"}, {"apt-get", "apt"}, {"dpkg-deb", "dpkg"}, {"tar", "tar"}}
	if !root {
		tools = append(tools, struct{ program, pkg string }{"newuidmap", "uidmap"})
	}
	var missing []string
	for _, t := range tools {
		if _, err := exec.LookPath(t.program); err != nil {
			if _, err := os.Stat(filepath.Join("/usr/sbin", t.program)); err != nil {
				missing = append(missing, t.pkg)
			}
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: sudo apt-get install %s", ErrTools, strings.Join(missing, " "))
	}
	if !root && !hasSubordinate("/etc/subuid") {
		return fmt.Errorf("%w: this user has no range in /etc/subuid: sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER", ErrTools)
	}
	return nil
}

// hasSubordinate says whether this user has subordinate uids, by name or number; where the file cannot be read (they may come from a directory
// service), mmdebstrap finds out.
func hasSubordinate(file string) bool {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err != nil {
		return true
	}
	name, id := "", strconv.Itoa(os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	for _, line := range strings.Split(string(data), "\n") {
		if who, _, ok := strings.Cut(line, ":"); ok && (who == id || (name != "" && who == name)) {
			return true
		}
	}
	return false
}
