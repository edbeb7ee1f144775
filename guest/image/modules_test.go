package image

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// As depmod writes it: the needs of a module with all of theirs, the deepest last.
const modulesDep = `kernel/fs/erofs/erofs.ko.xz: kernel/lib/libcrc32c.ko.xz
kernel/lib/libcrc32c.ko.xz:
kernel/net/netfilter/nft_redir.ko.xz: kernel/net/netfilter/nf_nat.ko.xz kernel/net/netfilter/nf_conntrack.ko.xz kernel/net/ipv4/nf_defrag_ipv4.ko.xz kernel/lib/libcrc32c.ko.xz
kernel/net/netfilter/nf_nat.ko.xz: kernel/net/netfilter/nf_conntrack.ko.xz kernel/net/ipv4/nf_defrag_ipv4.ko.xz kernel/lib/libcrc32c.ko.xz
kernel/net/netfilter/nf_conntrack.ko.xz: kernel/net/ipv4/nf_defrag_ipv4.ko.xz kernel/lib/libcrc32c.ko.xz
kernel/net/ipv4/nf_defrag_ipv4.ko.xz:
kernel/drivers/char/hw_random/virtio-rng.ko.xz:
kernel/broken.ko: kernel/gone.ko
`

func TestModuleOrder(t *testing.T) {
	tree := parseModules([]byte(modulesDep), []byte("kernel/fs/fuse/fuse.ko\n"))
	for _, test := range []struct {
		name   string
		wanted []wantedModule
		want   string
		fails  string
	}{
		{"needs come first, once", []wantedModule{{name: "nft_redir"}, {name: "erofs"}}, "libcrc32c nf_defrag_ipv4 nf_conntrack nf_nat nft_redir erofs", ""},
		{"- and _ are the same", []wantedModule{{name: "virtio_rng"}}, "virtio_rng", ""},
		{"built in", []wantedModule{{name: "fuse"}}, "", ""},
		{"missing", []wantedModule{{name: "overlay"}}, "", "overlay"},
		{"missing, optional", []wantedModule{{name: "overlay", optional: true}}, "", ""},
		{"need not listed", []wantedModule{{name: "broken"}}, "", "kernel/gone.ko"},
	} {
		t.Run(test.name, func(t *testing.T) {
			files, err := tree.order(test.wanted)
			if test.fails != "" {
				if err == nil || !strings.Contains(err.Error(), test.fails) {
					t.Fatalf("error %v, want one with %q", err, test.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, f := range files {
				names = append(names, moduleName(f))
			}
			if got := strings.Join(names, " "); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestReadModule(t *testing.T) {
	dir := t.TempDir()
	want := append([]byte("\x7fELF"), bytes.Repeat([]byte("module"), 1000)...)
	var x, z bytes.Buffer
	xw, err := xz.NewWriter(&x)
	if err != nil {
		t.Fatal(err)
	}
	zw, err := zstd.NewWriter(&z)
	if err != nil {
		t.Fatal(err)
	}
	xw.Write(want)
	zw.Write(want)
	xw.Close()
	zw.Close()
	for name, data := range map[string][]byte{"a.ko": want, "a.ko.xz": x.Bytes(), "a.ko.zst": z.Bytes()} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readModule(file)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	for name, data := range map[string][]byte{"not.ko": []byte("text"), "cut.ko.xz": x.Bytes()[:x.Len()/2], "odd.ko.lz4": want} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readModule(file); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v, want one that names it", name, err)
		}
	}
}

func TestModuleEntries(t *testing.T) {
	dir := t.TempDir()
	for name, data := range map[string]string{"modules.dep": "b.ko: a.ko\na.ko:\n", "modules.builtin": "", "a.ko": "\x7fELFa", "b.ko": "\x7fELFb"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := openModules(dir)
	if err != nil {
		t.Fatal(err)
	}
	got, err := tree.entries([]wantedModule{{name: "b"}})
	if err != nil {
		t.Fatal(err)
	}
	want := []entry{
		{"/lib/modules/a.ko", 0o644, []byte("\x7fELFa")}, {"/lib/modules/b.ko", 0o644, []byte("\x7fELFb")},
		{"/etc/capsid/modules", 0o644, []byte("/lib/modules/a.ko\n/lib/modules/b.ko\n")},
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(entry{})); d != "" {
		t.Error(d)
	}
}
