//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// readDisk reads the disk as QEMU and Linux do: it joins the extents and follows the directory.
func readDisk(t *testing.T, vmdk string) map[string][]byte {
	t.Helper()
	text, err := os.ReadFile(vmdk)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text, []byte("\n\n")) {
		t.Error("QEMU takes the line after an empty one twice")
	}
	var disk []byte
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) != 5 || f[2] != "FLAT" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(filepath.Dir(vmdk), strings.Trim(f[3], `"`)))
		if err != nil {
			t.Fatal(err)
		}
		sectors := 0
		for _, digit := range f[1] {
			sectors = sectors*10 + int(digit-'0')
		}
		disk = append(disk, b...)
		if rest := sectors*512 - len(b); rest < 0 {
			t.Fatalf("%s is longer than its extent", f[3])
		} else {
			disk = append(disk, make([]byte, rest)...)
		}
	}
	primary := disk[16*isoSector:]
	if string(primary[1:6]) != "CD001" || int(binary.LittleEndian.Uint32(primary[80:]))*isoSector != len(disk) {
		t.Fatalf("descriptor %q, disk of %d bytes", primary[:200], len(disk))
	}
	root := binary.LittleEndian.Uint32(primary[156+2:])
	files := map[string][]byte{}
	for dir := disk[root*isoSector:][:isoSector]; len(dir) > 0 && dir[0] > 0; dir = dir[dir[0]:] {
		at, size := binary.LittleEndian.Uint32(dir[2:])*isoSector, binary.LittleEndian.Uint32(dir[10:])
		if dir[25]&2 == 0 {
			files[string(dir[33:33+dir[32]])] = disk[at : at+size]
		}
	}
	return files
}

func TestDisk(t *testing.T) {
	dir, work := t.TempDir(), t.TempDir()
	want := map[string][]byte{
		"empty":         nil,
		"a.file":        []byte("small"),
		"manifest.json": bytes.Repeat([]byte("x"), isoSector),
		"UPPER lower":   bytes.Repeat([]byte("y"), isoSector+1),
		"whole.large":   bytes.Repeat([]byte("0123"), largeFile/4),
		"odd.large":     bytes.Repeat([]byte("0123"), largeFile/4+1),
	}
	for name, b := range want {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	path, err := writeDisk(work, dir)
	if err != nil {
		t.Fatal(err)
	}
	got := readDisk(t, path)
	if len(got) != len(want) {
		t.Errorf("%d files, want %d", len(got), len(want))
	}
	for name, b := range want {
		if !bytes.Equal(got[name], b) {
			t.Errorf("%s differs: %d bytes", name, len(got[name]))
		}
	}
	if info, err := os.Stat(filepath.Join(work, "head.img")); err != nil || info.Size() > largeFile/2 {
		t.Errorf("large files were copied: %v, %v", info.Size(), err)
	}
}

func TestDiskRefuses(t *testing.T) {
	for name, fill := range map[string]func(dir string) error{
		"a long name": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, strings.Repeat("n", maxName+1)), nil, 0o644)
		},
		"many files": func(dir string) error {
			for i := range maxNames + 1 {
				if err := os.WriteFile(filepath.Join(dir, strings.Repeat("n", i+1)), nil, 0o644); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		dir := t.TempDir()
		if err := fill(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := writeDisk(t.TempDir(), dir); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	// The most that is allowed fits.
	dir := t.TempDir()
	for i := range maxNames {
		if err := os.WriteFile(filepath.Join(dir, strings.Repeat("n", maxName-2)+string(rune('a'+i/10))+string(rune('0'+i%10))), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	path, err := writeDisk(t.TempDir(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(readDisk(t, path)); got != maxNames {
		t.Errorf("%d files of %d", got, maxNames)
	}
}
