// Package acpi writes the ACPI tables of a machine on x86-64: hardware-reduced ACPI (ACPI 6.5 §4.1), which has no legacy hardware and no events but
// those of a Generic Event Device. Section numbers are of the Advanced Configuration and Power Interface Specification, release 6.5.
//
// The tables are RSDP → XSDT → FADT (→ DSDT), MADT, one after the other from Config.Base; there are no FACS, HPET and MCFG. Everything is little-endian.
//
// The machine has to answer at three I/O ports, each one byte wide:
//
//   - SleepControlPort: the guest powers off by writing SleepOff to it.
//   - SleepStatusPort: reads as zero; writes mean nothing, as nothing wakes from the only sleep state that there is.
//   - ResetPort: the guest resets the machine by writing ResetValue.
package acpi

import (
	"errors"
	"fmt"
)

const (
	SleepControlPort = 0x600
	SleepStatusPort  = 0x601
	ResetPort        = 0x602

	// SleepOff is SLP_EN with the SLP_TYP of \_S5 (§4.8.3.7: bits 5 and 4–2).
	SleepOff = 1<<5 | sleepTypeS5<<2
	// ResetValue is what is written to ResetPort (§4.8.3.6).
	ResetValue = 1

	// DefaultBase is where the x86 BIOS area begins, in which guests that are not told look for the RSDP, at multiples of 16 (§5.2.5.1).
	DefaultBase = 0xe0000

	sleepTypeS5 = 5
	end         = 0x100000 // of the BIOS area
	maxCPUs     = 255      // local APIC identifiers of eight bits; 0xff is all of them (§5.2.12.2)
	// maxSlots is what names of three decimal digits tell apart.
	maxSlots = 1000
)

// ErrConfig: tables cannot be made of that configuration. The error says why.
var ErrConfig = errors.New("acpi configuration")

// Config says what the tables tell of.
type Config struct {
	Base   uint64 // guest-physical address of the tables, in the BIOS area; 0 means DefaultBase
	CPUs   int    // their local APICs have the identifiers 0 to CPUs-1
	LAPIC  uint32 // address of the local APICs; 0 means 0xfee00000
	IOAPIC uint32 // address of the IOAPIC, whose inputs are the GSIs from 0 on; 0 means 0xfec00000
	Virtio []VirtioSlot
	COM1   *Serial // nil: there is none
	VMGen  *VMGenID
}

// VirtioSlot is a virtio-mmio device.
type VirtioSlot struct {
	Base, Size uint32 // of its registers
	GSI        uint32 // edge
}

// Serial is a 16550 at eight I/O ports.
type Serial struct {
	Port uint16
	GSI  uint32 // edge; 0: the guest has to poll
}

// VMGenID is a Virtual Machine Generation ID: sixteen bytes in reserved memory that differ for each restored copy of a machine. After a change, an edge
// on GSI has the guest read them again.
type VMGenID struct {
	Address uint64
	GSI     uint32
}

func (c Config) check() (Config, error) {
	if c.Base == 0 {
		c.Base = DefaultBase
	}
	if c.LAPIC == 0 {
		c.LAPIC = 0xfee00000
	}
	if c.IOAPIC == 0 {
		c.IOAPIC = 0xfec00000
	}
	if c.Base < DefaultBase || c.Base >= end || c.Base%16 != 0 {
		return c, fmt.Errorf("%w: base %#x is no multiple of 16 in %#x–%#x", ErrConfig, c.Base, DefaultBase, end)
	}
	if c.CPUs < 1 || c.CPUs > maxCPUs {
		return c, fmt.Errorf("%w: %d processors; 1–%d", ErrConfig, c.CPUs, maxCPUs)
	}
	if len(c.Virtio) > maxSlots {
		return c, fmt.Errorf("%w: %d virtio slots; at most %d", ErrConfig, len(c.Virtio), maxSlots)
	}
	used := map[uint32]string{}
	take := func(gsi uint32, by string) error {
		if other, taken := used[gsi]; taken {
			return fmt.Errorf("%w: GSI %d is of %s and of %s", ErrConfig, gsi, other, by)
		}
		used[gsi] = by
		return nil
	}
	for i, v := range c.Virtio {
		if v.Size == 0 || uint64(v.Base)+uint64(v.Size) > 1<<32 {
			return c, fmt.Errorf("%w: virtio slot %d has its registers at %#x, %#x bytes", ErrConfig, i, v.Base, v.Size)
		}
		if err := take(v.GSI, fmt.Sprintf("virtio slot %d", i)); err != nil {
			return c, err
		}
	}
	if c.COM1 != nil && c.COM1.GSI != 0 {
		if err := take(c.COM1.GSI, "COM1"); err != nil {
			return c, err
		}
	}
	if c.VMGen != nil {
		return c, take(c.VMGen.GSI, "the generation ID")
	}
	return c, nil
}
