package soft

// Defences lists the walls around QEMU.
func (m *machine) Defences() []string {
	return append([]string{"QEMU has no network device, no display and no path to a file: it was handed open what it needs"}, m.proc.Defences()...)
}
