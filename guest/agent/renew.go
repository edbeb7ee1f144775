//go:build linux

package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"capsid/guest/control"

	"golang.org/x/sys/unix"
)

const (
	// groupPath is the cgroup of all programs but this one.
	groupPath = "/sys/fs/cgroup/session"
	// freezeTime bounds the wait for programs to come to rest. One that reads a share does when the host answers.
	freezeTime = 30 * time.Second

	bootIDPath = "/proc/sys/kernel/random/boot_id"
	// bootIDFile lies over it.
	bootIDFile = "/run/capsid/boot_id"
)

// renew gives a machine that was restored from a snapshot an identity of its own: randomness first, so that nothing that is drawn afterwards is what another
// of the same snapshot draws.
func (m *machine) renew(id control.Identity) ([]string, error) {
	if err := checkIdentity(id); err != nil {
		return nil, err
	}
	if err := addEntropy(id.Entropy); err != nil {
		return nil, err
	}
	root, err := openTree("/")
	if err != nil {
		return nil, err
	}
	defer root.root.Close()
	if id.Hostname == "" {
		if id.Hostname, err = os.Hostname(); err != nil {
			return nil, err
		}
	}
	if err := unix.Sethostname([]byte(id.Hostname)); err != nil {
		return nil, fmt.Errorf("hostname: %w", err)
	}
	if err := root.renewNames(id); err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	if err := renewBootID(bootIDFile, bootIDPath, bootID(id.Entropy)); err != nil {
		return nil, fmt.Errorf("boot ID: %w", err)
	}
	if !id.Time.IsZero() {
		if err := setClock(id.Time); err != nil {
			return nil, fmt.Errorf("clock: %w", err)
		}
	}
	return m.environment(id.Env), nil
}

func checkIdentity(id control.Identity) error {
	var errs []error
	if len(id.Entropy) < minEntropy {
		errs = append(errs, fmt.Errorf("entropy: %d bytes, fewer than %d", len(id.Entropy), minEntropy))
	}
	if id.Hostname != "" {
		errs = append(errs, checkHostname(id.Hostname))
	}
	if n := id.MachineID; n != "" && (len(n) != 32 || strings.Trim(n, "0123456789abcdef") != "") {
		errs = append(errs, fmt.Errorf("machine ID %q has not 32 hexadecimal digits", n))
	}
	return errors.Join(errs...)
}

// renewNames writes the names of id below t.
func (t tree) renewNames(id control.Identity) error {
	if id.MachineID == "" {
		id.MachineID = derive("machine-id", id.Entropy)
	}
	return t.writeNames(id.Hostname, id.MachineID)
}

// bootID is a random UUID (RFC 9562, 5.4) of the host's entropy.
func bootID(entropy []byte) string {
	d := []byte(derive("boot-id", entropy))
	d[12], d[16] = '4', "89ab"[d[16]%4]
	return fmt.Sprintf("%s-%s-%s-%s-%s", d[:8], d[8:12], d[12:16], d[16:20], d[20:])
}

// renewBootID lays file with id in it over the kernel's at path, which cannot be set. Where it lies there already it is written anew.
func renewBootID(file, path, id string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(file, []byte(id+"\n"), 0o444); err != nil {
		return err
	}
	over, err := os.Stat(path)
	if err != nil {
		return err
	}
	own, err := os.Stat(file)
	if err != nil || os.SameFile(over, own) {
		return err
	}
	return unix.Mount(file, path, "", unix.MS_BIND, "")
}
