package soft

import (
	"fmt"
	"net"
	"os"
	"sync"

	"capsid/vmm"
	"capsid/vmm/disk"
	"capsid/vmm/disk/nbd"
)

// disks are those that QEMU reaches by our server, in this process.
type disks struct {
	stacks  []*disk.Stack // in the order of the machine's disks; nil for one that QEMU has itself
	conns   []net.Conn
	serving sync.WaitGroup
}

// open opens the machine's disks and hands out what QEMU gets of them.
func (d *disks) open(list []vmm.Disk, h *handout) ([]int, error) {
	var fds []int
	for _, c := range list {
		if !served(c) {
			n, err := h.open(c.Files()[0], os.O_RDONLY)
			if err != nil {
				return nil, err
			}
			d.stacks, d.conns, fds = append(d.stacks, nil), append(d.conns, nil), append(fds, n)
			continue
		}
		stack, err := disk.OpenPaths(c.Files(), c.ReadOnly)
		if err != nil {
			return nil, err
		}
		d.stacks = append(d.stacks, stack)
		conn, n, err := h.socket()
		if err != nil {
			return nil, err
		}
		d.conns, fds = append(d.conns, conn), append(fds, n)
	}
	return fds, nil
}

// serve begins to serve them. A client that breaks the protocol is reported.
func (d *disks) serve(fault func(error)) {
	for i, conn := range d.conns {
		if conn == nil {
			continue
		}
		d.serving.Go(func() {
			if err := nbd.Serve(conn, d.stacks[i]); err != nil {
				fault(fmt.Errorf("disk %d: %w", i, err))
			}
		})
	}
}

// close ends the service, waits for what is in the works, and lets go of the files.
func (d *disks) close() {
	for _, conn := range d.conns {
		if conn != nil {
			conn.Close()
		}
	}
	d.serving.Wait()
	for _, s := range d.stacks {
		if s != nil {
			s.Close()
		}
	}
}
