package acpi

import (
	"encoding/binary"
	"fmt"
)

const (
	oemID      = "CAPSID"
	headerSize = 36
	rsdpSize   = 36
	fadtSize   = 276 // revision 6, §5.2.9
)

// Tables returns what is to be in the guest's memory from Config.Base on: the RSDP comes first. Its end is below 1 MiB.
func Tables(c Config) ([]byte, error) {
	c, err := c.check()
	if err != nil {
		return nil, err
	}
	// Whatever refers to a table comes before it in memory, and is made after it.
	var (
		xsdtAt = align(c.Base + rsdpSize)
		fadtAt = align(xsdtAt + headerSize + 2*8)
		madtAt = align(fadtAt + fadtSize)
		madt   = interrupts(c)
		dsdtAt = align(madtAt + uint64(len(madt)))
		dsdt   = table("DSDT", 2, differentiated(c)) // revision 2: integers of 64 bits
		last   = dsdtAt + uint64(len(dsdt))
	)
	if last > end {
		return nil, fmt.Errorf("%w: the tables end at %#x, behind %#x", ErrConfig, last, end)
	}
	xsdt := table("XSDT", 1, binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, fadtAt), madtAt))

	out := make([]byte, last-c.Base)
	copy(out, rootPointer(xsdtAt))
	copy(out[xsdtAt-c.Base:], xsdt)
	copy(out[fadtAt-c.Base:], fixed(dsdtAt))
	copy(out[madtAt-c.Base:], madt)
	copy(out[dsdtAt-c.Base:], dsdt)
	return out, nil
}

// align: tables begin at multiples of 16, which nothing demands but the RSDP and which makes them easy to find in a dump.
func align(n uint64) uint64 { return (n + 15) &^ 15 }

// rootPointer is the RSDP (§5.2.5.3), with no RSDT: the XSDT is what revision 2 is read for.
func rootPointer(xsdt uint64) []byte {
	b := make([]byte, rsdpSize)
	copy(b, "RSD PTR ")
	copy(b[9:], oemID)
	b[15] = 2
	binary.LittleEndian.PutUint32(b[20:], rsdpSize)
	binary.LittleEndian.PutUint64(b[24:], xsdt)
	b[8] = checksum(b[:20])
	b[32] = checksum(b)
	return b
}

// fixed is the FADT (§5.2.9).
func fixed(dsdt uint64) []byte {
	const (
		// IAPC_BOOT_ARCH, §5.2.9.3. Bit 1, an 8042, is clear: a guest would look for a keyboard at it for up to a second.
		noVGA = 1 << 2
		noRTC = 1 << 5

		// Feature flags, §5.2.9. That of a button says that there is no fixed one.
		wbinvd      = 1 << 0
		powerButton = 1 << 4
		sleepButton = 1 << 5
		resetReg    = 1 << 10
		reduced     = 1 << 20
	)
	b := make([]byte, fadtSize-headerSize)
	at := func(offset int) []byte { return b[offset-headerSize:] }
	binary.LittleEndian.PutUint32(at(40), uint32(dsdt))
	binary.LittleEndian.PutUint16(at(109), noVGA|noRTC)
	binary.LittleEndian.PutUint32(at(112), wbinvd|powerButton|sleepButton|resetReg|reduced)
	copy(at(116), port(ResetPort))
	at(128)[0] = ResetValue
	at(131)[0] = 5 // the minor version: 6.5
	binary.LittleEndian.PutUint64(at(140), dsdt)
	copy(at(244), port(SleepControlPort))
	copy(at(256), port(SleepStatusPort))
	copy(at(268), oemID) // Hypervisor Vendor Identity
	return table("FACP", 6, b)
}

// port is a Generic Address Structure (§5.2.3.2) of an I/O port of eight bits, accessed by bytes.
func port(number uint64) []byte {
	return binary.LittleEndian.AppendUint64([]byte{1, 8, 0, 1}, number)
}

// interrupts is the MADT (§5.2.12), with no flag: there is no PIC.
func interrupts(c Config) []byte {
	b := binary.LittleEndian.AppendUint32(nil, c.LAPIC)
	b = binary.LittleEndian.AppendUint32(b, 0)
	for i := range c.CPUs {
		// Processor Local APIC, §5.2.12.2: its processor's UID, its identifier, and that it is enabled.
		b = append(b, 0, 8, byte(i), byte(i), 1, 0, 0, 0)
	}
	// I/O APIC, §5.2.12.3. Its identifier is one that no local APIC has.
	b = append(b, 1, 12, byte(c.CPUs), 0)
	b = binary.LittleEndian.AppendUint32(b, c.IOAPIC)
	b = binary.LittleEndian.AppendUint32(b, 0)
	return table("APIC", 5, b)
}
