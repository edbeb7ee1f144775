package soft

import "strings"

// arch is what differs between the processors that a host may have. The guest's is the host's.
type arch struct {
	qemu    string   // the program
	pkg     string   // Debian's package of it
	machine []string // -machine and what belongs to it
	cpu     string
	bus     string // ending of virtio device names
	kernel  []string
}

// Kernel parameters for every processor.
var commonKernel = []string{
	"quiet",
	// A panic ends QEMU by a reset, see -no-reboot.
	"panic=-1",
	// An emulated processor may rest for long on a busy host, or for days while it is paused; no watchdog is right about it.
	"nowatchdog", "rcupdate.rcu_cpu_stall_suppress=1",
	// What these guard against are faults of real processors, and a kernel that its own programs attack. The wall is around the machine.
	"mitigations=off", "init_on_alloc=0", "hardened_usercopy=off", "randomize_kstack_offset=off", "audit=0",
	// A fifth of the kernel's start, when emulated.
	"cryptomgr.notests", "rcupdate.rcu_expedited=1",
	"random.trust_cpu=on",
	"maxcpus=1",
}

var arches = map[string]arch{
	"amd64": {
		qemu: "qemu-system-x86_64",
		pkg:  "qemu-system-x86",
		// hpet, smbus and the like are off since each costs the kernel's start a probe of emulated registers.
		// The generation ID is another after each restore, whereupon the kernel draws fresh randomness.
		machine: []string{"-machine", "q35,vmport=off,smbus=off,sata=off,usb=off,hpet=off,i8042=off,graphics=off", "-device", "vmgenid,guid=auto"},
		// Five levels of page tables cost more to walk in software. With ERMS the kernel copies byte by byte, by an instruction that is fast on real
		// processors only.
		cpu: "max,-la57,-erms",
		bus: "pci",
		kernel: []string{
			"console=ttyS0",
			"clearcpuid=cx16",
			// QEMU's counter stands still while the machine is paused and is the same on all processors. Without this the kernel comes to distrust it on a busy
			// host, and reads a device instead for every look at the clock.
			"tsc=reliable",
			"no_timer_check",
			// Measuring the delay loop takes a second for each processor. It is for real devices; no emulated one needs a pause.
			"lpj=8000000",
			"8250.nr_uarts=1",
		},
	},
	"arm64": {
		qemu:    "qemu-system-aarch64",
		pkg:     "qemu-system-arm",
		machine: []string{"-machine", "virt,gic-version=3"},
		cpu:     "max,pauth-impdef=on", // QEMU's own algorithm for pointer authentication; the architected one halves the speed
		bus:     "pci",
		kernel:  []string{"console=ttyAMA0"},
	},
}

// cmdline is the whole of the kernel's parameters.
func (a arch) cmdline(cpus int, extra string) string {
	words := append(append([]string{}, a.kernel...), commonKernel...)
	words = append(words, "capsid.cpus="+itoa(cpus))
	if extra != "" {
		words = append(words, extra)
	}
	return strings.Join(words, " ")
}
