//go:build linux

// Command capsid-agent is the first process of a guest.
package main

import "capsid/guest/agent"

func main() { agent.Main() }
