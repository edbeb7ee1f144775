//go:build linux

package agent

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// onlineProcessors starts the processors that the kernel was told to leave (maxcpus=1), as many as capsid.cpus=N asks for: an emulator may
// not survive that they start while the kernel is still finding its feet.
func (m *machine) onlineProcessors() {
	raw, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return
	}
	for n := 1; n < wantedProcessors(string(raw)); n++ {
		at := fmt.Sprintf("/sys/devices/system/cpu/cpu%d/online", n)
		now, err := os.ReadFile(at)
		if err == nil && strings.TrimSpace(string(now)) == "1" {
			continue
		}
		if err == nil {
			err = os.WriteFile(at, []byte("1"), 0)
		}
		if err != nil {
			m.warnings = append(m.warnings, fmt.Sprintf("processor %d did not start: %v", n, err))
		}
	}
}

// wantedProcessors is what the kernel parameter says, 1 when there is none.
func wantedProcessors(cmdline string) int {
	for _, p := range strings.Fields(cmdline) {
		if v, ok := strings.CutPrefix(p, "capsid.cpus="); ok {
			if n, err := strconv.Atoi(v); err == nil && n > 0 && n <= 64 {
				return n
			}
		}
	}
	return 1
}
