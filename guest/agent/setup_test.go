//go:build linux

package agent

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"capsid/guest/control"

	"golang.org/x/sys/unix"
)

// newTree is a small system below a temporary folder.
func newTree(t *testing.T) (tree, string) {
	t.Helper()
	dir := t.TempDir()
	for name, body := range map[string]string{
		"etc/passwd":                        "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\ngames:x:1000:60:games:/usr/games:/bin/sh\n",
		"etc/group":                         "root:x:0:\nusers:x:100:\nsudo:x:27:\ntester:x:55:\n",
		"etc/shadow":                        "root:*:1:0:99999:7:::\n",
		"etc/skel/.bashrc":                  "# bashrc\n",
		"etc/skel/.config/a":                "a\n",
		"etc/environment":                   "LANG=de\nSSL_CERT_FILE=/old\n",
		"etc/ssl/certs/ca-certificates.crt": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
	} {
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tr, err := openTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tr.root.Close() })
	return tr, dir
}

func text(t *testing.T, parts ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func testUser() control.User {
	uid := uint32(os.Getuid())
	gid := uint32(os.Getgid())
	if uid == 0 {
		uid, gid = 1000, 1001
	}
	return control.User{Name: "tester", UID: uid, GID: gid, Home: "/home/tester"}
}

func TestAddUser(t *testing.T) {
	tr, dir := newTree(t)
	u := testUser()
	for range 2 { // a machine that starts again has the user already
		a, err := tr.addUser(u)
		if err != nil {
			t.Fatal(err)
		}
		if a.uid != u.UID || a.home != u.Home || !slices.Equal(a.groups, []uint32{27}) {
			t.Errorf("got %+v", a)
		}
		lines := strings.Split(text(t, dir, "etc/passwd"), "\n")
		if want := fmt.Sprintf("tester:x:%d:%d::/home/tester:/bin/bash", u.UID, u.GID); lines[1] != want || len(lines) != 5 {
			t.Errorf("passwd: %q", lines)
		}
		group := text(t, dir, "etc/group")
		if !strings.Contains(group, "sudo:x:27:tester\n") || strings.Count(group, fmt.Sprintf(":%d:", u.GID)) != 1 {
			t.Errorf("group: %q", group)
		}
		if s := text(t, dir, "etc/shadow"); strings.Count(s, "tester:*:") != 1 {
			t.Errorf("shadow: %q", s)
		}
		if s := text(t, dir, "etc/sudoers.d/capsid"); !strings.Contains(s, fmt.Sprintf("#%d ALL=(ALL:ALL) NOPASSWD: ALL\n", u.UID)) {
			t.Errorf("sudoers: %q", s)
		}
		if s := text(t, dir, "home/tester/.bashrc"); s != "# bashrc\n" {
			t.Errorf("bashrc: %q", s)
		}
		if s := text(t, dir, "home/tester/.config/a"); s != "a\n" {
			t.Errorf("skel: %q", s)
		}
	}
	st, err := os.Stat(filepath.Join(dir, "etc/sudoers.d/capsid"))
	if err != nil || st.Mode().Perm() != 0o440 {
		t.Errorf("sudoers: %v, %v", st, err)
	}
	if path, err := exec.LookPath("visudo"); err == nil && os.Getuid() == 0 {
		if out, err := exec.Command(path, "-cf", filepath.Join(dir, "etc/sudoers.d/capsid")).CombinedOutput(); err != nil {
			t.Errorf("visudo: %s", out)
		}
	}
}

func TestCheckSetup(t *testing.T) {
	good := control.Setup{Hostname: "h-1", User: control.User{Name: "a.b", UID: 5, Home: "/home/a.b"}, Time: time.Now(), Mounts: []control.Mount{{Tag: "w", Path: "/root/project"}}}
	if err := checkSetup(good); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*control.Setup){
		"hostname":       func(s *control.Setup) { s.Hostname = "a\n127.0.0.1 b" },
		"no hostname":    func(s *control.Setup) { s.Hostname = "" },
		"root":           func(s *control.Setup) { s.User.UID = 0 },
		"name of root":   func(s *control.Setup) { s.User.Name = "root" },
		"name":           func(s *control.Setup) { s.User.Name = "a:b" },
		"home":           func(s *control.Setup) { s.User.Home = "home" },
		"home is root":   func(s *control.Setup) { s.User.Home = "/" },
		"time":           func(s *control.Setup) { s.Time = time.Time{} },
		"relative mount": func(s *control.Setup) { s.Mounts[0].Path = "x" },
		"mount at root":  func(s *control.Setup) { s.Mounts[0].Path = "/" },
		"mount at proc":  func(s *control.Setup) { s.Mounts[0].Path = "/proc/x" },
		"mount at usr":   func(s *control.Setup) { s.Mounts[0].Path = "/usr/" },
		"no tag":         func(s *control.Setup) { s.Mounts[0].Tag = "" },
	} {
		s := good
		s.Mounts = slices.Clone(good.Mounts)
		change(&s)
		if checkSetup(s) == nil {
			t.Errorf("%s: was accepted", name)
		}
	}
}

