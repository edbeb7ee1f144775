package kvm

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"capsid/vmm"
	"capsid/vmm/kvm/acpi"
	"capsid/vmm/kvm/tinykernel"
)

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func tinyConfig(t testing.TB, code []byte) vmm.Config {
	t.Helper()
	dir := t.TempDir()
	kernel, initrd := filepath.Join(dir, "vmlinux"), filepath.Join(dir, "initrd.img")
	if err := errors.Join(os.WriteFile(kernel, tinykernel.New(code), 0o600), os.WriteFile(initrd, nil, 0o600)); err != nil {
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
		{"power off", tinykernel.Out(acpi.SleepControlPort, acpi.SleepOff), ""},
		{"reset register", tinykernel.Out(acpi.ResetPort, acpi.ResetValue), "the guest rebooted"},
		{"keyboard controller", tinykernel.Out(0x64, 0xfe), "the guest rebooted"},
		{"triple fault", []byte{0x0f, 0x01, 0x1d, 0, 0, 0, 0, 0x0f, 0x0b}, "the guest rebooted"}, // lidt [0]: no table; ud2
		{"panic", join(tinykernel.Say("Kernel panic - not syncing: no tea\n"), tinykernel.Out(acpi.ResetPort, acpi.ResetValue)), "no tea"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := startTiny(t, append(test.code, tinykernel.Rest()...))
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
	m := startTiny(t, append(tinykernel.Say("here\n"), tinykernel.Rest()...))
	for deadline := time.Now().Add(time.Minute); !slices.Equal(m.Console(1), []string{"here"}); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("console: %q", m.Console(1))
		}
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
	good := tinykernel.New(tinykernel.Rest())
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
