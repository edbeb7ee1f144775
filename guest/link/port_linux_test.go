package link

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// The driver's files, played by a folder and a FIFO. vmm/vmmtest opens a real one.
func TestOpen(t *testing.T) {
	sys, dev := t.TempDir(), t.TempDir()
	write := func(port, name string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(sys, port), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(sys, port, "name"), []byte(name+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("vport0p1", "org.other.port")

	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := open(ctx, sys, dev); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("no such port: %v", err)
	}

	if err := syscall.Mkfifo(filepath.Join(dev, "vport0p2"), 0o600); err != nil {
		t.Fatal(err)
	}
	write("vport0p2", PortName)
	l, err := open(within(t), sys, dev)
	if err != nil {
		t.Fatal(err)
	}
	// A FIFO answers with our own bytes, which are no link's: what matters is that Close ends the read that waits.
	l.Close()
	if _, err := l.Listen(Control); !errors.Is(err, ErrClosed) {
		t.Errorf("listen on a closed link: %v", err)
	}
}
