package vmmtest

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"capsid/vmm"
	"capsid/vmm/disk"
)

// layersText is how many bytes of the disk of layers are looked at: the blocks of its lower layers.
const layersText = 4 * disk.BlockSize

// makeLayers is a disk of three layers: the bottom has A's, the one above it B's in the second block and zeros in the third, and the top is empty.
func makeLayers(t testing.TB, dir string) vmm.Disk {
	t.Helper()
	d := vmm.Disk{Layers: []string{filepath.Join(dir, "bottom"), filepath.Join(dir, "middle"), filepath.Join(dir, "top")}}
	for _, path := range d.Layers {
		if err := disk.Create(path, diskSize); err != nil {
			t.Fatal(err)
		}
	}
	for i, b := range [][]byte{bytes.Repeat([]byte("A"), layersText), append(bytes.Repeat([]byte("B"), disk.BlockSize), make([]byte, disk.BlockSize)...)} {
		f, err := os.OpenFile(d.Layers[i], os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(b, int64(i*disk.BlockSize)); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return d
}

// layers: a machine sees through a disk's layers and writes the uppermost only.
func layers(t *testing.T, m *machine) {
	block := func(s string) string { return strings.Repeat(s, disk.BlockSize) }
	want := []string{block("A"), block("B"), block("\x00"), block("A")}
	check := func(what string) {
		t.Helper()
		a := m.ask(t, request{Op: "read", Disk: "vdc", Count: layersText})
		for i, w := range want {
			if got := a.Text[i*disk.BlockSize:][:disk.BlockSize]; got != w {
				t.Errorf("%s: block %d reads %.8q…%.8q", what, i, got, got[disk.BlockSize-8:])
			}
		}
	}
	d := m.cfg.Disks[2]
	var before [2][]byte
	for i := range before {
		before[i] = readFile(t, d.Layers[i])
	}
	if a := m.ask(t, request{Op: "disk", Disk: "vdc"}); a.ReadOnly || a.Size != diskSize || a.Cache != "write back" {
		t.Errorf("vdc: %+v", a)
	}
	check("at first")
	m.ask(t, request{Op: "write", Disk: "vdc", Text: "written"})
	want[0] = "written" + want[0][7:]
	check("after a write")
	// After the FLUSH the host has it, with the rest of the block.
	if top := readFile(t, d.Layers[2]); !bytes.HasPrefix(top, []byte(want[0])) {
		t.Errorf("the top begins %.20q", top)
	}
	m.ask(t, request{Op: "zero", Disk: "vdc", Count: 2 * disk.BlockSize})
	want[0], want[1] = block("\x00"), block("\x00")
	check("after zeroing")
	m.ask(t, request{Op: "write", Disk: "vdc", Text: "kept"})
	want[0] = "kept" + want[0][4:]
	for i := range before {
		if !bytes.Equal(before[i], readFile(t, d.Layers[i])) {
			t.Errorf("layer %d was written", i)
		}
	}
}

// layersKept: what the machine wrote is there after its end, and the layers are free for others.
func layersKept(t *testing.T, m *machine) {
	s, err := disk.OpenPaths(m.cfg.Disks[2].Layers, false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got := make([]byte, 8)
	if _, err := s.ReadAt(got, 0); err != nil || string(got) != "kept\x00\x00\x00\x00" {
		t.Errorf("%q, %v", got, err)
	}
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
