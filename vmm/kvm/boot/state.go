package boot

import "encoding/binary"

// State is what the first processor begins with; registers that are not named are zero. Its fields are those of struct kvm_regs and kvm_sregs
// (arch/x86/include/uapi/asm/kvm.h).
type State struct {
	RIP, RFLAGS, RBX, RSI uint64
	CR0, CR3, CR4, EFER   uint64
	CS                    Segment
	Data                  Segment // DS, ES, FS, GS and SS
	TR                    Segment
	GDT, IDT              Table
}

// Segment is a segment register with what the processor keeps of its descriptor.
type Segment struct {
	Base     uint64
	Limit    uint32 // in bytes, even where the descriptor counts pages
	Selector uint16
	Type     uint8
	Present  uint8
	DPL      uint8
	DB       uint8
	S        uint8
	L        uint8
	G        uint8
}

// Table is the place of a descriptor table.
type Table struct {
	Base  uint64
	Limit uint16
}

const (
	cr0PE = 1 << 0
	cr0ET = 1 << 4
	cr0PG = 1 << 31

	cr4PAE = 1 << 5

	eferLME = 1 << 8
	eferLMA = 1 << 10

	rflagsOne = 1 << 1 // always set

	// Selectors of the boot protocol (arch/x86/include/asm/segment.h: __BOOT_CS, __BOOT_DS, __BOOT_TSS). PVH leaves them open.
	bootCS  = 0x10
	bootDS  = 0x18
	bootTSS = 0x20

	// Segment types, Intel SDM volume 3, tables 3-1 and 3-2: accessed already, and a TSS that is in use, as a processor has them in its registers.
	typeCode = 0xb
	typeData = 0x3
	typeTSS  = 0xb
)

// flatState is a processor in protected mode with flat segments; in long mode when long is set. It writes the descriptors that this comes from, for
// whoever loads a segment register again before he has a table of his own.
func (l *loader) flatState(long bool) (State, error) {
	s := State{RFLAGS: rflagsOne, CR0: cr0PE | cr0ET}
	s.CS = Segment{Limit: 1<<32 - 1, Selector: bootCS, Type: typeCode, Present: 1, DB: 1, S: 1, G: 1}
	s.Data = Segment{Limit: 1<<32 - 1, Selector: bootDS, Type: typeData, Present: 1, DB: 1, S: 1, G: 1}
	s.TR = Segment{Limit: 0x67, Selector: bootTSS, Type: typeTSS, Present: 1}
	if long {
		s.CS.L, s.CS.DB = 1, 0
	}
	var gdt []byte
	for _, d := range []uint64{0, 0, s.CS.descriptor(), s.Data.descriptor(), s.TR.descriptor(), 0} { // that of a TSS has two words in long mode
		gdt = binary.LittleEndian.AppendUint64(gdt, d)
	}
	s.GDT = Table{gdtAt, uint16(len(gdt) - 1)}
	return s, l.write(gdtAt, gdt)
}

// descriptor is the segment as it stands in a table (Intel SDM volume 3, §3.4.5), for a base of zero.
func (s Segment) descriptor() uint64 {
	limit := uint64(s.Limit)
	if s.G != 0 {
		limit >>= 12
	}
	return limit&0xffff | limit>>16<<48 | uint64(s.Type)<<40 | uint64(s.S)<<44 | uint64(s.DPL)<<45 | uint64(s.Present)<<47 |
		uint64(s.L)<<53 | uint64(s.DB)<<54 | uint64(s.G)<<55
}
