package board

import "capsid/vmm/kvm/ioctl"

// Leaves and bits of CPUID (Intel SDM volume 2A; AMD APM volume 3, appendix E; Documentation/virt/kvm/x86/cpuid.rst).
const (
	leafFeatures  = 0x1
	leafCache     = 0x4
	leafExtended  = 0x7
	leafPerfmon   = 0xa
	leafTopology  = 0xb
	leafPT        = 0x14
	leafSGX       = 0x12
	leafTopology2 = 0x1f
	leafAMDEx     = 0x8000_0001
	leafAMDSizes  = 0x8000_0008
	leafSVM       = 0x8000_000a
	leafAMDTopo   = 0x8000_001e
	leafAMDPerf   = 0x8000_0022

	// Leaf 1, ECX and EDX.
	bitVMX         = 1 << 5
	bitPDCM        = 1 << 15
	bitTSCDeadline = 1 << 24
	bitHypervisor  = 1 << 31
	bitHTT         = 1 << 28

	// Leaf 7.0.
	bitSGX   = 1 << 2  // EBX
	bitHLE   = 1 << 4  // EBX
	bitRTM   = 1 << 11 // EBX
	bitMPX   = 1 << 14 // EBX
	bitPT    = 1 << 25 // EBX
	bitSGXLC = 1 << 30 // ECX

	// Leaf 8000_0001, ECX.
	bitSVM      = 1 << 2
	bitIBS      = 1 << 10
	bitPerfCore = 1 << 23
	bitPerfNB   = 1 << 24
)

// guestCPUID is what KVM offers less what cannot be saved and brought back elsewhere, or is of no use to a guest: virtual machines of its own,
// performance counters, tracing, enclaves, transactions.
func guestCPUID(sys *ioctl.System) ([]ioctl.CPUIDEntry, error) {
	entries, err := sys.SupportedCPUID()
	if err != nil {
		return nil, err
	}
	return filterCPUID(entries, sys.CheckExtension(ioctl.CapTSCDeadlineTimer) != 0), nil
}

func filterCPUID(entries []ioctl.CPUIDEntry, tscDeadline bool) []ioctl.CPUIDEntry {
	out := make([]ioctl.CPUIDEntry, 0, len(entries))
	for _, e := range entries {
		switch e.Function {
		case leafFeatures:
			e.ECX = e.ECX&^(bitVMX|bitPDCM) | bitHypervisor
			// KVM emulates the timer but does not say so here (api.rst, KVM_GET_SUPPORTED_CPUID).
			if tscDeadline {
				e.ECX |= bitTSCDeadline
			}
		case leafExtended:
			if e.Index == 0 {
				e.EBX &^= bitSGX | bitHLE | bitRTM | bitMPX | bitPT
				e.ECX &^= bitSGXLC
			}
		case leafAMDEx:
			e.ECX &^= bitSVM | bitIBS | bitPerfCore | bitPerfNB
		case leafPerfmon, leafPT, leafSGX, leafSVM, leafAMDPerf:
			e.EAX, e.EBX, e.ECX, e.EDX = 0, 0, 0, 0
		}
		out = append(out, e)
	}
	return out
}

// cpuidOf is processor id's own of n: all are cores of one package, without threads.
func cpuidOf(entries []ioctl.CPUIDEntry, id, n int) []ioctl.CPUIDEntry {
	out := make([]ioctl.CPUIDEntry, 0, len(entries)+2)
	width := uint32(0) // bits that a core's number takes
	for 1<<width < n {
		width++
	}
	topology := false
	for _, e := range entries {
		switch e.Function {
		case leafFeatures:
			e.EBX = e.EBX&0x0000_ffff | uint32(id)<<24 | uint32(n)<<16
			e.EDX &^= bitHTT
			if n > 1 {
				e.EDX |= bitHTT
			}
		case leafCache:
			// Each core has its own caches but for the last level, which all share: EAX 25:14 is how many share it, 31:26 the cores, both less one.
			share := uint32(0)
			if e.EAX>>5&7 >= 3 {
				share = 1<<width - 1
			}
			e.EAX = e.EAX&0x3fff | share<<14 | (1<<width-1)<<26
		case leafTopology, leafTopology2:
			// Written anew below: the host's own levels do not hold here.
			topology = topology || e.Function == leafTopology
			continue
		case leafAMDSizes:
			e.ECX = width<<12 | uint32(n-1)
		case leafAMDTopo:
			e.EAX, e.EBX, e.ECX = uint32(id), uint32(id), 0
		}
		out = append(out, e)
	}
	if topology {
		out = append(out,
			// The thread level: one in each core. The core level: n in the package (SDM volume 2A, CPUID leaf 0BH).
			ioctl.CPUIDEntry{Function: leafTopology, Index: 0, Flags: ioctl.CPUIDIndexed, EAX: 0, EBX: 1, ECX: 1 << 8, EDX: uint32(id)},
			ioctl.CPUIDEntry{Function: leafTopology, Index: 1, Flags: ioctl.CPUIDIndexed, EAX: width, EBX: uint32(n), ECX: 2<<8 | 1, EDX: uint32(id)},
			ioctl.CPUIDEntry{Function: leafTopology, Index: 2, Flags: ioctl.CPUIDIndexed, ECX: 2, EDX: uint32(id)})
	}
	return out
}
