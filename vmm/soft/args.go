package soft

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"

	"capsid/guest/link"
	"capsid/vmm"
)

// descriptors are the numbers that QEMU's open files have in it.
type descriptors struct {
	kernel, initrd     int  // unless the machine is restored
	restored           bool // waits for what it was, and then for its owner
	memory             int
	link, console, qmp int
	disks              []int // of the file, or of the socket to our server
}

// args builds QEMU's command line. cfg was checked.
func args(a arch, cfg vmm.Config, fd descriptors) []string {
	list := []string{
		"-name", "capsid " + escape(cfg.Name),
		"-nodefaults", "-no-user-config",
		"-display", "none",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-no-reboot",
		// The cache of translated code, in MiB; QEMU would take up to 1024.
		"-accel", "tcg,thread=multi,tb-size=512",
	}
	list = append(list, a.machine...)
	list = append(list,
		"-cpu", a.cpu,
		"-smp", itoa(cfg.CPUs),
		"-m", strconv.FormatInt(cfg.Memory>>20, 10)+"M",
		"-object", fmt.Sprintf("memory-backend-file,id=memory,size=%dM,mem-path=%s,share=on", cfg.Memory>>20, procFile(fd.memory)), "-machine", "memory-backend=memory",
		"-chardev", socket("qmp", fd.qmp), "-mon", "chardev=qmp,mode=control",
		"-chardev", socket("console", fd.console), "-serial", "chardev:console",
		"-chardev", socket("link", fd.link),
		"-device", "virtio-serial-"+a.bus+",max_ports=2",
		"-device", "virtserialport,chardev=link,name="+link.PortName,
		"-object", "rng-builtin,id=rng", "-device", "virtio-rng-"+a.bus+",rng=rng",
		// The guest gives pages back that it does not use.
		"-device", "virtio-balloon-"+a.bus+",free-page-reporting=on",
	)
	if fd.restored {
		list = append(list, "-incoming", "defer", "-S")
	} else {
		list = append(list, "-kernel", procFile(fd.kernel), "-initrd", procFile(fd.initrd), "-append", a.cmdline(cfg.CPUs, cfg.Cmdline))
	}
	for i, d := range cfg.Disks {
		if !served(d) {
			list = append(list, "-add-fd", fmt.Sprintf("fd=%d,set=%d,opaque=%d", fd.disks[i], i, os.O_RDONLY))
		}
		list = append(list,
			"-blockdev", blockdev(i, d, fd.disks[i]),
			"-device", fmt.Sprintf("virtio-blk-%s,drive=disk%d", a.bus, i),
		)
	}
	return list
}

// served says whether QEMU reaches a disk by our server: what has layers, or gets one when it is snapshot. A file that is only read it reads itself.
func served(d vmm.Disk) bool { return !d.ReadOnly || len(d.Files()) > 1 }

// blockdev describes a disk in QEMU's JSON (qapi/block-core.json). The cache is the host's and is flushed to the disk when the guest asks (no-flush off).
func blockdev(i int, d vmm.Disk, fd int) string {
	node := map[string]any{
		"node-name": fmt.Sprintf("disk%d", i),
		"read-only": d.ReadOnly,
		"cache":     map[string]bool{"direct": false, "no-flush": false},
	}
	if served(d) {
		node["driver"] = "nbd"
		node["server"] = map[string]string{"type": "fd", "str": itoa(fd)}
	} else {
		node["driver"] = "raw"
		node["file"] = map[string]any{
			"driver":   "file",
			"filename": fmt.Sprintf("/dev/fdset/%d", i),
			"aio":      "threads",
			"locking":  "auto",
		}
	}
	if !d.ReadOnly {
		// What the guest deletes becomes a hole in the sparse file again.
		node["discard"], node["detect-zeroes"] = "unmap", "unmap"
	}
	b, err := json.Marshal(node)
	if err != nil {
		panic(err) // strings and booleans always can be
	}
	return string(b)
}

func socket(id string, fd int) string { return fmt.Sprintf("socket,id=%s,fd=%d", id, fd) }

// procFile is a path by which QEMU opens a file whose own path it may not be able to walk.
func procFile(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// escape doubles commas, which end a value in QEMU's options.
func escape(s string) string { return strings.ReplaceAll(s, ",", ",,") }

func itoa(n int) string { return strconv.Itoa(n) }
