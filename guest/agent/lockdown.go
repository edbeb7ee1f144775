//go:build linux

package agent

import (
	"os"
	"path/filepath"
	"strings"
)

// lock is one setting of the kernel that only the start needed otherwise.
type lock struct {
	file, value string
	name        string // as people read it
}

func locks() []lock {
	return []lock{
		{"kernel/modules_disabled", "1", "no kernel modules can be loaded"},
		{"kernel/kexec_load_disabled", "1", "no other kernel can be started"},
		{"kernel/sysrq", "0", "SysRq off"},
		{"kernel/dmesg_restrict", "1", "kernel log for root only"},
		{"kernel/kptr_restrict", "2", "kernel addresses hidden"},
		{"kernel/yama/ptrace_scope", "1", "ptrace of descendants only"},
		{"kernel/unprivileged_bpf_disabled", "1", "BPF for root only"},
		{"kernel/perf_event_paranoid", "3", "perf events for root only"},
		{"net/core/bpf_jit_harden", "2", "BPF constants blinded"},
		{"fs/protected_hardlinks", "1", "hard links protected"},
		{"fs/protected_symlinks", "1", "symbolic links protected"},
		{"fs/protected_fifos", "2", "FIFOs protected"},
		{"fs/protected_regular", "2", "files in shared folders protected"},
		{"fs/suid_dumpable", "0", "no core dumps of privileged programs"},
		{"kernel/core_pattern", "core", "core dumps start no program"},
	}
}

// lockDown sets them below dir, which is /proc/sys, and returns the names of those that are in force: what was written is read back.
func lockDown(dir string) []string {
	var in []string
	for _, l := range locks() {
		at := filepath.Join(dir, l.file)
		if f, err := os.OpenFile(at, os.O_WRONLY, 0); err == nil {
			_, _ = f.WriteString(l.value)
			_ = f.Close()
		}
		now, err := os.ReadFile(at)
		if err == nil && strings.TrimSpace(string(now)) == l.value {
			in = append(in, l.name)
		}
	}
	return in
}
