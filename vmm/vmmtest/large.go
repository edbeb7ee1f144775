package vmmtest

import (
	"os"
	"path/filepath"
	"testing"

	"capsid/vmm"
)

// packedKernel is the image's kernel as the distribution has it, which unpacks itself.
const packedKernel = "vmlinuz"

// Large boots what is at the ends of a backend's range: as many processors as there may be, memory on both sides of the devices, and a
// kernel that is packed.
func Large(t *testing.T, b vmm.Backend, o Options) {
	o = o.resolve(t)
	cfg := config(t, o)
	cfg.CPUs, cfg.Memory = 16, 5<<30
	packed := filepath.Join(o.imageDir, packedKernel)
	if _, err := os.Stat(packed); err != nil {
		t.Fatal(err)
	}
	cfg.Kernel = packed
	m := boot(t, b, cfg)
	a := m.ask(t, request{Op: "about"})
	if a.CPUs != cfg.CPUs {
		t.Errorf("%d processors, not %d", a.CPUs, cfg.CPUs)
	}
	if err := wantNear("memory", a.Memory, cfg.Memory, 256<<20); err != nil {
		t.Error(err)
	}
	m.ask(t, request{Op: "use memory", Count: 64 << 20}) // Linux takes it from above the gap first
	powerOff(t, m)
}
