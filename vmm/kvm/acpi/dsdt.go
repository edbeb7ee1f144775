package acpi

import (
	"encoding/binary"
	"fmt"
	"slices"
)

const (
	generationDevice = `\_SB.VGEN`
	// changed is the event of the generation ID, by the paper that defines it ("Virtual Machine Generation ID", Microsoft, 2012).
	changed = 0x80
)

// differentiated is the body of the DSDT (§5.2.11.1).
func differentiated(c Config) []byte {
	var devices []aml
	if c.COM1 != nil {
		devices = append(devices, serialDevice(*c.COM1))
	}
	for i, v := range c.Virtio {
		devices = append(devices, virtioDevice(i, v))
	}
	if c.VMGen != nil {
		devices = append(devices, generationID(*c.VMGen), eventDevice(*c.VMGen))
	}
	return slices.Concat(
		scope(`\_SB`, devices...),
		// §7.4.2: the values for SLP_TYP; the second is of a register that reduced hardware has not.
		name(`\_S5`, pack(integer(sleepTypeS5), integer(0), integer(0), integer(0))),
	)
}

// serialDevice: PNP0501 is a 16550A-compatible COM port.
func serialDevice(s Serial) aml {
	crs := [][]byte{ioPorts(s.Port, 8)}
	if s.GSI != 0 {
		crs = append(crs, edgeInterrupt(s.GSI))
	}
	return device("COM1",
		name("_HID", eisaID("PNP0501")),
		name("_UID", integer(1)),
		name("_CRS", resources(crs...)),
	)
}

// virtioDevice: LNRO0005 is what Linux knows a virtio-mmio device by (drivers/virtio/virtio_mmio.c); _CCA is for ports that ask whether its accesses
// to memory are coherent (§6.2.17).
func virtioDevice(i int, v VirtioSlot) aml {
	return device(fmt.Sprintf("V%03d", i),
		name("_HID", text("LNRO0005")),
		name("_UID", integer(uint64(i))),
		name("_CCA", integer(1)),
		name("_CRS", resources(memory32Fixed(v.Base, v.Size), edgeInterrupt(v.GSI))),
	)
}

// generationID is found by its _CID, and _HID may be any (drivers/virt/vmgenid.c); ADDR is the low half of the address, then the high half.
func generationID(g VMGenID) aml {
	return device("VGEN",
		name("_HID", text("CPSD0001")),
		name("_CID", text("VM_Gen_Counter")),
		name("_DDN", text("VM_Gen_Counter")),
		method("ADDR", 0, result(pack(integer(g.Address&(1<<32-1)), integer(g.Address>>32)))),
	)
}

// eventDevice is the Generic Event Device: it runs _EVT when its interrupt comes (§5.6.9). There is one event, so the method need not ask which.
func eventDevice(g VMGenID) aml {
	return device("GED",
		name("_HID", text("ACPI0013")),
		name("_UID", integer(0)),
		name("_CRS", resources(edgeInterrupt(g.GSI))),
		method("_EVT", 1, notify(generationDevice, changed)),
	)
}

// table puts the header of §5.2.6 before a body, and the checksum into it.
func table(signature string, revision byte, body []byte) []byte {
	b := make([]byte, headerSize, headerSize+len(body))
	copy(b, signature)
	binary.LittleEndian.PutUint32(b[4:], uint32(headerSize+len(body)))
	b[8] = revision
	copy(b[10:], oemID)
	copy(b[16:], "CAPSIDVM")                 // OEM table ID
	binary.LittleEndian.PutUint32(b[24:], 1) // OEM revision
	copy(b[28:], "CPSD")                     // creator ID
	binary.LittleEndian.PutUint32(b[32:], 1) // creator revision
	b = append(b, body...)
	b[9] = checksum(b)
	return b
}

// checksum is the byte that makes the sum of all of them zero.
func checksum(b []byte) byte {
	var sum byte
	for _, c := range b {
		sum -= c
	}
	return sum
}
