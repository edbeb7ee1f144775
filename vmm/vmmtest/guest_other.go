//go:build !linux

package vmmtest

const readyLine = "vmmtest: guest is ready"

// guest: no host but Linux starts a program as PID 1 by which it could be mistaken for one.
func guest() {}
