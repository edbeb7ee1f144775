package acpi

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// iasl runs ACPICA's compiler, which is an implementation that knows nothing of this one.
func iasl(t *testing.T, dir string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("iasl")
	if err != nil {
		t.Fatal("iasl is missing; apt-get install acpica-tools")
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("iasl %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// disassembled is the source that iasl makes of a table.
func disassembled(t *testing.T, dir, name string, table []byte) string {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name+".aml"), table, 0o600); err != nil {
		t.Fatal(err)
	}
	out := iasl(t, dir, "-d", name+".aml")
	source, err := os.ReadFile(filepath.Join(dir, name+".dsl"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out, "Error") || strings.Contains(string(source), "Unresolved") || strings.Contains(string(source), "Invalid") {
		t.Errorf("%s: iasl has doubts:\n%s\n%s", name, out, source)
	}
	return string(source)
}

// declared is what source has between the braces of a device.
func declared(t *testing.T, source, device string) string {
	t.Helper()
	_, rest, ok := strings.Cut(source, "Device ("+device+")")
	if !ok {
		t.Fatalf("there is no device %s", device)
	}
	rest, _, _ = strings.Cut(rest, "\n        Device (")
	return rest
}

func TestDisassembly(t *testing.T) {
	withGSI := ordinary()
	withGSI.COM1.GSI = 3
	many := ordinary()
	many.Virtio = nil
	for i := range uint32(100) { // more than 4 KiB: longer lengths
		many.Virtio = append(many.Virtio, VirtioSlot{Base: 0xd0000000 + i<<12, Size: 0x200, GSI: 5 + i})
	}
	for name, c := range map[string]Config{"ordinary": ordinary(), "serial": withGSI, "many": many, "least": {CPUs: 1}} {
		t.Run(name, func(t *testing.T) {
			memory, err := Tables(c)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			tables := found(t, memory, DefaultBase)
			dsdt := disassembled(t, dir, "dsdt", tables["DSDT"])
			for _, other := range []string{"XSDT", "FACP", "APIC"} {
				disassembled(t, dir, strings.ToLower(other), tables[other])
			}
			// Names stay as they are written, -on: not shortened.
			if out := iasl(t, dir, "-on", "-p", "again", "dsdt.dsl"); !strings.Contains(out, " 0 Errors") && !strings.Contains(out, "successful") {
				t.Errorf("compiled again:\n%s", out)
			}
			again, err := os.ReadFile(filepath.Join(dir, "again.aml"))
			if err != nil {
				t.Fatal(err)
			}
			// The compiler puts its own name and the checksum into the header, and nothing else may differ.
			if string(again[headerSize:]) != string(tables["DSDT"][headerSize:]) {
				t.Errorf("compiled again it differs:\n% x\n% x", again[headerSize:], tables["DSDT"][headerSize:])
			}

			matches := func(text string, patterns ...string) {
				t.Helper()
				for _, p := range patterns {
					if !regexp.MustCompile(p).MatchString(text) {
						t.Errorf("no %q in\n%s", p, text)
					}
				}
			}
			matches(dsdt, `Name \(\\_S5, Package \(0x04\)[^}]*\{\s*0x05,`)
			if c.COM1 != nil {
				com := declared(t, dsdt, "COM1")
				matches(com, `"PNP0501"`, `IO \(Decode16,\s*0x03F8,[^)]*0x03F8,[^)]*0x08,`)
				if (c.COM1.GSI != 0) != strings.Contains(com, "Interrupt (") {
					t.Errorf("COM1 with GSI %d:\n%s", c.COM1.GSI, com)
				}
			}
			if n := strings.Count(dsdt, `"LNRO0005"`); n != len(c.Virtio) {
				t.Errorf("%d devices LNRO0005, want %d", n, len(c.Virtio))
			}
			const interrupt = `Interrupt \(ResourceConsumer, Edge, ActiveHigh, Exclusive[^{]*\{\s*`
			if len(c.Virtio) > 2 {
				matches(declared(t, dsdt, "V002"), `_UID, 0x02`, `_CCA, One`, `Memory32Fixed \(ReadWrite,\s*0xD0002000,[^)]*0x00000200,`, interrupt+`0x00000007,`)
			}
			if c.VMGen != nil {
				matches(declared(t, dsdt, "VGEN"), `"VM_Gen_Counter"`, `Method \(ADDR, 0, Serialized\)`, `Return \(Package \(0x02\)\s*\{\s*0x23456000,\s*One\s*\}`)
				matches(declared(t, dsdt, "GED"), `"ACPI0013"`, interrupt+`0x00000004,`, `Method \(_EVT, 1, Serialized\)`, `Notify \(\\_SB.VGEN, 0x80\)`)
			}
		})
	}
}
