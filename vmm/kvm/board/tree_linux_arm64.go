package board

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"capsid/vmm/kvm/boot"
	"capsid/vmm/kvm/fdt"
)

// affinityMask is what of MPIDR_EL1 names a processor: Aff0, Aff1, Aff2 and Aff3.
const affinityMask = 0xff_00ff_ffff

// Cells of "interrupts" (Documentation/devicetree/bindings/interrupt-controller/arm,gic-v3.yaml).
const (
	gicSPI  = 0
	gicPPI  = 1
	edge    = 1 // IRQ_TYPE_EDGE_RISING
	levelHi = 4 // IRQ_TYPE_LEVEL_HIGH
)

// tree is what the kernel is told of the machine. Names and properties are of the bindings in Linux's Documentation/devicetree/bindings.
type tree struct {
	ram        boot.Range
	processors []uint64 // affinities, the first starts
	slots      int
	cmdline    string
}

func (t tree) bytes(initrd boot.Range) ([]byte, error) {
	out := fdt.New()
	root := out.Root
	root.Text("compatible", "linux,dummy-virt")
	root.Text("model", "Capsid")
	root.U32("#address-cells", 2)
	root.U32("#size-cells", 2)
	// The controller's number must be known here already: a node's properties come before its children.
	gic := root.Node(unit("interrupt-controller", gicDistributor))
	root.U32("interrupt-parent", out.Handle(gic))
	t.chosen(root.Node("chosen"), initrd)

	memory := root.Node(unit("memory", t.ram.Base))
	memory.Text("device_type", "memory")
	memory.U64("reg", t.ram.Base, t.ram.Size)

	cpus := root.Node("cpus")
	cpus.U32("#address-cells", 2)
	cpus.U32("#size-cells", 0)
	for _, affinity := range t.processors {
		c := cpus.Node(unit("cpu", affinity))
		c.Text("device_type", "cpu")
		c.Text("compatible", "arm,armv8")
		c.Text("enable-method", "psci")
		c.U64("reg", affinity)
	}
	psci := root.Node("psci")
	psci.Text("compatible", "arm,psci-1.0", "arm,psci-0.2")
	psci.Text("method", "hvc")

	timer := root.Node("timer")
	timer.Text("compatible", "arm,armv8-timer")
	// The secure one, the other physical one, the virtual one, the hypervisor's: KVM gives a guest the second and the third.
	timer.U32("interrupts", gicPPI, 13, levelHi, gicPPI, 14, levelHi, gicPPI, 11, levelHi, gicPPI, 10, levelHi)
	timer.Flag("always-on")

	gic.Text("compatible", "arm,gic-v3")
	gic.Flag("interrupt-controller")
	gic.U32("#interrupt-cells", 3)
	gic.U64("reg", gicDistributor, gicDistributorSize, gicRedistributors, uint64(len(t.processors))*gicRedistributor)

	for i := range t.slots {
		n := root.Node(unit("virtio", slotAddress(i)))
		n.Text("compatible", "virtio,mmio")
		n.U64("reg", slotAddress(i), slotWindow)
		n.U32("interrupts", gicSPI, uint32(slotGSI(i)), edge)
		n.Flag("dma-coherent") // devices share the processors' caches: else the kernel would copy each buffer
	}
	id := root.Node(unit("vmgenid", t.ram.End()))
	id.Text("compatible", "microsoft,vmgenid")
	id.U64("reg", t.ram.End(), vmgenidBytes)
	id.U32("interrupts", gicSPI, vmgenidSPI, edge)
	return out.Bytes()
}

// chosen is what the kernel is given beside hardware (dt-schema's schemas/chosen.yaml). The seeds are the host's randomness: a machine has none of its own yet.
func (t tree) chosen(n *fdt.Node, initrd boot.Range) {
	n.Text("bootargs", t.cmdline)
	if initrd.Size > 0 {
		n.U64("linux,initrd-start", initrd.Base)
		n.U64("linux,initrd-end", initrd.End())
	}
	var seed [72]byte
	_, _ = rand.Read(seed[:])
	n.U64("kaslr-seed", binary.NativeEndian.Uint64(seed[:]))
	n.Raw("rng-seed", seed[8:])
}

func unit(name string, address uint64) string { return fmt.Sprintf("%s@%x", name, address) }
