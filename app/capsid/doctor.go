package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"capsid/app/backend"
	"capsid/app/session"
	"capsid/guest/image"
)

// check is one thing that doctor looked at.
type check struct {
	Name     string `json:"name"`
	OK       bool   `json:"ok"`
	Required bool   `json:"required"` // sessions cannot start without it
	Detail   string `json:"detail"`
	Fix      string `json:"fix,omitempty"`
}

func (c *cli) doctorCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "doctor", Short: "Look at what this computer has, what is missing, and what fixes it", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, args []string) error {
			list := diagnose(cmd.Context())
			missing := 0
			var rows [][]string
			for _, k := range list {
				mark := "ok"
				if !k.OK && k.Required {
					mark = "MISSING"
					missing++
				} else if !k.OK {
					mark = "no"
				}
				row := []string{mark, k.Name, k.Detail}
				if !k.OK && k.Fix != "" {
					row[2] += "; fix: " + k.Fix
				}
				rows = append(rows, row)
			}
			var err error
			if asJSON {
				err = c.json(list)
			} else {
				err = c.table([]string{"", "WHAT", "FOUND"}, rows)
			}
			if err == nil && missing > 0 {
				err = fmt.Errorf("sessions cannot start yet: do what stands after \"fix\" above, then ask again")
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func diagnose(ctx context.Context) []check {
	list := checkBackends(ctx)
	list = append(list, checkProgram("mkfs.ext4", "e2fsprogs", true, "makes the machines' disks"))
	list = append(list, checkImage())
	list = append(list, checkFolders()...)
	list = append(list, checkPolicy(), checkLandlock(), checkSeccomp(), checkUserns())
	list = append(list, checkProgram("ssh", "openssh-client", false, "capsid ssh needs it"))
	list = append(list, checkImageTools(), checkDisplay())
	return list
}

// checkBackends says of each backend whether it can run machines here and why, and which one new sessions get.
func checkBackends(ctx context.Context) []check {
	found := backend.Look(ctx, backend.All())
	chosen, err := backend.ChooseOf(found, wantedBackend())
	var list []check
	for _, f := range found {
		// Any of them would do; where none does, each says what is missing.
		k := check{Name: "backend " + f.Name(), OK: f.Usable, Required: err != nil, Detail: f.Reason, Fix: f.Fix}
		if f.Detail != "" {
			k.Detail += " (" + f.Detail + ")"
		}
		if err == nil && chosen.Name() == f.Name() {
			k.Detail = "chosen: " + k.Detail
		}
		list = append(list, k)
	}
	return list
}

// wantedBackend is what the policy files ask for. A fault in them is told by a check of its own.
func wantedBackend() string {
	p, err := session.DefaultPaths()
	if err != nil {
		return ""
	}
	d, err := session.Defaults(p)
	if err != nil {
		return ""
	}
	return d.Backend
}

func checkProgram(name, pkg string, required bool, what string) check {
	k := check{Name: name, Required: required, Fix: "sudo apt-get install " + pkg}
	path, err := exec.LookPath(name)
	if err != nil {
		for _, dir := range []string{"/usr/sbin", "/sbin"} {
			if _, serr := os.Stat(filepath.Join(dir, name)); serr == nil {
				path, err = filepath.Join(dir, name), nil
			}
		}
	}
	if err != nil {
		k.Detail = "not installed; " + what
		return k
	}
	k.OK, k.Detail = true, path
	return k
}

func checkImage() check {
	k := check{Name: "image", Required: true, Fix: "capsid image build"}
	p, err := session.DefaultPaths()
	if err != nil {
		k.Detail = err.Error()
		return k
	}
	img, err := image.Latest(p.Images())
	if err != nil {
		k.Detail = err.Error()
		if image.Building(p.Images()) {
			k.Detail, k.Fix = "one is being built", "wait for it"
		}
		return k
	}
	total, _ := img.Size()
	k.OK = true
	k.Detail = fmt.Sprintf("%s, %s, %s old, %s", img.Digest[:12], bytesText(total), short(time.Since(img.Manifest.Created)), img.Manifest.Release)
	return k
}

func checkFolders() []check {
	store := check{Name: "session folders", Required: true}
	p, err := session.DefaultPaths()
	if err == nil {
		_, err = session.OpenStore(p)
	}
	if err != nil {
		store.Detail, store.Fix = err.Error(), session.Hint(err)
		return []check{store}
	}
	store.OK, store.Detail = true, p.Sessions()+", sockets in "+p.Runtime
	room := check{Name: "disk space", Required: true, Fix: "capsid ps shows old sessions, capsid rm removes them"}
	var st unix.Statfs_t
	if err := unix.Statfs(p.Sessions(), &st); err != nil {
		room.Detail = err.Error()
	} else {
		free := int64(st.Bavail) * st.Bsize
		room.OK, room.Detail = free > 1<<30, bytesText(free)+" free"
	}
	return []check{store, room}
}

func checkPolicy() check {
	k := check{Name: "policy files", Required: true, Fix: "correct the file; capsid policy check looks again"}
	p, err := session.DefaultPaths()
	if err == nil {
		_, err = session.Defaults(p)
	}
	if err != nil {
		k.Detail = err.Error()
		return k
	}
	k.OK, k.Detail = true, "no faults"
	return k
}

// checkLandlock asks the kernel for its version of Landlock (landlock_create_ruleset(2), LANDLOCK_CREATE_RULESET_VERSION).
func checkLandlock() check {
	k := check{Name: "Landlock", Fix: "boot with lsm=landlock,… or a kernel of 5.13 or later"}
	const version = 1
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, version)
	if errno != 0 {
		k.Detail = "this kernel has none (" + errno.Error() + "); the share's process has one wall less"
		return k
	}
	k.OK, k.Detail = true, "version "+strconv.Itoa(int(abi))
	return k
}

func checkSeccomp() check {
	k := check{Name: "seccomp", Detail: "this kernel has none; the machine's and the share's process have one wall less"}
	data, err := os.ReadFile("/proc/sys/kernel/seccomp/actions_avail")
	if err == nil && strings.Contains(string(data), "kill_process") {
		k.OK, k.Detail = true, "filters are there"
	}
	return k
}

func checkUserns() check {
	k := check{Name: "user namespaces", Detail: "for building images without root"}
	read := func(path string) string {
		data, err := os.ReadFile(path)
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(data))
	}
	switch {
	case os.Getuid() == 0:
		k.OK, k.Detail = true, "not needed: you are root"
	case read("/proc/sys/user/max_user_namespaces") == "0":
		k.Detail, k.Fix = "switched off", "sudo sysctl user.max_user_namespaces=15000"
	case read("/proc/sys/kernel/unprivileged_userns_clone") == "0":
		k.Detail, k.Fix = "for root alone", "sudo sysctl kernel.unprivileged_userns_clone=1"
	case read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
		k.Detail, k.Fix = "restricted by AppArmor; building an image may fail", "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"
	default:
		k.OK = true
	}
	return k
}

func checkImageTools() check {
	k := check{Name: "image tools", OK: true, Detail: "all there"}
	var missing []string
	for program, pkg := range map[string]string{"mmdebstrap": "mmdebstrap", "mkfs.erofs": "erofs-utils", "npm": "npm"} {
		if !checkProgram(program, pkg, false, "").OK {
			missing = append(missing, pkg)
		}
	}
	if len(missing) > 0 {
		k.OK, k.Detail, k.Fix = false, "image build needs "+strings.Join(missing, ", "), "sudo apt-get install "+strings.Join(missing, " ")
	}
	return k
}

func checkDisplay() check {
	k := check{Name: "display", Detail: "none: the desktop cannot open; the command line does all"}
	for _, name := range []string{"WAYLAND_DISPLAY", "DISPLAY"} {
		if v := os.Getenv(name); v != "" {
			k.OK, k.Detail = true, name+"="+v
			break
		}
	}
	return k
}
