// Package vmmtest is the suite that every backend of package vmm must pass.
//
// The test binary is also the guest: Run appends itself, as /init, to the initramfs of an image, and Main turns the process that
// the guest's kernel starts into the guest's side of the cases. So both sides stand in one package and speak by the link alone.
//
// A package that runs it has
//
//	func TestMain(m *testing.M) { vmmtest.Main(m) }
//	func TestBackend(t *testing.T) { vmmtest.Run(t, backend, vmmtest.Options{}) }
//
// and is tested with CGO_ENABLED=0: the initramfs has no libraries.
package vmmtest

import (
	"os"
	"testing"
)

// Main is what TestMain calls.
func Main(m *testing.M) {
	if os.Getpid() == 1 {
		guest()
	}
	os.Exit(m.Run())
}
