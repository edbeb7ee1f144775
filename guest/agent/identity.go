//go:build linux

package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// From linux/random.h: _IOW('R', 0x03, int[2]) and _IO('R', 0x07).
	rndAddEntropy = 0x40085203
	rndReseedCRNG = 0x5207

	minEntropy = 32
	maxEntropy = 512
)

// randPoolInfo is struct rand_pool_info with its buffer, whose length is fixed here.
type randPoolInfo struct {
	entropyCount int32 // bits
	bufSize      int32 // bytes
	buf          [maxEntropy]byte
}

// addEntropy credits the host's random bytes and has the generator seeded anew from them at once: what a machine drew before
// may be what another of the same snapshot drew.
func addEntropy(seed []byte) error {
	if len(seed) < minEntropy {
		return fmt.Errorf("entropy: %d bytes, fewer than %d", len(seed), minEntropy)
	}
	f, err := os.OpenFile("/dev/urandom", os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("entropy: %w", err)
	}
	defer f.Close()
	var info randPoolInfo
	n := copy(info.buf[:], seed)
	info.entropyCount, info.bufSize = int32(8*n), int32(n)
	// unsafe: ioctl takes the address of a struct that x/sys has no wrapper for. It is as long as bufSize says, and alive during the call.
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), rndAddEntropy, uintptr(unsafe.Pointer(&info))); e != 0 {
		return fmt.Errorf("add entropy: %w", e)
	}
	if err := unix.IoctlSetInt(int(f.Fd()), rndReseedCRNG, 0); err != nil {
		return fmt.Errorf("reseed: %w", err)
	}
	return nil
}

// checkHostname takes what the kernel and /etc/hosts take (RFC 1123).
func checkHostname(name string) error {
	if name == "" || len(name) > 63 || strings.HasPrefix(name, "-") {
		return fmt.Errorf("hostname %q has not 1 to 63 letters", name)
	}
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '.' {
			return fmt.Errorf("hostname %q has a %q", name, c)
		}
	}
	return nil
}

// writeIdentity writes the name and the number of the machine. The number is made of the host's entropy, and so differs between machines of one image.
func (t tree) writeIdentity(hostname string, entropy []byte) error {
	return t.writeNames(hostname, derive("machine-id", entropy))
}

// derive makes a number of the host's entropy, 32 hexadecimal digits.
func derive(what string, entropy []byte) string {
	sum := sha256.Sum256(append([]byte(what), entropy...))
	return hex.EncodeToString(sum[:16])
}

func (t tree) writeNames(hostname, machineID string) error {
	return errors.Join(
		t.write("etc/hostname", []byte(hostname+"\n"), 0o644),
		t.write("etc/hosts", []byte("127.0.0.1\tlocalhost\n127.0.1.1\t"+hostname+"\n::1\tlocalhost ip6-localhost ip6-loopback\n"), 0o644),
		t.write("etc/machine-id", []byte(machineID+"\n"), 0o444),
	)
}
