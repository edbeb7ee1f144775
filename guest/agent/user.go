//go:build linux

package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"capsid/guest/control"
)

// sudoGroup gives its members sudo by Debian's own rules, with a password. The file that addUser writes lets this user do without.
const sudoGroup = "sudo"

func checkUser(u control.User) error {
	if u.Name == "" || len(u.Name) > 64 || u.Name == "root" || strings.ContainsAny(u.Name, ":/,\n\r\t \x00") || strings.HasPrefix(u.Name, "-") {
		return fmt.Errorf("user name %q cannot be one", u.Name)
	}
	if u.UID == 0 {
		return errors.New("the session's user cannot have the uid 0")
	}
	_, err := below(u.Home)
	if err != nil || strings.ContainsAny(u.Home, ":\n") {
		return fmt.Errorf("home folder %q cannot be one", u.Home)
	}
	return nil
}

// addUser writes the user into the system's files, and makes the home folder. It may be done again for the same user.
func (t tree) addUser(u control.User) (account, error) {
	a := account{name: u.Name, uid: u.UID, gid: u.GID, home: u.Home, shell: "/bin/bash"}
	uid, gid := strconv.Itoa(int(u.UID)), strconv.Itoa(int(u.GID))
	group, err := t.database("etc/group")
	if err != nil {
		return a, err
	}
	if !slices.ContainsFunc(group, func(f []string) bool { return field(f, 2) == gid }) {
		name := u.Name
		if slices.ContainsFunc(group, func(f []string) bool { return f[0] == name }) {
			name = "capsid" + gid
		}
		group = append(group, []string{name, "x", gid, ""})
	}
	for i, f := range group {
		if f[0] != sudoGroup || len(f) < 4 {
			continue
		}
		if members := strings.Split(f[3], ","); !slices.Contains(members, u.Name) {
			group[i][3] = strings.Trim(f[3]+","+u.Name, ",")
		}
		if n, err := strconv.ParseUint(f[2], 10, 32); err == nil {
			a.groups = append(a.groups, uint32(n))
		}
	}
	// First, so that the number belongs to this name where the image has another user of the same number.
	passwd, err := t.database("etc/passwd")
	if err != nil {
		return a, err
	}
	passwd = replaceRow(passwd, []string{u.Name, "x", uid, gid, "", u.Home, a.shell})
	// No password is the right one ("*"): sudo asks for none, and there is no other way to log in.
	shadow, err := t.database("etc/shadow")
	if err != nil {
		return a, err
	}
	shadow = replaceRow(shadow, []string{u.Name, "*", "19000", "0", "99999", "7", "", "", ""})
	err = errors.Join(
		t.write("etc/group", pack(group), 0o644),
		t.write("etc/passwd", pack(passwd), 0o644),
		t.write("etc/shadow", pack(shadow), 0o640),
		t.write("etc/sudoers.d/capsid", sudoers(u.UID), 0o440),
		t.makeHome(u),
	)
	if err != nil {
		return a, fmt.Errorf("user %s: %w", u.Name, err)
	}
	return a, nil
}

// sudoers lets the user become anyone, and keeps what makes programs trust the proxy's certificate.
func sudoers(uid uint32) []byte {
	var names []string
	for _, kv := range trustEnv() {
		name, _, _ := strings.Cut(kv, "=")
		names = append(names, name)
	}
	return fmt.Appendf(nil, "Defaults env_keep += \"%s COLORTERM\"\n#%d ALL=(ALL:ALL) NOPASSWD: ALL\n", strings.Join(names, " "), uid)
}

// makeHome makes the home folder with what every home begins with. What a former start left there stays.
func (t tree) makeHome(u control.User) error {
	home, err := below(u.Home)
	if err != nil {
		return err
	}
	if err := t.root.MkdirAll(path.Dir(home), 0o755); err != nil {
		return err
	}
	uid, gid := int(u.UID), int(u.GID)
	if err := t.makeOwned(home, uid, gid); err != nil {
		return err
	}
	if err := t.root.Lchown(home, uid, gid); err != nil {
		return err
	}
	return fs.WalkDir(t.root.FS(), "etc/skel", func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return fs.SkipAll
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		to := path.Join(home, strings.TrimPrefix(name, "etc/skel/"))
		if _, err := t.root.Lstat(to); err == nil {
			return nil
		}
		data, err := t.root.ReadFile(name)
		if err != nil {
			return err
		}
		if err := t.makeOwned(path.Dir(to), uid, gid); err != nil {
			return err
		}
		return t.writeAs(to, data, 0o644, uid, gid)
	})
}

// database reads a file of lines of fields with colons between.
func (t tree) database(name string) ([][]string, error) {
	raw, err := t.read(name)
	if err != nil {
		return nil, err
	}
	var rows [][]string
	for line := range strings.Lines(string(raw)) {
		if line = strings.TrimRight(line, "\n"); line != "" {
			rows = append(rows, strings.Split(line, ":"))
		}
	}
	return rows, nil
}

func pack(rows [][]string) []byte {
	var b strings.Builder
	for _, r := range rows {
		b.WriteString(strings.Join(r, ":") + "\n")
	}
	return []byte(b.String())
}

// replaceRow puts row after the first (root's), in place of another of the same name.
func replaceRow(rows [][]string, row []string) [][]string {
	rows = slices.DeleteFunc(rows, func(f []string) bool { return f[0] == row[0] })
	return slices.Insert(rows, min(1, len(rows)), row)
}

func field(f []string, i int) string {
	if i >= len(f) {
		return ""
	}
	return f[i]
}
