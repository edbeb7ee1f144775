//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"capsid/guest/link"
)

// linkTimeout is how long the host may take to answer.
const linkTimeout = time.Minute

// initPrefix begins the lines of the lab's init on the console.
const initPrefix = "capsid-lab: init:"

// inLab says whether this process is the first of the lab's machine.
func inLab() bool {
	if os.Getpid() != 1 {
		return false
	}
	_, err := os.Stat(specFile)
	return err == nil
}

// guest is PID 1 of the lab. It does not return: the host ends the machine when it was told how the program ended. Before it can tell the host what went
// wrong, it exits, and the kernel panics with that on the console.
func guest() {
	s, l, err := boot()
	if err != nil {
		fmt.Println(initPrefix, err)
		os.Exit(1)
	}
	ctx, cancel := context.WithTimeout(context.Background(), linkTimeout)
	defer cancel()
	control, err := l.Dial(ctx, controlPort)
	if err != nil {
		fmt.Println(initPrefix, err)
		os.Exit(1)
	}
	to := json.NewEncoder(control)
	if err := prepare(s); err != nil {
		_ = to.Encode(message{Failed: err.Error()})
	} else if err := s.run(ctx, l, to, json.NewDecoder(control)); err != nil {
		_ = to.Encode(message{Absent: err.Error()})
	}
	<-l.Done()
	fmt.Println(initPrefix, "the host has gone:", l.Err())
	os.Exit(1)
}

// boot does what is needed to speak with the host.
func boot() (spec, link.Link, error) {
	var s spec
	if err := mountAll([]mount{{"proc", "/proc", "proc", 0, ""}, {"sysfs", "/sys", "sysfs", 0, ""}, {"devtmpfs", "/dev", "devtmpfs", 0, ""}}); err != nil {
		return s, nil, err
	}
	b, err := os.ReadFile(specFile)
	if err != nil {
		return s, nil, err
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, nil, err
	}
	if err := loadModules(); err != nil {
		return s, nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), linkTimeout)
	defer cancel()
	l, err := link.Open(ctx)
	return s, l, err
}

// loadModules loads what it can; prepare finds what is missing, and the console has the reason.
func loadModules() error {
	b, err := os.ReadFile(modulesList)
	if err != nil {
		return err
	}
	for _, path := range strings.Fields(string(b)) {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
			fmt.Println(initPrefix, "module", filepath.Base(path), err)
		}
		f.Close()
	}
	return nil
}

type mount struct {
	source, target, kind string
	flags                uintptr
	options              string
}

func mountAll(list []mount) error {
	for _, m := range list {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.options); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s at %s: %w", m.kind, m.target, err)
		}
	}
	return nil
}

// prepare makes the root that the program sees, and the machine's surroundings.
func prepare(s spec) error {
	if _, err := os.Stat("/dev/kvm"); err != nil {
		return errors.New("the lab has no /dev/kvm: " + s.NoKVM)
	}
	if err := s.mountRoot(); err != nil {
		return err
	}
	image := filepath.Join(imagesDir, s.Image)
	// The outer root cannot be left by pivot_root(2): it is the first of all. switch_root(8) does the same.
	if err := os.Chdir(newRoot); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move root: %w", err)
	}
	if err := errors.Join(unix.Chroot("."), os.Chdir("/")); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	if err := mountAll([]mount{
		{"proc", "/proc", "proc", 0, ""},
		{"sysfs", "/sys", "sysfs", 0, ""},
		{"devtmpfs", "/dev", "devtmpfs", 0, ""},
		{"devpts", "/dev/pts", "devpts", 0, "mode=620,gid=5,ptmxmode=666"},
		{"tmpfs", "/dev/shm", "tmpfs", 0, "mode=1777"},
		{"tmpfs", "/run", "tmpfs", 0, "mode=755"},
		{"tmpfs", "/run/user/0", "tmpfs", 0, "mode=700"},
		{"cgroup2", "/sys/fs/cgroup", "cgroup2", 0, ""},
		{"/dev/vda", image, "iso9660", unix.MS_RDONLY, diskOptions},
	}); err != nil {
		return err
	}
	for _, dir := range []string{"/lab/state", "/lab/cache", "/lab/config", "/tmp"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Chmod("/tmp", 0o1777); err != nil { // a file of the host below it brought it along as a plain folder
		return err
	}
	if err := unix.Sethostname([]byte("lab")); err != nil {
		return err
	}
	return loopbackUp()
}

// mountRoot makes the root: that of the image with what was taken along and a layer in memory over it, or what was taken along alone.
func (s spec) mountRoot() error {
	if !s.Root {
		return mountAll([]mount{{filesDir, newRoot, "", unix.MS_BIND, ""}})
	}
	if err := mountAll([]mount{
		{"/dev/vdb", "/lab/root", "erofs", unix.MS_RDONLY, ""},
		{"tmpfs", "/lab/layer", "tmpfs", 0, ""},
	}); err != nil {
		return err
	}
	for _, dir := range []string{"/lab/layer/upper", "/lab/layer/work"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	return mountAll([]mount{{"overlay", newRoot, "overlay", 0, "lowerdir=" + filesDir + ":/lab/root,upperdir=/lab/layer/upper,workdir=/lab/layer/work"}})
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	return nil
}
