package acpi

import (
	"encoding/binary"
	"errors"
	"math"
	"testing"
)

func ordinary() Config {
	c := Config{CPUs: 4, COM1: &Serial{Port: 0x3f8}, VMGen: &VMGenID{Address: 0x1_2345_6000, GSI: 4}}
	for i := range uint32(8) {
		c.Virtio = append(c.Virtio, VirtioSlot{Base: 0xd0000000 + i*0x1000, Size: 0x200, GSI: 5 + i})
	}
	return c
}

func sum(b []byte) (s byte) {
	for _, c := range b {
		s += c
	}
	return s
}

// found follows the pointers as a guest does, and checks each table on its way.
func found(t *testing.T, memory []byte, base uint64) map[string][]byte {
	t.Helper()
	u32, u64 := binary.LittleEndian.Uint32, binary.LittleEndian.Uint64
	rsdp := memory[:36]
	if string(rsdp[:8]) != "RSD PTR " || rsdp[15] != 2 || u32(rsdp[20:]) != 36 || u32(rsdp[16:]) != 0 {
		t.Fatalf("RSDP is % x", rsdp)
	}
	if sum(rsdp[:20]) != 0 || sum(rsdp) != 0 {
		t.Error("the RSDP's checksums are wrong")
	}
	at := func(address uint64) []byte {
		if address < base+36 || address+36 > base+uint64(len(memory)) {
			t.Fatalf("a table is at %#x, outside", address)
		}
		b := memory[address-base:]
		n := u32(b[4:])
		if n < 36 || int(n) > len(b) {
			t.Fatalf("%s has %d bytes", b[:4], n)
		}
		if sum(b[:n]) != 0 {
			t.Errorf("%s: its checksum is wrong", b[:4])
		}
		return b[:n]
	}
	tables := map[string][]byte{}
	xsdt := at(u64(rsdp[24:]))
	tables[string(xsdt[:4])] = xsdt
	for entries := xsdt[36:]; len(entries) > 0; entries = entries[8:] {
		b := at(u64(entries))
		tables[string(b[:4])] = b
	}
	if fadt := tables["FACP"]; fadt != nil {
		if u64(fadt[140:]) != uint64(u32(fadt[40:])) {
			t.Error("the FADT has two addresses of the DSDT")
		}
		tables["DSDT"] = at(u64(fadt[140:]))
	}
	return tables
}

func TestTables(t *testing.T) {
	u32, u64 := binary.LittleEndian.Uint32, binary.LittleEndian.Uint64
	for _, base := range []uint64{0, DefaultBase, 0xf0000} {
		c := ordinary()
		c.Base = base
		memory, err := Tables(c)
		if err != nil {
			t.Fatal(err)
		}
		if base == 0 {
			base = DefaultBase
		}
		tables := found(t, memory, base)
		if len(tables) != 4 {
			t.Errorf("%d tables", len(tables))
		}

		fadt := tables["FACP"]
		if len(fadt) != 276 || fadt[8] != 6 {
			t.Fatalf("FADT: revision %d, %d bytes", fadt[8], len(fadt))
		}
		if flags := u32(fadt[112:]); flags != 1<<20|1<<10|1<<5|1<<4|1<<0 {
			t.Errorf("FADT: flags %#x", flags)
		}
		if boot := binary.LittleEndian.Uint16(fadt[109:]); boot != 1<<2|1<<5 {
			t.Errorf("FADT: boot architecture %#x", boot)
		}
		for offset, want := range map[int]uint64{116: 0x602, 244: 0x600, 256: 0x601} {
			if gas := fadt[offset:]; u32(gas) != 0x01_00_08_01 || u64(gas[4:]) != want {
				t.Errorf("FADT: register at %d is % x", offset, gas[:12])
			}
		}
		if fadt[128] != 1 || string(fadt[268:276]) != "CAPSID\x00\x00" {
			t.Errorf("FADT: reset value %d, hypervisor %q", fadt[128], fadt[268:276])
		}

		madt := tables["APIC"]
		if u32(madt[36:]) != 0xfee00000 || u32(madt[40:]) != 0 {
			t.Errorf("MADT: % x", madt[36:44])
		}
		var cpus []byte
		for b := madt[44:]; len(b) > 0; b = b[b[1]:] {
			switch {
			case b[0] == 0 && u32(b[4:]) == 1:
				cpus = append(cpus, b[3])
			case b[0] == 1 && u32(b[4:]) == 0xfec00000 && u32(b[8:]) == 0:
			default:
				t.Errorf("MADT: % x", b[:b[1]])
			}
		}
		if string(cpus) != "\x00\x01\x02\x03" {
			t.Errorf("MADT: local APICs % x", cpus)
		}
	}
}

func TestConfig(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Config)
		ok     bool
	}{
		{"ordinary", func(*Config) {}, true},
		{"nothing but a processor", func(c *Config) { *c = Config{CPUs: 1} }, true},
		{"no processor", func(c *Config) { c.CPUs = 0 }, false},
		{"many processors", func(c *Config) { c.CPUs = 255 }, true},
		{"too many processors", func(c *Config) { c.CPUs = 256 }, false},
		{"base is odd", func(c *Config) { c.Base = DefaultBase + 8 }, false},
		{"base is too low", func(c *Config) { c.Base = DefaultBase - 16 }, false},
		{"tables end at 1 MiB or before", func(c *Config) { c.Base = 0x100000 - 0x1000 }, true},
		{"tables would end behind 1 MiB", func(c *Config) { c.Base = 0x100000 - 0x200 }, false},
		{"registers wrap", func(c *Config) { c.Virtio[0].Base = math.MaxUint32 }, false},
		{"no registers", func(c *Config) { c.Virtio[0].Size = 0 }, false},
		{"a GSI twice", func(c *Config) { c.Virtio[1].GSI = c.Virtio[0].GSI }, false},
		{"the GSI of a slot for the generation ID", func(c *Config) { c.VMGen.GSI = c.Virtio[0].GSI }, false},
		{"the GSI of a slot for COM1", func(c *Config) { c.COM1.GSI = c.Virtio[0].GSI }, false},
		{"too many slots", func(c *Config) { c.Virtio = make([]VirtioSlot, maxSlots+1) }, false},
	} {
		c := ordinary()
		test.change(&c)
		memory, err := Tables(c)
		if (err == nil) != test.ok || err != nil && !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", test.name, err)
		}
		if c.Base == 0 {
			c.Base = DefaultBase
		}
		if err == nil && c.Base+uint64(len(memory)) > 0x100000 {
			t.Errorf("%s: the tables end at %#x", test.name, c.Base+uint64(len(memory)))
		}
	}
}
