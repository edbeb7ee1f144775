package board

import (
	"crypto/rand"
	"errors"
	"fmt"

	"capsid/vmm/kvm/ioctl"
)

// processorsState is what KVM has of a machine.
type processorsState struct {
	Processors []processorState
	Clock      uint64 // of the guest, in nanoseconds
	Chips      []ioctl.IRQChip
}

// processorState is one processor's.
type processorState struct {
	CPUID  []ioctl.CPUIDEntry
	MP     ioctl.MPState
	Regs   ioctl.Regs
	Sregs  ioctl.Sregs
	XSave  []byte
	XCRs   ioctl.XCRs
	Debug  ioctl.DebugRegs
	LAPIC  []byte
	TSCKHz int
	MSRs   []ioctl.MSR
	Events []byte
}

// More model-specific registers.
const (
	msrTSC         = 0x10
	msrTSCDeadline = 0x6e0
	msrXSS         = 0xda0
	// Those that KVM gives its guests (Documentation/virt/kvm/x86/msr.rst).
	msrKVMFirst = 0x4b56_4d00
	msrKVMLast  = 0x4b56_4dff
)

// savedMSRs are all that may be part of a processor's state.
func savedMSRs(sys *ioctl.System) ([]uint32, error) {
	list, err := sys.MSRIndices()
	if err != nil {
		return nil, err
	}
	seen := map[uint32]bool{}
	for _, i := range list {
		seen[i] = true
	}
	add := func(i uint32) {
		if !seen[i] {
			list = append(list, i)
		}
	}
	add(msrXSS)
	for i := uint32(msrKVMFirst); i <= msrKVMLast; i++ {
		add(i)
	}
	return list, nil
}

// saveProcessors reads the state of processors that rest. The order is that in which one part depends on another: what is pending comes last.
func (b *Board) saveProcessors() (s processorsState, err error) {
	for i, c := range b.vcpus {
		p, err := b.saveProcessor(c, b.cpuid[i])
		if err != nil {
			return s, fmt.Errorf("processor %d: %w", i, err)
		}
		s.Processors = append(s.Processors, p)
	}
	clock, err := b.vm.Clock()
	if err != nil {
		return s, err
	}
	s.Clock = clock.Clock
	for id := range ioctl.Chips {
		chip, err := b.vm.IRQChip(id)
		if err != nil {
			return s, err
		}
		s.Chips = append(s.Chips, chip)
	}
	return s, nil
}

func (b *Board) saveProcessor(c *ioctl.VCPU, cpuid []ioctl.CPUIDEntry) (p processorState, err error) {
	p.CPUID = cpuid
	steps := []func() error{
		func() (err error) { p.MP, err = c.MPState(); return },
		func() (err error) { p.Regs, err = c.Regs(); return },
		func() (err error) { p.Sregs, err = c.Sregs(); return },
		func() (err error) { p.XSave, err = c.XSave(b.vm.XSaveSize()); return },
		func() (err error) { p.XCRs, err = c.XCRs(); return },
		func() (err error) { p.Debug, err = c.DebugRegs(); return },
		func() (err error) { l, err := c.LAPIC(); p.LAPIC = l[:]; return err },
		func() (err error) { p.TSCKHz, err = c.TSCKHz(); return },
		func() (err error) { p.MSRs, err = c.MSRs(b.msrs); return },
		func() (err error) { e, err := c.Events(); p.Events = e[:]; return err },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return p, err
		}
	}
	armDeadline(p.MSRs)
	return p, nil
}

// armDeadline: a timer that has expired reads as none, and its interrupt may not have come yet. Set to now, it expires again.
func armDeadline(msrs []ioctl.MSR) {
	var now uint64
	for _, m := range msrs {
		if m.Index == msrTSC {
			now = m.Data
		}
	}
	for i := range msrs {
		if msrs[i].Index == msrTSCDeadline && msrs[i].Data == 0 {
			msrs[i].Data = now
		}
	}
}

