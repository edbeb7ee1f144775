//go:build linux

package agent

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// searchPath is PATH of every program. Folders of administration are in it for the ordinary user too: it may use sudo.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// account is who a program runs as.
type account struct {
	name   string
	uid    uint32
	gid    uint32
	groups []uint32
	home   string
	shell  string
}

func rootAccount() account {
	return account{name: "root", home: "/root", shell: "/bin/bash"}
}

// credential is nil when this process is the account already and may not change it, as in tests by an ordinary user.
func (a account) credential() *syscall.Credential {
	if os.Geteuid() != 0 && uint32(os.Geteuid()) == a.uid {
		return nil
	}
	return &syscall.Credential{Uid: a.uid, Gid: a.gid, Groups: a.groups}
}

// environment is built from nothing; later entries win.
func (a account) environment(extra ...[]string) []string {
	env := []string{
		"HOME=" + a.home, "USER=" + a.name, "LOGNAME=" + a.name, "SHELL=" + a.shell,
		"PATH=" + filepath.Join(a.home, ".local/bin") + ":" + searchPath, "LANG=C.UTF-8",
	}
	for _, e := range extra {
		env = append(env, e...)
	}
	at := make(map[string]int, len(env))
	out := env[:0]
	for _, kv := range env {
		name, _, ok := strings.Cut(kv, "=")
		if !ok || name == "" || strings.ContainsRune(kv, 0) {
			continue
		}
		if i, seen := at[name]; seen {
			out[i] = kv
			continue
		}
		at[name] = len(out)
		out = append(out, kv)
	}
	return out
}

func lookEnv(env []string, name string) string {
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v
		}
	}
	return ""
}

// lookPath finds a program as execvp does, but in the PATH of env. The second result is the exit status that shells give
// when there is none: 127 not found, 126 found and not executable.
func lookPath(name, dir string, env []string) (string, int) {
	if strings.Contains(name, "/") {
		at := name
		if !filepath.IsAbs(at) {
			at = filepath.Join(dir, at)
		}
		return at, executable(at)
	}
	for _, d := range filepath.SplitList(lookEnv(env, "PATH")) {
		if !filepath.IsAbs(d) {
			d = filepath.Join(dir, d)
		}
		at := filepath.Join(d, name)
		if executable(at) == 0 {
			return at, 0
		}
	}
	return "", 127
}

func executable(path string) int {
	st, err := os.Stat(path)
	if err != nil {
		return 127
	}
	if st.IsDir() || st.Mode()&0o111 == 0 {
		return 126
	}
	return 0
}

// childLimits gives a child what services usually give: no protection from the out-of-memory killer, which the agent has,
// and room for open files.
func childLimits(pid int) {
	_ = unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 16384, Max: 1 << 20}, nil)
	if os.Getpid() == 1 {
		_ = os.WriteFile(procPath(pid, "oom_score_adj"), []byte("0"), 0)
	}
}
