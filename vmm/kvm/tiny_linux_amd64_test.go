package kvm

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"capsid/vmm"
	"capsid/vmm/kvm/acpi"
)

// tinyKernel is a vmlinux of a few instructions in 32-bit protected mode, entered by its PVH note.
func tinyKernel(code []byte) []byte {
	const (
		load   = 0x100000
		header = 64 + 2*56
	)
	note := binary.LittleEndian.AppendUint32(nil, 4) // length of the name
	note = binary.LittleEndian.AppendUint32(note, 4) // of the value
	note = binary.LittleEndian.AppendUint32(note, 18)
	note = append(note, "Xen\x00"...)
	note = binary.LittleEndian.AppendUint32(note, load)
	var b bytes.Buffer
	w := func(v any) { binary.Write(&b, binary.LittleEndian, v) }
	h := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Entry: load, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 2}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	w(h)
	w(elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: 7, Off: header, Vaddr: load, Paddr: load, Filesz: uint64(len(code)), Memsz: uint64(len(code)), Align: 1})
	w(elf.Prog64{Type: uint32(elf.PT_NOTE), Off: header + uint64(len(code)), Filesz: uint64(len(note)), Memsz: uint64(len(note)), Align: 4})
	b.Write(code)
	b.Write(note)
	return b.Bytes()
}

// out writes a byte to a port: mov dx, port; mov al, v; out dx, al.
func out(port uint16, v byte) []byte {
	return []byte{0x66, 0xba, byte(port), byte(port >> 8), 0xb0, v, 0xee}
}

// rest is where a kernel goes that waits: cli; l: hlt; jmp l.
var rest = []byte{0xfa, 0xf4, 0xeb, 0xfd}

func say(text string) (code []byte) {
	for _, c := range []byte(text) {
		code = append(code, out(0x3f8, c)...)
	}
	return code
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func tinyConfig(t testing.TB, code []byte) vmm.Config {
	t.Helper()
	dir := t.TempDir()
	kernel, initrd := filepath.Join(dir, "vmlinux"), filepath.Join(dir, "initrd.img")
	if err := errors.Join(os.WriteFile(kernel, tinyKernel(code), 0o600), os.WriteFile(initrd, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	return vmm.Config{Name: "tiny", Kernel: kernel, Initrd: initrd, CPUs: 1, Memory: 128 << 20, Dir: dir}
}

// needKVM skips where there is no /dev/kvm: what these guests do, any will do. In the lab it must be there.
func needKVM(t testing.TB) {
	t.Helper()
	if _, err := os.Stat(devicePath); err != nil && !inLab() {
		t.Skipf("%v; make lab has one", err)
	}
}

func startTiny(t testing.TB, code []byte) vmm.Machine {
	t.Helper()
	needKVM(t)
	m, err := Backend{}.Start(t.Context(), tinyConfig(t, code))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func TestHowMachinesEnd(t *testing.T) {
	tests := []struct {
		name string
		code []byte
		want string // empty: as it should
	}{
		{"power off", out(acpi.SleepControlPort, acpi.SleepOff), ""},
		{"reset register", out(acpi.ResetPort, acpi.ResetValue), "the guest rebooted"},
		{"keyboard controller", out(0x64, 0xfe), "the guest rebooted"},
		{"triple fault", []byte{0x0f, 0x01, 0x1d, 0, 0, 0, 0, 0x0f, 0x0b}, "the guest rebooted"}, // lidt [0]: no table; ud2
		{"panic", join(say("Kernel panic - not syncing: no tea\n"), out(acpi.ResetPort, acpi.ResetValue)), "no tea"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := startTiny(t, append(test.code, rest...))
			select {
			case <-m.Done():
			case <-time.After(time.Minute):
				t.Fatal("it goes on")
			}
			err := m.Err()
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, vmm.ErrCrashed) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("err: %v", err)
			}
		})
	}
}

// A kernel that does nothing costs the host little, and goes away when it is closed.
func TestRest(t *testing.T) {
	m := startTiny(t, append(say("here\n"), rest...))
	for deadline := time.Now().Add(time.Minute); len(m.Console(1)) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing on the console")
		}
	}
	if lines := m.Console(1); lines[0] != "here" {
		t.Errorf("console: %q", lines)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", m.Info().PID)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its process: %v", err)
	}
}

func TestBadKernels(t *testing.T) {
	needKVM(t)
	good := tinyKernel(rest)
	for name, kernel := range map[string][]byte{"empty": nil, "text": []byte("#!/bin/sh\n"), "cut short": good[:len(good)-8]} {
		t.Run(name, func(t *testing.T) {
			cfg := tinyConfig(t, nil)
			if err := os.WriteFile(cfg.Kernel, kernel, 0o600); err != nil {
				t.Fatal(err)
			}
			m, err := Backend{}.Start(t.Context(), cfg)
			if err == nil {
				m.Close()
			}
			if !errors.Is(err, vmm.ErrStart) {
				t.Errorf("err: %v", err)
			}
		})
	}
}

// BenchmarkStart is from the call to the end of a machine whose first instructions are its last; so it covers a process, a machine, its tables and
// devices, and the way back.
func BenchmarkStart(b *testing.B) {
	needKVM(b)
	cfg := tinyConfig(b, append(out(acpi.SleepControlPort, acpi.SleepOff), rest...))
	for b.Loop() {
		m, err := Backend{}.Start(b.Context(), cfg)
		if err != nil {
			b.Fatal(err)
		}
		<-m.Done()
		if err := m.Err(); err != nil {
			b.Fatal(err)
		}
	}
}
