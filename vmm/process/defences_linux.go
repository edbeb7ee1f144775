package process

import (
	"bufio"
	"fmt"
	"os"
	"strings"
)

// Defences lists the walls around the process, as the kernel says; one that is not in force is not listed.
func (p *Process) Defences() []string {
	var list []string
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		return list
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), ":")
		switch fields := strings.Fields(value); {
		case key == "Seccomp" && len(fields) == 1 && fields[0] == "2": // SECCOMP_MODE_FILTER
			list = append(list, "seccomp: a filter of system calls")
		case key == "NoNewPrivs" && len(fields) == 1 && fields[0] == "1":
			list = append(list, "no new privileges")
		case key == "Uid" && len(fields) == 4 && os.Getuid() == 0 && fields[1] != "0":
			list = append(list, "user: "+fields[1]+", not root")
		case key == "CapEff" && len(fields) == 1 && strings.Trim(fields[0], "0") == "":
			list = append(list, "capabilities: none")
		}
	}
	return append(list, "ends with its supervisor")
}
