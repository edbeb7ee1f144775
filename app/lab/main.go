//go:build linux

// Capsid-lab runs a program on a machine that has a real /dev/kvm, whatever the host has: QEMU emulates a processor with virtualization
// (AMD's, or arm64's EL2), and the distribution's kernel of the newest image drives it. Its first use is as a wrapper of go test,
//
//	CGO_ENABLED=0 go test -exec "$PWD/bin/capsid-lab" ./vmm/kvm/...
//
// and people give it a command (capsid-lab -- lscpu) or ask for a shell (capsid-lab -shell).
//
// A program for another processor than the host's (GOARCH=arm64 go test -exec …) gets a lab of its kind. That needs capsid-lab-arm64, which is this program
// for that processor, beside this one; it has the distribution's kernel, which is fetched at the first time, but no image: the root holds only what is
// taken along, and CAPSID_TEST_IMAGE a kernel and an initramfs without an init.
//
// # What the program finds
//
// The root is the image's, with a writable layer in memory. At their own paths are the program itself, when it is a file of the host; the files of the
// working directory and its testdata; capsid and capsid-agent of $CAPSID_BIN (or beside capsid-lab), with the mkfs.ext4 that they need; and what -with
// names. Nothing written comes back.
//
// The environment has what begins with CAPSID_ on the host, what -env names, and CAPSID_LAB=1. CAPSID_TEST_IMAGE is the image's folder, which holds plain
// files and lies where capsid looks for images by XDG_DATA_HOME.
//
// Standard output and error are the program's, live and byte for byte; the exit status too, 128 and the signal's number when a signal ended it. There is
// no network but loopback. SIGQUIT reaches the program, other signals end the machine, as does the end of capsid-lab's parent.
//
// When there is no lab (no image, no QEMU, no /dev/kvm inside, a panic of its kernel, no start in time), the exit status is 125, after one line
// that says why and the last lines of the machine's console.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

// failure is the exit status when the lab, not the program in it, has failed.
const failure = 125

func main() {
	if inLab() {
		guest()
	}
	os.Exit(run(os.Args[1:]))
}

// options are the flags, and the command after them.
type options struct {
	arch        string
	image       string
	qemu        string
	memory      int
	bootTimeout time.Duration
	timeout     time.Duration
	env         list
	with        list
	modules     list
	console     string
	verbose     bool
	shell       bool
	command     []string
}

type list []string

func (l *list) String() string     { return strings.Join(*l, " ") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

func parse(args []string) (options, error) {
	o := options{}
	f := flag.NewFlagSet("capsid-lab", flag.ContinueOnError)
	f.StringVar(&o.arch, "arch", "", "the lab's `processor`, amd64 or arm64; default: the program's")
	f.StringVar(&o.image, "image", "", "the image's `folder`; default: $CAPSID_TEST_IMAGE, or the newest")
	f.StringVar(&o.qemu, "qemu", "", "the `program` that emulates; default: QEMU's for the processor")
	f.IntVar(&o.memory, "memory", 3072, "the machine's memory in `MiB`")
	f.DurationVar(&o.bootTimeout, "boot-timeout", 3*time.Minute, "how long the machine may take until the program starts")
	f.DurationVar(&o.timeout, "timeout", 0, "how long the program may take; 0 is for ever")
	f.Var(&o.env, "env", "pass the environment variable `NAME` too, or set NAME=VALUE; may be repeated")
	f.Var(&o.with, "with", "take the file or folder `PATH` of the host along, programs with their libraries; may be repeated")
	f.Var(&o.modules, "module", "load the kernel's module `NAME` too; may be repeated")
	f.StringVar(&o.console, "console", "", "write the machine's whole console to `FILE`")
	f.BoolVar(&o.verbose, "v", false, "show the machine's console and the times of its start on standard error")
	f.BoolVar(&o.shell, "shell", false, "an interactive shell")
	f.Usage = func() {
		fmt.Fprintln(f.Output(), "usage: capsid-lab [flags] [--] program [arguments]\n       capsid-lab [flags] -shell")
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.command = f.Args()
	if o.shell {
		o.command = append([]string{"/bin/bash", "-l"}, o.command...)
	}
	if len(o.command) == 0 {
		f.Usage()
		return o, errors.New("no program")
	}
	return o, nil
}

func run(args []string) int {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "capsid-lab:", err)
		return failure
	}
	status, err := host(context.Background(), o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "capsid-lab:", err)
		return failure
	}
	return status
}
