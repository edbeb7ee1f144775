package link

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// loopback is a link to the machine itself, for which the kernel must have loaded vsock_loopback.ko. Where it has not, real streams are tried only by the
// suite of package vmmtest.
func loopback(t *testing.T) *vsock {
	t.Helper()
	if _, err := os.Stat("/sys/module/vsock_loopback"); err != nil {
		t.Skip(err)
	}
	v := vsockTo(unix.VMADDR_CID_LOCAL)
	v.listened = true // nobody is to be told
	t.Cleanup(func() { v.Close() })
	return v
}

func vsockPair(t *testing.T, v *vsock) (dialed, taken Conn) {
	t.Helper()
	l, err := v.Listen(testPort)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if dialed, err = v.Dial(within(t), testPort); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return dialed, c.(Conn)
}

func TestVsockStreams(t *testing.T) {
	v := loopback(t)
	a, b := vsockPair(t, v)
	if a.RemoteAddr().String() != "host:"+b.LocalAddr().String()[len("guest:"):] {
		t.Errorf("%v, %v", a.RemoteAddr(), b.LocalAddr())
	}
	var wg sync.WaitGroup
	for _, way := range [][2]Conn{{a, b}, {b, a}} {
		sent, got := sha256.New(), sha256.New()
		const n = 3_000_001
		wg.Go(func() {
			random := rand.NewChaCha8([32]byte{})
			if _, err := io.Copy(way[0], io.TeeReader(io.LimitReader(random, n), sent)); err != nil {
				t.Error(err)
			}
			if err := way[0].CloseWrite(); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if m, err := io.Copy(got, way[1]); m != n || err != nil {
				t.Errorf("%d bytes, %v", m, err)
			}
		})
		t.Cleanup(func() {
			if !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
				t.Error("bytes differ")
			}
		})
	}
	wg.Wait()
}

func TestVsockEnds(t *testing.T) {
	v := loopback(t)
	if _, err := v.Dial(within(t), testPort); !errors.Is(err, ErrRefused) {
		t.Errorf("dial of nobody: %v", err)
	}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := v.Dial(cancelled, testPort); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled dial: %v", err)
	}

	a, b := vsockPair(t, v)
	a.SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	b.Close()
	var err error
	for err == nil {
		_, err = a.Write(make([]byte, 1000))
	}
	if !errors.Is(err, ErrReset) {
		t.Errorf("write to a closed stream: %v", err)
	}
	a.Close()
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
	if err := a.CloseWrite(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("half-close after close: %v", err)
	}

	l, err := v.Listen(testPort)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Listen(testPort); err == nil {
		t.Error("two listeners")
	}
	accept := func() chan error {
		c := make(chan error)
		go func() { _, err := l.Accept(); c <- err }()
		return c
	}
	failed := accept()
	l.Close()
	if err := <-failed; !errors.Is(err, net.ErrClosed) || errors.Is(err, ErrClosed) {
		t.Errorf("accept: %v", err)
	}
	a, _ = vsockPair(t, v)
	if l, err = v.Listen(testPort); err != nil {
		t.Fatal(err)
	}
	failed = accept()
	read := make(chan error)
	go func() { _, err := a.Read(make([]byte, 1)); read <- err }()
	v.Close()
	if err := <-failed; !errors.Is(err, ErrClosed) || !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept: %v", err)
	}
	if err := <-read; !errors.Is(err, net.ErrClosed) {
		t.Errorf("read: %v", err)
	}
	<-v.Done()
	if _, err := v.Dial(within(t), testPort); !errors.Is(err, ErrClosed) {
		t.Errorf("dial: %v", err)
	}
	if _, err := v.Listen(testPort); !errors.Is(err, ErrClosed) {
		t.Errorf("listen: %v", err)
	}
}

// A guest takes no streams but the host's.
func TestVsockStrangers(t *testing.T) {
	v := loopback(t)
	guest := newVsock()
	defer guest.Close()
	guest.listened = true
	l, err := guest.Listen(testPort)
	if err != nil {
		t.Fatal(err)
	}
	taken := make(chan error)
	go func() { _, err := l.Accept(); taken <- err }()
	c, err := v.Dial(within(t), testPort)
	if err == nil {
		_, err = c.Read(make([]byte, 1))
	}
	if err == nil {
		t.Error("a stranger was served")
	}
	l.Close()
	if err := <-taken; !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept: %v", err)
	}
}

// The host hears of the first listener.
func TestVsockReady(t *testing.T) {
	v := loopback(t)
	l, err := v.Listen(Ready)
	if err != nil {
		t.Fatal(err)
	}
	guest := vsockTo(unix.VMADDR_CID_LOCAL)
	defer guest.Close()
	for port := range Port(2) {
		if _, err := guest.Listen(testPort + port); err != nil {
			t.Fatal(err)
		}
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); err != nil || len(b) != 0 {
		t.Errorf("%q, %v", b, err)
	}
	c.Close()
}

// A file that is no vsock device is no way to the host.
func TestVsockThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vsock")
	if vsockThere(path) {
		t.Error("there is no such file")
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if vsockThere(path) {
		t.Error("a plain file is taken for a device")
	}
}
