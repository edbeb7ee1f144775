package vmmtest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"capsid/guest/link"
	"capsid/vmm"
)

const bulk = 100_000_000 // bytes each way

// shared boots one machine and puts it to most cases; the last is its end.
func shared(t *testing.T, b vmm.Backend, o Options) {
	cfg := config(t, o)
	cfg.Disks = []vmm.Disk{
		{Path: makeDisk(t, cfg.Dir, "root", "read only"), ReadOnly: true},
		{Path: makeDisk(t, cfg.Dir, "data", "to be overwritten")},
		makeLayers(t, cfg.Dir),
	}
	m := boot(t, b, cfg)
	cases := []struct {
		name string
		run  func(*testing.T, *machine)
	}{
		{"info", info},
		{"console", console},
		{"processors, memory and parameters", configured},
		{"dial is refused", refused},
		{"listen", listen},
		{"disks", disks},
		{"discard", discard},
		{"layers", layers},
		{"memory comes back", memoryComesBack},
		{"half-close by the host", halfClose},
		{"close", closeReaches},
		{"many streams", manyStreams},
		{"bytes to the guest", upload},
		{"bytes to the host", download},
		{"pause and resume", pause},
		{"power off", powerOff},
		{"layers are kept", layersKept},
	}
	for _, c := range cases {
		if !t.Run(c.name, func(t *testing.T) { c.run(t, m) }) && m.Err() != nil {
			t.Fatalf("the machine has ended: %v", m.Err())
		}
	}
}

func info(t *testing.T, m *machine) {
	i := m.Info()
	if i.Backend == "" || i.Detail == "" || i.PID == 0 || time.Since(i.Started) > bootTime || i.Started.After(time.Now()) {
		t.Errorf("%+v", i)
	}
	if m.Err() != nil {
		t.Errorf("err of a running machine: %v", m.Err())
	}
}

func console(t *testing.T, m *machine) {
	m.ask(t, request{Op: "print", Text: "\x1b[31mred\x1b]0;title\a\x07 line", Count: 20})
	for deadline := time.Now().Add(callTime); ; time.Sleep(10 * time.Millisecond) {
		lines := m.Console(3)
		if len(lines) == 3 && lines[2] == "red line 19" && lines[0] == "red line 17" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("console: %q", lines)
		}
	}
	if all := m.Console(1000); !strings.Contains(strings.Join(all, "\n"), readyLine) {
		t.Errorf("console: %q", all)
	}
	if lines := m.Console(0); len(lines) != 0 {
		t.Errorf("no lines asked for, got %q", lines)
	}
}

func configured(t *testing.T, m *machine) {
	a := m.ask(t, request{Op: "about"})
	if a.CPUs != testCPUs {
		t.Errorf("%d processors", a.CPUs)
	}
	// The kernel keeps a part for itself.
	if err := wantNear("memory", a.Memory, testMemory, 96<<20); err != nil {
		t.Error(err)
	}
	if !strings.Contains(a.Cmdline, m.cfg.Cmdline) {
		t.Errorf("kernel parameters: %s", a.Cmdline)
	}
}

func refused(t *testing.T, m *machine) {
	if _, err := m.Dial(within(t, callTime), nobodyPort); !errors.Is(err, link.ErrRefused) {
		t.Errorf("dial: %v", err)
	}
}

// listen takes a stream of the guest, which half-closes it.
func listen(t *testing.T, m *machine) {
	l, err := m.Listen(hostPort)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := m.Listen(hostPort); err == nil {
		t.Error("second listener on a port")
	}
	served := make(chan error)
	go func() {
		c, err := l.Accept()
		if err != nil {
			served <- err
			return
		}
		defer c.Close()
		b, err := io.ReadAll(c)
		if err == nil {
			_, err = c.Write(append([]byte("heard "), b...))
		}
		if err == nil {
			err = c.(link.Conn).CloseWrite()
		}
		served <- err
	}()
	a := m.ask(t, request{Op: "dial", Text: "hello"})
	if a.Text != "heard hello" {
		t.Errorf("guest got %q", a.Text)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func disks(t *testing.T, m *machine) {
	root, data := m.ask(t, request{Op: "disk", Disk: "vda"}), m.ask(t, request{Op: "disk", Disk: "vdb"})
	if !root.ReadOnly || root.Size != diskSize {
		t.Errorf("vda: %+v", root)
	}
	// Without a write-back cache the guest would send no FLUSH.
	if data.ReadOnly || data.Size != diskSize || data.Cache != "write back" {
		t.Errorf("vdb: %+v", data)
	}
	if a := m.ask(t, request{Op: "read", Disk: "vda", Count: 9}); a.Text != "read only" {
		t.Errorf("vda holds %q", a.Text)
	}
	if _, err := ask(m.dial(t, callPort), request{Op: "write", Disk: "vda", Text: "x"}); err == nil {
		t.Error("a read-only disk was written")
	}
	m.ask(t, request{Op: "write", Disk: "vdb", Text: "written by the guest"})
	b, err := os.ReadFile(m.cfg.Disks[1].Path)
	if err != nil || !bytes.HasPrefix(b, []byte("written by the guest")) || len(b) != diskSize {
		t.Errorf("after FLUSH the host's file of %d bytes begins %.20q, %v", len(b), b, err)
	}
}

// discard: what the guest deletes is a hole in the host's file again.
func discard(t *testing.T, m *machine) {
	path := m.cfg.Disks[1].Path
	m.ask(t, request{Op: "write", Disk: "vdb", Text: strings.Repeat("x", 1<<20)})
	before := blocks(t, path)
	m.ask(t, request{Op: "discard", Disk: "vdb"})
	if after := blocks(t, path); before < 1<<20/512 || after > before/8 {
		t.Errorf("the disk's file takes %d blocks, and %d after it was discarded", before, after)
	}
	if a := m.ask(t, request{Op: "read", Disk: "vdb", Count: 3}); a.Text != "\x00\x00\x00" {
		t.Errorf("a discarded disk reads %q", a.Text)
	}
}

func blocks(t *testing.T, path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Blocks
}

// memoryComesBack: the host has the pages again that the guest does not use any more.
func memoryComesBack(t *testing.T, m *machine) {
	const used = 160 << 20
	before := resident(t, m.Info().PID)
	m.ask(t, request{Op: "use memory", Count: used})
	if peak := resident(t, m.Info().PID); peak < before+used/2 {
		t.Fatalf("%d MiB used by the guest took %d MiB of the host's memory", used>>20, (peak-before)>>20)
	}
	for deadline := time.Now().Add(callTime); resident(t, m.Info().PID) > before+used/4; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("a minute after the guest let go of %d MiB the machine has %d MiB, and %d before", used>>20, resident(t, m.Info().PID)>>20, before>>20)
		}
	}
}

