//go:build !linux

package verified

// Once calls verify here.
func Once(_ string, _ []string, _ Time, verify func() error) error { return verify() }

// Mark does nothing here.
func Mark(string, []string, Time) {}
