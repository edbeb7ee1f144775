package soft

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"capsid/vmm"
)

func TestArgs(t *testing.T) {
	cfg := vmm.Config{
		Name: "a, b", Cmdline: "extra=1", CPUs: 3, Memory: 1 << 30,
		Disks: []vmm.Disk{{Path: "/root,fs", ReadOnly: true}, {Path: "/data"}},
	}
	fd := descriptors{kernel: 3, initrd: 4, memory: 10, disks: []int{5, 6}, link: 7, console: 8, qmp: 9}
	tests := []struct {
		arch string
		want []string // each is an option and its value
		not  string
	}{
		{"amd64", []string{
			"-name capsid a,, b",
			"-smp 3", "-m 1024M", "-object memory-backend-file,id=memory,size=1024M,mem-path=/proc/self/fd/10,share=on", "-machine memory-backend=memory",
			"-kernel /proc/self/fd/3", "-initrd /proc/self/fd/4",
			"-chardev socket,id=link,fd=7", "-chardev socket,id=console,fd=8", "-chardev socket,id=qmp,fd=9",
			"-device virtserialport,chardev=link,name=capsid.link",
			"-add-fd fd=5,set=0,opaque=0",
			"-device virtio-blk-pci,drive=disk0", "-device virtio-blk-pci,drive=disk1",
			"-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
			"-accel tcg,thread=multi,tb-size=512", "-cpu max,-la57,-erms",
		}, "ttyAMA0"},
		{"arm64", []string{
			"-machine virt,gic-version=3", "-cpu max,pauth-impdef=on",
			"-device virtio-blk-pci,drive=disk0", "-smp 3",
		}, "clearcpuid"},
	}
	for _, test := range tests {
		t.Run(test.arch, func(t *testing.T) {
			list := args(arches[test.arch], cfg, fd)
			line := strings.Join(list, " ")
			for _, want := range test.want {
				option, value, _ := strings.Cut(want, " ")
				found := false
				for i := range list[:len(list)-1] {
					found = found || list[i] == option && list[i+1] == value
				}
				if !found {
					t.Errorf("no %q in %s", want, line)
				}
			}
			for _, lone := range []string{"-nodefaults", "-no-user-config", "-no-reboot"} {
				if !slices.Contains(list, lone) {
					t.Errorf("no %s in %s", lone, line)
				}
			}
			append := list[slices.Index(list, "-append")+1]
			for _, word := range []string{"maxcpus=1", "capsid.cpus=3", "panic=-1", "extra=1"} {
				if !slices.Contains(strings.Fields(append), word) {
					t.Errorf("no %s among the kernel's parameters: %s", word, append)
				}
			}
			for _, not := range []string{"net", "/root,fs", "/data", test.not} {
				if strings.Contains(strings.ReplaceAll(line, "internet", ""), not) {
					t.Errorf("%q in %s", not, line)
				}
			}
		})
	}
}

func TestBlockdev(t *testing.T) {
	for _, test := range []struct {
		disk   vmm.Disk
		driver string
	}{
		{vmm.Disk{Path: "a", ReadOnly: true}, "raw"},
		{vmm.Disk{Path: "a"}, "nbd"},
		{vmm.Disk{Layers: []string{"a", "b"}}, "nbd"},
		{vmm.Disk{Layers: []string{"a", "b"}, ReadOnly: true}, "nbd"},
	} {
		var got struct {
			Driver   string `json:"driver"`
			ReadOnly bool   `json:"read-only"`
			Discard  string `json:"discard"`
			Cache    struct {
				NoFlush *bool `json:"no-flush"`
				Direct  *bool `json:"direct"`
			} `json:"cache"`
			File struct {
				Filename string `json:"filename"`
			} `json:"file"`
			Server struct{ Type, Str string } `json:"server"`
		}
		if err := json.Unmarshal([]byte(blockdev(2, test.disk, 7)), &got); err != nil {
			t.Fatal(err)
		}
		if got.Driver != test.driver || got.ReadOnly != test.disk.ReadOnly || (got.Discard == "unmap") == test.disk.ReadOnly {
			t.Errorf("%+v: %+v", test.disk, got)
		}
		if raw := got.File.Filename == "/dev/fdset/2"; raw != (test.driver == "raw") || raw == (got.Server.Type == "fd" && got.Server.Str == "7") {
			t.Errorf("%+v: %+v", test.disk, got)
		}
		if got.Cache.NoFlush == nil || *got.Cache.NoFlush {
			t.Error("FLUSH does not reach the host")
		}
	}
}