// resident is how many bytes of the host's memory a process has (proc_pid_statm(5)).
func resident(t *testing.T, pid int) int64 {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	fields := strings.Fields(string(b))
	if err != nil || len(fields) < 2 {
		t.Fatalf("%q, %v", b, err)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

func halfClose(t *testing.T, m *machine) {
	c := m.dial(t, echoPort)
	if _, err := io.WriteString(c, "there and back"); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if err != nil || string(b) != "there and back" {
		t.Errorf("%q, %v", b, err)
	}
}

// closeReaches: one who writes in the guest is told that the host has closed; otherwise the guest's writer would wait for ever.
func closeReaches(t *testing.T, m *machine) {
	for range 3 {
		c := m.dial(t, sourcePort)
		if _, err := c.Write(binary.BigEndian.AppendUint64(nil, 1<<40)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
		c.Close()
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("read after close")
		}
	}
	m.ask(t, request{Op: "about"})
}

func manyStreams(t *testing.T, m *machine) {
	const n = 200
	started := time.Now()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			c, err := m.Dial(within(t, callTime), echoPort)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			sent := bytes.Repeat([]byte{byte(i), 'x'}, 5000)
			go func() {
				c.Write(sent)
				c.CloseWrite()
			}()
			if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, sent) {
				t.Errorf("stream %d: %d bytes, %v", i, len(got), err)
			}
		})
	}
	wg.Wait()
	t.Logf("%d streams in %v", n, time.Since(started).Round(time.Millisecond))
}

func upload(t *testing.T, m *machine) {
	rate(t, m.upload(t, bulk))
}

func download(t *testing.T, m *machine) {
	rate(t, m.download(t, bulk))
}

// upload sends n bytes to the guest, which checks them.
func (m *machine) upload(t testing.TB, n int64) time.Duration {
	c := m.dial(t, sinkPort)
	started := time.Now()
	if err := newPattern().send(c, n); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	var got [8]byte
	if _, err := io.ReadFull(c, got[:]); err != nil {
		t.Fatal(err)
	}
	if got := int64(binary.BigEndian.Uint64(got[:])); got != n {
		t.Errorf("guest got %d bytes", got)
	}
	return time.Since(started)
}

// download takes n bytes from the guest and checks them.
func (m *machine) download(t testing.TB, n int64) time.Duration {
	c := m.dial(t, sourcePort)
	started := time.Now()
	if _, err := c.Write(binary.BigEndian.AppendUint64(nil, uint64(n))); err != nil {
		t.Fatal(err)
	}
	got, err := newPattern().receive(c)
	if err != nil || got != n {
		t.Errorf("%d bytes, %v", got, err)
	}
	return time.Since(started)
}

func rate(t testing.TB, d time.Duration) {
	t.Logf("%d MB in %v, %.1f MB/s", bulk/1_000_000, d.Round(time.Millisecond), bulk/1e6/d.Seconds())
}

// pause: nothing moves while the machine is paused, and all goes on afterwards.
func pause(t *testing.T, m *machine) {
	ticks := m.dial(t, tickPort)
	tick := func(wait time.Duration) error {
		ticks.SetReadDeadline(time.Now().Add(wait))
		_, err := ticks.Read(make([]byte, 1024))
		return err
	}
	if err := tick(callTime); err != nil {
		t.Fatal(err)
	}
	for range 2 { // it is idempotent
		if err := m.Pause(within(t, callTime)); err != nil {
			t.Fatal(err)
		}
	}
	// What was on its way arrives yet.
	silent := false
	for deadline := time.Now().Add(callTime); !silent && time.Now().Before(deadline); {
		silent = errors.Is(tick(time.Second), os.ErrDeadlineExceeded)
	}
	if !silent {
		t.Error("a paused machine goes on")
	}
	if _, err := m.Dial(within(t, 200*time.Millisecond), callPort); err == nil {
		t.Error("a paused machine answers")
	}
	for range 2 {
		if err := m.Resume(within(t, callTime)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tick(callTime); err != nil {
		t.Errorf("after resume: %v", err)
	}
	ticks.Close()
	m.ask(t, request{Op: "about"})
}

func powerOff(t *testing.T, m *machine) {
	ask(m.dial(t, callPort), request{Op: "power off"})
	if err := m.ended(t); err != nil {
		t.Errorf("err: %v", err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if err := m.Err(); err != nil {
		t.Errorf("err after Close: %v", err)
	}
}
