//go:build linux

package main

import (
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// program writes an ELF file that is nothing but a header.
func program(t *testing.T, machine elf.Machine) string {
	t.Helper()
	h := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: 1, Ehsize: 64}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	path := filepath.Join(t.TempDir(), "program")
	b, err := binary.Append(nil, binary.LittleEndian, h)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestChooseTarget(t *testing.T) {
	amd, arm := program(t, elf.EM_X86_64), program(t, elf.EM_AARCH64)
	for _, c := range []struct {
		flag, program, want string
	}{
		{"", amd, "amd64"}, {"", arm, "arm64"}, {"arm64", amd, "arm64"}, {"amd64", "bash", "amd64"},
		{"", "bash", runtime.GOARCH}, {"", "no such program", runtime.GOARCH}, {"", program(t, elf.EM_RISCV), runtime.GOARCH},
		{"riscv64", amd, ""},
	} {
		got, err := chooseTarget(options{arch: c.flag, command: []string{c.program}})
		if got.arch != c.want || (err == nil) != (c.want != "") {
			t.Errorf("-arch %q, %s: %q, %v", c.flag, filepath.Base(c.program), got.arch, err)
		}
	}
	for _, other := range targets {
		if !other.foreign() {
			continue
		}
		if _, err := chooseTarget(options{arch: other.arch, command: []string{"bash"}, shell: true}); err == nil {
			t.Errorf("a shell on %s", other.arch)
		}
		if _, err := other.init(); err == nil || !strings.Contains(err.Error(), "make lab-"+other.arch) {
			t.Errorf("its init: %v", err)
		}
	}
}
