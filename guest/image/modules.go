package image

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// moduleListPath is where the agent finds the modules to load: one absolute path per line, in load order.
const moduleListPath = "/etc/capsid/modules"

// wantedModule is a module that the guest needs. Kernels differ in what they have built in; one that a kernel has neither as a module nor
// built in is an error unless it is optional.
type wantedModule struct {
	name     string
	optional bool
}

// wantedModules is all that is ever loaded: once booted, the guest takes no more modules.
func wantedModules() []wantedModule {
	return []wantedModule{
		// The devices: PCI on QEMU's q35, MMIO on our own VMM.
		{name: "virtio_pci"}, {name: "virtio_mmio"}, {name: "virtio_blk"}, {name: "virtio_console"}, {name: "virtio_rng"},
		{name: "virtio_balloon", optional: true}, {name: "vmw_vsock_virtio_transport"},
		// The file systems: read-only root, writable layer, workspace.
		{name: "erofs"}, {name: "ext4"}, {name: "overlay"}, {name: "fuse"},
		// The egress: an interface to route everything to, and the redirection of TCP and DNS.
		{name: "dummy"}, {name: "nf_tables"}, {name: "nft_chain_nat"}, {name: "nft_redir"}, {name: "nft_nat"}, {name: "nft_ct"},
		{name: "nft_reject_inet", optional: true}, {name: "nft_reject_ipv4", optional: true},
		// What programs of the guest expect: ss, and AF_PACKET where it is a module.
		{name: "inet_diag", optional: true}, {name: "tcp_diag", optional: true}, {name: "udp_diag", optional: true}, {name: "af_packet", optional: true},
	}
}

// moduleTree is the index that depmod made of a kernel's modules.
type moduleTree struct {
	dir     string              // the folder of one kernel release
	paths   map[string]string   // name → path below dir
	deps    map[string][]string // path → paths that it needs
	builtin map[string]bool     // name
}

// openModules reads modules.dep and modules.builtin of dir, a folder named for the kernel release.
func openModules(dir string) (*moduleTree, error) {
	dep, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return nil, fmt.Errorf("kernel modules: %w", err)
	}
	builtin, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, fmt.Errorf("kernel modules: %w", err)
	}
	t := parseModules(dep, builtin)
	t.dir = dir
	return t, nil
}

func parseModules(dep, builtin []byte) *moduleTree {
	t := &moduleTree{paths: map[string]string{}, deps: map[string][]string{}, builtin: map[string]bool{}}
	for s := bufio.NewScanner(bytes.NewReader(dep)); s.Scan(); {
		file, needs, ok := strings.Cut(s.Text(), ":")
		if !ok {
			continue
		}
		t.paths[moduleName(file)] = file
		t.deps[file] = strings.Fields(needs)
	}
	for s := bufio.NewScanner(bytes.NewReader(builtin)); s.Scan(); {
		t.builtin[moduleName(s.Text())] = true
	}
	return t
}

// moduleName is a module's name as modprobe knows it: the same for "-" and "_", whatever the compression.
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// order lists the files to load, each after all that it needs.
func (t *moduleTree) order(wanted []wantedModule) ([]string, error) {
	var list []string
	done := map[string]bool{}
	var add func(file, by string) error
	add = func(file, by string) error {
		if done[file] {
			return nil
		}
		done[file] = true
		needs, ok := t.deps[file]
		if !ok {
			return fmt.Errorf("kernel modules: %s needs %s, which modules.dep does not list", by, file)
		}
		// modprobe goes from the last to the first.
		for i := len(needs) - 1; i >= 0; i-- {
			if err := add(needs[i], file); err != nil {
				return err
			}
		}
		list = append(list, file)
		return nil
	}
	for _, w := range wanted {
		file, ok := t.paths[w.name]
		switch {
		case ok:
			if err := add(file, w.name); err != nil {
				return nil, err
			}
		case t.builtin[w.name] || w.optional:
		default:
			return nil, fmt.Errorf("kernel modules: this kernel has no %s, neither as a module nor built in", w.name)
		}
	}
	return list, nil
}

// entries is the part of the initramfs that comes with the kernel: the modules, decompressed (insmod by a kernel that cannot
// decompress works then, and the boot does not pay for it), and the list of them.
func (t *moduleTree) entries(wanted []wantedModule) ([]entry, error) {
	files, err := t.order(wanted)
	if err != nil {
		return nil, err
	}
	var list strings.Builder
	var out []entry
	for _, f := range files {
		data, err := readModule(filepath.Join(t.dir, filepath.FromSlash(f)))
		if err != nil {
			return nil, fmt.Errorf("kernel modules: %w", err)
		}
		at := "/lib/modules/" + moduleName(f) + ".ko"
		list.WriteString(at + "\n")
		out = append(out, entry{path: at, mode: 0o644, data: data})
	}
	return append(out, entry{path: moduleListPath, mode: 0o644, data: []byte(list.String())}), nil
}

// moduleLimit bounds a decompressed module; the largest of Debian's are below 10 MiB.
const moduleLimit = 64 << 20

func readModule(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r io.Reader = f
	switch path.Ext(name) {
	case ".ko":
	case ".xz":
		r, err = xz.NewReader(bufio.NewReader(f))
	case ".zst":
		var d *zstd.Decoder
		if d, err = zstd.NewReader(f); err == nil {
			defer d.Close()
			r = d
		}
	case ".gz":
		r, err = gzip.NewReader(f)
	default:
		err = errors.New("unknown compression")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(name), err)
	}
	data, err := io.ReadAll(io.LimitReader(r, moduleLimit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(name), err)
	}
	if len(data) > moduleLimit || !bytes.HasPrefix(data, []byte("\x7fELF")) {
		return nil, fmt.Errorf("%s: not a kernel module", filepath.Base(name))
	}
	return data, nil
}
