package image

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/cavaliergopher/cpio"
	"github.com/google/go-cmp/cmp"
)

func TestArchive(t *testing.T) {
	entries := []entry{{"/init", 0o755, []byte("agent")}, {"/etc/capsid/modules", 0o644, []byte("list\n")}, {"/etc/capsid/empty", 0o600, nil}}
	var out bytes.Buffer
	if err := writeArchive(&out, entries); err != nil {
		t.Fatal(err)
	}
	if out.Len()%512 != 0 {
		t.Errorf("%d bytes: the next archive would not be aligned", out.Len())
	}
	type file struct {
		Mode cpio.FileMode
		Data string
	}
	got := map[string]file{}
	var order []string
	for r := cpio.NewReader(bytes.NewReader(out.Bytes())); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got[h.Name] = file{h.Mode, string(data)}
		order = append(order, h.Name)
		if h.Uid != 0 || h.Guid != 0 || h.ModTime.Unix() != 0 {
			t.Errorf("%s: uid %d gid %d time %v, want all zero", h.Name, h.Uid, h.Guid, h.ModTime)
		}
	}
	want := map[string]file{
		"etc": {cpio.TypeDir | 0o755, ""}, "etc/capsid": {cpio.TypeDir | 0o755, ""}, "etc/capsid/empty": {cpio.TypeReg | 0o600, ""},
		"etc/capsid/modules": {cpio.TypeReg | 0o644, "list\n"}, "init": {cpio.TypeReg | 0o755, "agent"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	// A folder must come before what is in it, or the kernel drops that.
	if d := cmp.Diff([]string{"etc", "etc/capsid", "etc/capsid/empty", "etc/capsid/modules", "init"}, order); d != "" {
		t.Error(d)
	}
	var again bytes.Buffer
	entries[0], entries[2] = entries[2], entries[0]
	if err := writeArchive(&again, entries); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), again.Bytes()) {
		t.Error("the same entries in another order give other bytes")
	}
}
