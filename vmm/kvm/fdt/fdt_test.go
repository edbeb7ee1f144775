package fdt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// machine is a tree like that of a virtual machine: all kinds of properties, nodes that point to another, a reservation.
func machine() *Tree {
	t := New()
	t.BootCPU = 0
	t.Reserved = []Reservation{{0x4000_0000, 0x1000}, {0x1_2345_6000, 0x2000}}
	r := t.Root
	r.U32("#address-cells", 2)
	r.U32("#size-cells", 2)
	r.Text("compatible", "linux,dummy-virt")
	r.Text("model", "capsid")
	chosen := r.Node("chosen")
	chosen.Text("bootargs", "quiet panic=-1")
	chosen.U64("linux,initrd-start", 0x48000000)
	chosen.Raw("rng-seed", []byte{1, 2, 3, 4, 5, 6, 7})
	memory := r.Node("memory@40000000")
	memory.Text("device_type", "memory")
	memory.U64("reg", 0x40000000, 0x1_0000_0000)
	cpus := r.Node("cpus")
	cpus.U32("#address-cells", 1)
	cpus.U32("#size-cells", 0)
	for i := range uint32(2) {
		cpu := cpus.Node(fmt.Sprintf("cpu@%x", i))
		cpu.Text("device_type", "cpu")
		cpu.Text("compatible", "arm,armv8")
		cpu.Text("enable-method", "psci")
		cpu.U32("reg", i)
	}
	gic := r.Node("intc@8000000")
	gic.Text("compatible", "arm,gic-v3")
	gic.Flag("interrupt-controller")
	gic.U32("#interrupt-cells", 3)
	gic.U32("#address-cells", 0)
	gic.U64("reg", 0x8000000, 0x10000, 0x80a0000, 0xf60000)
	r.U32("interrupt-parent", t.Handle(gic))
	psci := r.Node("psci")
	psci.Text("compatible", "arm,psci-1.0", "arm,psci-0.2")
	psci.Text("method", "hvc")
	virtio := r.Node("virtio_mmio@a000000")
	virtio.Text("compatible", "virtio,mmio")
	virtio.U64("reg", 0xa000000, 0x200)
	virtio.U32("interrupts", 0, 16, 1)
	virtio.U32("interrupt-parent", t.Handle(gic))
	virtio.Flag("dma-coherent")
	return t
}

// dtc is the device tree compiler, which knows nothing of this package.
func dtc(t *testing.T, in []byte, args ...string) []byte {
	t.Helper()
	path, err := exec.LookPath("dtc")
	if err != nil {
		t.Fatal("dtc is missing; apt-get install device-tree-compiler")
	}
	var out, complaints bytes.Buffer
	cmd := exec.CommandContext(t.Context(), path, append(args, "-")...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &complaints
	if err := cmd.Run(); err != nil || complaints.Len() > 0 {
		t.Errorf("dtc %v: %v\n%s", args, err, complaints.Bytes())
	}
	return out.Bytes()
}

func TestDTC(t *testing.T) {
	blob, err := machine().Bytes()
	if err != nil {
		t.Fatal(err)
	}
	source := string(dtc(t, blob, "-I", "dtb", "-O", "dts"))
	source = regexp.MustCompile(`\s+`).ReplaceAllString(source, " ")
	for _, want := range []string{
		"/memreserve/ 0x0000000040000000 0x0000000000001000; /memreserve/ 0x0000000123456000 0x0000000000002000; / {",
		`#address-cells = <0x02>; #size-cells = <0x02>; compatible = "linux,dummy-virt"; model = "capsid"; interrupt-parent = <0x01>;`,
		`chosen { bootargs = "quiet panic=-1"; linux,initrd-start = <0x00 0x48000000>; rng-seed = [01 02 03 04 05 06 07]; };`,
		`memory@40000000 { device_type = "memory"; reg = <0x00 0x40000000 0x01 0x00>; };`,
		`cpu@1 { device_type = "cpu"; compatible = "arm,armv8"; enable-method = "psci"; reg = <0x01>; }; };`,
		`intc@8000000 { compatible = "arm,gic-v3"; interrupt-controller; #interrupt-cells = <0x03>; #address-cells = <0x00>; reg = <0x00 0x8000000 0x00 0x10000 0x00 0x80a0000 0x00 0xf60000>; phandle = <0x01>; };`,
		`compatible = "arm,psci-1.0\0arm,psci-0.2";`,
		`interrupts = <0x00 0x10 0x01>; interrupt-parent = <0x01>; dma-coherent; }; };`,
	} {
		if !strings.Contains(source, want) {
			t.Errorf("no %s in\n%s", want, source)
		}
	}
	// What dtc writes of what it has read is the same to the byte.
	if again := dtc(t, blob, "-I", "dtb", "-O", "dtb"); !bytes.Equal(again, blob) {
		t.Errorf("dtc writes %d bytes, not the same %d", len(again), len(blob))
	}
}

func TestHeader(t *testing.T) {
	tree := New()
	tree.BootCPU = 3
	blob, err := tree.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	var words []uint32
	for b := blob[:40]; len(b) > 0; b = b[4:] {
		words = append(words, binary.BigEndian.Uint32(b))
	}
	// An empty tree: the reservations' end at 40, four words of structure at 56, no strings.
	if want := []uint32{0xd00dfeed, 72, 56, 72, 40, 17, 16, 3, 0, 16}; fmt.Sprint(words) != fmt.Sprint(want) || len(blob) != 72 {
		t.Errorf("%d bytes, header %v, want %v", len(blob), words, want)
	}
	if want := []byte("\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x09"); !bytes.Equal(blob[56:], want) {
		t.Errorf("structure % x", blob[56:])
	}
}

func TestRefused(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Tree)
	}{
		{"node without a name", func(t *Tree) { t.Root.Node("") }},
		{"node with a slash", func(t *Tree) { t.Root.Node("a/b") }},
		{"node without an address", func(t *Tree) { t.Root.Node("memory@") }},
		{"node with a long name", func(t *Tree) { t.Root.Node(strings.Repeat("a", 32)) }},
		{"two nodes of one name", func(t *Tree) { t.Root.Node("a"); t.Root.Node("a") }},
		{"property with a zero", func(t *Tree) { t.Root.Flag("a\x00b") }},
		{"property without a name", func(t *Tree) { t.Root.Flag("") }},
		{"property with a long name", func(t *Tree) { t.Root.Flag(strings.Repeat("a", 32)) }},
		{"two properties of one name", func(t *Tree) { t.Root.Flag("a"); t.Root.U32("a", 1) }},
		{"a large property", func(t *Tree) { t.Root.Raw("a", make([]byte, 2<<20)) }},
		{"many properties", func(t *Tree) {
			for i := range 3000 {
				t.Root.Raw(fmt.Sprint("p", i), make([]byte, 1024))
			}
		}},
		{"many reservations", func(t *Tree) { t.Reserved = make([]Reservation, 1<<17) }},
		{"a deep tree", func(t *Tree) {
			n := t.Root
			for range 64 {
				n = n.Node("a")
			}
		}},
		{"another root", func(t *Tree) { t.Root = t.Root.Node("a") }},
	} {
		tree := New()
		test.change(tree)
		if _, err := tree.Bytes(); !errors.Is(err, ErrTree) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}
