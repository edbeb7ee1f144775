package image

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// agentProgram is the program that the kernel starts as /init.
type agentProgram struct {
	data []byte
	sum  string
}

// readAgent reads the agent and refuses one that cannot run as /init: there is no loader in the initramfs.
func readAgent(name string) (*agentProgram, error) {
	data, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("image build: the guest agent %s is missing: make build makes it", name)
	}
	if err != nil {
		return nil, fmt.Errorf("image build: guest agent: %w", err)
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("image build: guest agent %s: not a program for Linux: %w", name, err)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return nil, fmt.Errorf("image build: guest agent %s: not static: build it with CGO_ENABLED=0", name)
		}
	}
	sum := sha256.Sum256(data)
	return &agentProgram{data: data, sum: hex.EncodeToString(sum[:])}, nil
}

// writeInitrd puts the modules' archive and the agent's one after the other. Nothing is compressed: the emulated processor that unpacks it
// takes longer than the copy.
func writeInitrd(dir string, agent *agentProgram) error {
	out, err := os.OpenFile(filepath.Join(dir, initrdFile), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	modules, err := os.Open(filepath.Join(dir, modulesFile))
	if err != nil {
		return err
	}
	defer modules.Close()
	if _, err := io.Copy(out, modules); err != nil {
		return err
	}
	if _, err := out.Write(nullDevice()); err != nil {
		return err
	}
	return writeArchive(out, []entry{{path: "/init", mode: 0o755, data: agent.data}})
}