// restoreProcessors sets new processors, and what they share, to a saved state.
func (b *Board) restoreProcessors(s processorsState) error {
	if len(s.Processors) != len(b.vcpus) || len(s.Chips) != ioctl.Chips {
		return fmt.Errorf("%w: %d processors and %d interrupt controllers", ErrState, len(s.Processors), len(s.Chips))
	}
	for i, c := range b.vcpus {
		p := &s.Processors[i]
		if err := b.restoreProcessor(c, p); err != nil {
			return fmt.Errorf("%w: processor %d: %w", ErrState, i, err)
		}
		b.cpuid = append(b.cpuid, p.CPUID)
	}
	if err := b.vm.SetClock(s.Clock); err != nil {
		return err
	}
	for i := range s.Chips {
		if err := b.vm.SetIRQChip(&s.Chips[i]); err != nil {
			return fmt.Errorf("%w: %w", ErrState, err)
		}
	}
	return nil
}

// tscTolerance is how far, in parts of a million, the rate of a guest's counter may be off before it is set, where it can be: as far as KVM itself tolerates
// (kvm.tsc_tolerance_ppm).
const tscTolerance = 250

func (b *Board) restoreProcessor(c *ioctl.VCPU, p *processorState) error {
	var lapic ioctl.LAPIC
	var events ioctl.Events
	if copy(lapic[:], p.LAPIC) != len(lapic) || copy(events[:], p.Events) != len(events) {
		return errors.New("parts are missing")
	}
	khz, err := c.TSCKHz()
	if err != nil {
		return err
	}
	if off := khz - p.TSCKHz; max(off, -off) > p.TSCKHz/1_000_000*tscTolerance {
		if err := c.SetTSCKHz(p.TSCKHz); err != nil {
			return fmt.Errorf("this host's counter has %d kHz, the guest's %d: %w", khz, p.TSCKHz, err)
		}
	}
	// The timer is set once its controller and the counter that it is compared with are.
	var msrs, deadline []ioctl.MSR
	for _, m := range p.MSRs {
		if m.Index == msrTSCDeadline {
			deadline = append(deadline, m)
		} else {
			msrs = append(msrs, m)
		}
	}
	for _, step := range []func() error{
		func() error { return c.SetCPUID(p.CPUID) },
		func() error { return c.SetMPState(p.MP) },
		func() error { return c.SetRegs(&p.Regs) },
		func() error { return c.SetSregs(&p.Sregs) },
		func() error { return c.SetXSave(p.XSave, b.vm.XSaveSize()) },
		func() error { return c.SetXCRs(&p.XCRs) },
		func() error { return c.SetDebugRegs(&p.Debug) },
		func() error { return c.SetLAPIC(&lapic) },
		func() error { return setMSRs(c, msrs) },
		func() error { return setMSRs(c, deadline) },
		func() error { return c.SetEvents(&events) },
		c.ClockPaused,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// setMSRs sets registers one group after another. One that is refused is no fault if it has the value already: some can only be read.
func setMSRs(c *ioctl.VCPU, msrs []ioctl.MSR) error {
	const group = 64
	for len(msrs) > 0 {
		g := msrs[:min(len(msrs), group)]
		msrs = msrs[len(g):]
		if c.SetMSRs(g) == nil {
			continue
		}
		for _, m := range g {
			err := c.SetMSRs([]ioctl.MSR{m})
			if err == nil {
				continue
			}
			if now, e := c.MSRs([]uint32{m.Index}); e != nil || len(now) != 1 || now[0].Data != m.Data {
				return err
			}
		}
	}
	return nil
}

// renew gives a restored machine a generation ID of its own and tells the guest, whose kernel then takes new randomness (drivers/virt/vmgenid.c).
func (b *Board) renew() error {
	id, err := b.memory.Slice(vmgenid, vmgenidBytes)
	if err != nil {
		return err
	}
	_, _ = rand.Read(id)
	return b.vm.Pulse(vmgenidGSI)
}