func TestSeed(t *testing.T) {
	tr, dir := newTree(t)
	a, err := tr.addUser(testUser())
	if err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(dir, "outside")
	if err := os.Mkdir(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(dir, "home/tester")
	for link, to := range map[string]string{"away": "../../outside", "absolute": "/outside", "inside": ".config", "file": "../../outside/f"} {
		if err := os.Symlink(to, filepath.Join(home, link)); err != nil {
			t.Fatal(err)
		}
	}
	files := []control.File{
		{Path: "~/.claude.json", Mode: 0o600, Content: []byte("{}")},
		{Path: "~/new/deep/file", Content: []byte("deep")},
		{Path: "/home/tester/.config/b", Mode: 0o755, Content: []byte("b")},
		{Path: "/opt/tool/c", Content: []byte("c")},
		{Path: "~/inside/d", Content: []byte("d")},
		{Path: "~/file", Content: []byte("replaced")}, // the link is replaced, and not written through
	}
	for range 2 {
		if err := tr.seed(a, files); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"home/tester/.claude.json": "{}", "home/tester/new/deep/file": "deep", "home/tester/.config/b": "b", "opt/tool/c": "c", "home/tester/.config/d": "d", "home/tester/file": "replaced",
	} {
		if got := text(t, dir, name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	if st, err := os.Stat(filepath.Join(home, ".claude.json")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	for _, path := range []string{"~/away/x", "~/absolute/x", "~/../../outside/x", "~/", "relative", "/", "/../../../x\x00"} {
		err := tr.seed(a, []control.File{{Path: path, Content: []byte("bad")}})
		if path == "~/../../outside/x" {
			continue // cleaned: it is ~/outside/x
		}
		if err == nil {
			t.Errorf("%s was written", path)
		}
	}
	if left, _ := os.ReadDir(outside); len(left) != 0 {
		t.Errorf("outside of the home folder: %v", left)
	}
}

func certificate(t *testing.T, name pkix.Name) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: name, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestTrust(t *testing.T) {
	tr, dir := newTree(t)
	cert := certificate(t, pkix.Name{CommonName: "Capsid  of  Ärger", Organization: []string{"Some Body", "Another"}, Country: []string{"DE"}})
	other := certificate(t, pkix.Name{CommonName: "Capsid  of  Ärger", Organization: []string{"some body", "Another"}, Country: []string{"DE"}})
	for range 2 {
		if err := tr.trust(append(slices.Clone(cert), other...)); err != nil {
			t.Fatal(err)
		}
	}
	bundle := text(t, dir, bundlePath)
	if strings.Count(bundle, string(cert)) != 1 || !strings.HasPrefix(bundle, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n") {
		t.Errorf("bundle: %q", bundle)
	}
	if own := text(t, dir, ownPath); own != string(cert)+string(other) {
		t.Errorf("own: %q", own)
	}
	if path, err := exec.LookPath("openssl"); err == nil {
		out, err := exec.Command(path, "x509", "-noout", "-subject_hash", "-in", filepath.Join(dir, ownPath)).Output()
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range [][]byte{cert, other} {
			if got := text(t, dir, "etc/ssl/certs", fmt.Sprintf("%s.%d", strings.TrimSpace(string(out)), i)); got != string(want) {
				t.Errorf("by hash, %d: %q", i, got)
			}
		}
	}
	if err := tr.trust([]byte("no certificate")); err == nil {
		t.Error("took what is no certificate")
	}
	if err := tr.environmentFiles(); err != nil {
		t.Fatal(err)
	}
	env := text(t, dir, "etc/environment")
	if !strings.HasPrefix(env, "LANG=de\n") || strings.Contains(env, "/old") || !strings.Contains(env, "SSL_CERT_FILE="+bundlePath+"\n") {
		t.Errorf("environment: %q", env)
	}
	out, err := exec.Command("sh", "-c", ". "+filepath.Join(dir, "etc/profile.d/capsid.sh")+"; echo $NODE_EXTRA_CA_CERTS $PATH").Output()
	if err != nil || !strings.HasPrefix(string(out), ownPath+" ") {
		t.Errorf("profile: %q, %v", out, err)
	}
}

func TestIdentity(t *testing.T) {
	tr, dir := newTree(t)
	if err := os.Symlink("/somewhere/else", filepath.Join(dir, "etc/hostname")); err != nil {
		t.Fatal(err)
	}
	if err := tr.writeIdentity("box", []byte("one")); err != nil {
		t.Fatal(err)
	}
	first := text(t, dir, "etc/machine-id")
	if text(t, dir, "etc/hostname") != "box\n" || !strings.Contains(text(t, dir, "etc/hosts"), "127.0.1.1\tbox\n") || len(first) != 33 {
		t.Error("identity is not written")
	}
	if err := tr.writeIdentity("box", []byte("two")); err != nil {
		t.Fatal(err)
	}
	if text(t, dir, "etc/machine-id") == first {
		t.Error("two machines have the same number")
	}
}

func TestRenewNames(t *testing.T) {
	tr, dir := newTree(t)
	id := control.Identity{Hostname: "child", Entropy: []byte(strings.Repeat("a", 32))}
	for _, step := range []struct {
		entropy, machineID string
		same               bool // as that before
	}{{"a", "", false}, {"a", "", true}, {"b", "", false}, {"b", strings.Repeat("0f", 16), false}} {
		before, _ := os.ReadFile(filepath.Join(dir, "etc/machine-id"))
		id.Entropy, id.MachineID = []byte(strings.Repeat(step.entropy, 32)), step.machineID
		if err := tr.renewNames(id); err != nil {
			t.Fatal(err)
		}
		got := text(t, dir, "etc/machine-id")
		if (got == string(before)) != step.same || len(got) != 33 || step.machineID != "" && got != step.machineID+"\n" {
			t.Errorf("%+v: machine ID %q after %q", step, got, before)
		}
		if text(t, dir, "etc/hostname") != "child\n" {
			t.Error("the hostname is not written")
		}
	}
}

func TestBootID(t *testing.T) {
	a, b := bootID([]byte("a")), bootID([]byte("b"))
	if a == b || !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(a) {
		t.Errorf("%s, %s", a, b)
	}
	dir := t.TempDir()
	file, path := filepath.Join(dir, "own", "boot_id"), filepath.Join(dir, "kernel")
	if err := os.WriteFile(path, []byte("kernel's\n"), 0o444); err != nil {
		t.Fatal(err)
	}
	if err := renewBootID(file, path, a); errors.Is(err, unix.EPERM) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(path, unix.MNT_DETACH)
	if got := text(t, path); got != a+"\n" {
		t.Errorf("boot ID %q", got)
	}
	if err := renewBootID(file, path, b); err != nil || text(t, path) != b+"\n" {
		t.Errorf("renewed again: %q, %v", text(t, path), err)
	}
	if err := unix.Unmount(path, 0); err != nil || text(t, path) != "kernel's\n" {
		t.Errorf("it lies there more than once: %v", err)
	}
}

func TestLockDown(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "kernel"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"modules_disabled", "sysrq"} {
		if err := os.WriteFile(filepath.Join(dir, "kernel", name), []byte("9\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// What this kernel lacks is not claimed.
	if got, want := lockDown(dir), []string{"no kernel modules can be loaded", "SysRq off"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEnvironment(t *testing.T) {
	a := account{name: "u", home: "/home/u", shell: "/bin/sh"}
	env := a.environment([]string{"A=1", "PATH=/x", "broken", "=bad", "NUL=a\x00b"}, []string{"A=2"})
	for _, want := range []string{"A=2", "PATH=/x", "HOME=/home/u", "USER=u"} {
		if !slices.Contains(env, want) {
			t.Errorf("%s is not in %q", want, env)
		}
	}
	if len(env) != 7 {
		t.Errorf("got %q", env)
	}
}

func TestWantedProcessors(t *testing.T) {
	for in, want := range map[string]int{"": 1, "quiet capsid.cpus=4 x": 4, "capsid.cpus=0": 1, "capsid.cpus=x": 1, "capsid.cpus=9999": 1} {
		if got := wantedProcessors(in); got != want {
			t.Errorf("%q: got %d, want %d", in, got, want)
		}
	}
}
