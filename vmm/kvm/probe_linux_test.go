package kvm

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestExplainOpen(t *testing.T) {
	for _, c := range []struct {
		err         error
		loaded      bool
		reason, fix string
	}{
		{&fs.PathError{Op: "open", Path: devicePath, Err: fs.ErrNotExist}, false, "no KVM module is loaded", "modprobe"},
		{&fs.PathError{Op: "open", Path: devicePath, Err: fs.ErrNotExist}, true, "not given to this container", "--device /dev/kvm"},
		{&fs.PathError{Op: "open", Path: devicePath, Err: fs.ErrPermission}, true, "no permission", "usermod -aG kvm "},
		{errors.New("no such device"), true, "no such device", "modprobe"},
	} {
		p := explainOpen(c.err, c.loaded)
		if p.Usable || !strings.Contains(p.Reason, c.reason) || !strings.Contains(p.Fix, c.fix) || strings.Contains(p.Reason+p.Fix, "\n") {
			t.Errorf("%v, loaded %v: %+v", c.err, c.loaded, p)
		}
	}
}

func TestSoftwareKVM(t *testing.T) {
	for _, c := range []struct {
		modules []string
		want    bool
	}{
		{nil, false}, {[]string{"kvm", "kvm_amd"}, false}, {[]string{"kvm", "kvm_pvm"}, true}, {[]string{"kvm", "kvm_pvm", "kvm_intel"}, false},
	} {
		dir := t.TempDir()
		for _, m := range c.modules {
			if err := os.Mkdir(filepath.Join(dir, m), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if got, reason := softwareKVM(dir); got != c.want || got != (reason != "") {
			t.Errorf("%v: %v, %q", c.modules, got, reason)
		}
	}
}
