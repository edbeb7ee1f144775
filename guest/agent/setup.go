//go:build linux

package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"capsid/guest/agent/egress"
	"capsid/guest/control"

	"golang.org/x/sys/unix"
)

// setup gives the machine its identity, in the order in which one thing needs another: randomness before anything draws some, the user
// before what belongs to it, the network last of all that could be tried, and the locks when nothing needs the keys any more.
func (m *machine) setup(_ context.Context, s control.Setup) (control.SetupResult, account, []string, error) {
	var r control.SetupResult
	fail := func(err error) (control.SetupResult, account, []string, error) {
		m.log("setup: %v", err)
		return control.SetupResult{}, account{}, nil, err
	}
	if err := checkSetup(s); err != nil {
		return fail(err)
	}
	m.steps.done("wait for the host")
	if err := addEntropy(s.Entropy); err != nil {
		return fail(err)
	}
	if err := setClock(s.Time); err != nil {
		return fail(fmt.Errorf("clock: %w", err))
	}
	root, err := openTree("/")
	if err != nil {
		return fail(err)
	}
	defer root.root.Close()
	if err := unix.Sethostname([]byte(s.Hostname)); err != nil {
		return fail(fmt.Errorf("hostname: %w", err))
	}
	if err := root.writeIdentity(s.Hostname, s.Entropy); err != nil {
		return fail(fmt.Errorf("identity: %w", err))
	}
	m.steps.done("identity")
	user, err := root.addUser(s.User)
	if err != nil {
		return fail(err)
	}
	if err := root.seed(user, s.Files); err != nil {
		return fail(err)
	}
	m.steps.done("user")
	if len(s.CA) > 0 {
		err := errors.Join(root.trust(s.CA), root.environmentFiles())
		if err != nil {
			return fail(fmt.Errorf("trust: %w", err))
		}
		m.steps.done("certificates")
	}
	<-m.complete
	m.steps.done("processors and modules")
	for _, mt := range s.Mounts {
		p, err := mountShare(m.link, mt, m.log)
		if err != nil {
			return fail(err)
		}
		m.shares.add(p)
		m.unmount = append(m.unmount, mt.Path)
		m.steps.done("folder " + filepath.Base(mt.Path))
	}
	r.Warnings = append(r.Warnings, hidden(user, s)...)
	if m.egress == nil {
		if m.egress, err = egress.Start(egress.Config{Link: m.link, Log: m.log}); err != nil {
			return fail(fmt.Errorf("network: %w", err))
		}
	}
	if err := root.write("etc/resolv.conf", []byte("nameserver "+egress.Resolver+"\noptions edns0\n"), 0o644); err != nil {
		return fail(fmt.Errorf("network: %w", err))
	}
	m.steps.done("network")
	r.Lockdown = lockDown("/proc/sys")
	m.steps.done("lockdown")

	r.Steps = m.steps.all()
	r.Kernel, r.Versions = versions(root)
	r.Warnings = append(r.Warnings, m.warnings...)
	m.trusted = len(s.CA) > 0
	return r, user, m.environment(s.Env), nil
}

// environment is the session's: what leads programs to the certificate goes before.
func (m *machine) environment(env []string) []string {
	if m.trusted {
		return append(trustEnv(), env...)
	}
	return env
}

func checkSetup(s control.Setup) error {
	errs := []error{checkHostname(s.Hostname), checkUser(s.User)}
	if s.Time.IsZero() {
		errs = append(errs, errors.New("setup has no time"))
	}
	for _, m := range s.Mounts {
		errs = append(errs, checkMount(m))
	}
	return errors.Join(errs...)
}

// hidden warns of seeded files that a mounted folder covers. They were written before it was mounted, so as never to write into the host's folder.
func hidden(user account, s control.Setup) []string {
	var out []string
	for _, f := range s.Files {
		at := f.Path
		if rest, ok := strings.CutPrefix(at, "~/"); ok {
			at = filepath.Join(user.home, rest)
		}
		for _, m := range s.Mounts {
			if strings.HasPrefix(filepath.Clean(at), filepath.Clean(m.Path)+"/") {
				out = append(out, fmt.Sprintf("the file %s is covered by the folder %s", f.Path, m.Path))
			}
		}
	}
	return out
}

// versions names the kernel and what the image is made of.
func versions(t tree) (kernel string, v map[string]string) {
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		kernel = unix.ByteSliceToString(u.Release[:])
	}
	v = make(map[string]string)
	for file, prefix := range map[string]string{"usr/lib/os-release": "PRETTY_NAME=", "etc/capsid/versions": ""} {
		raw, err := t.read(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(raw)) {
			rest, ok := strings.CutPrefix(strings.TrimSpace(line), prefix)
			if !ok {
				continue
			}
			if name, version, found := strings.Cut(rest, "="); found && prefix == "" {
				v[name] = version
			} else if prefix != "" {
				v["os"] = strings.Trim(rest, `"`)
			}
		}
	}
	return kernel, v
}
