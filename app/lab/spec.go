//go:build linux

package main

import "capsid/guest/link"

// The paths in the outer initramfs.
const (
	specFile    = "/lab/spec.json"
	modulesList = "/etc/capsid/modules" // of image.WriteModules
	filesDir    = "/lab/files"          // what becomes a layer of the root
	newRoot     = "/lab/new"
)

// imagesDir is where the image lies in the lab, below XDG_DATA_HOME as capsid has it.
const (
	dataHome  = "/lab/data"
	imagesDir = dataHome + "/capsid/images"
)

// spec is what the lab's init is told.
type spec struct {
	Command []string `json:"command"`
	Env     []string `json:"env"`
	Dir     string   `json:"dir"`
	Image   string   `json:"image"` // the folder's name below imagesDir
	Root    bool     `json:"root"`  // there is a root file system on the second disk
	NoKVM   string   `json:"noKVM"` // why there may be no /dev/kvm
	// OneOutput has standard output and error in one stream, as they are on the host: their order is kept.
	OneOutput bool `json:"oneOutput"`
	Terminal  bool `json:"terminal"`
	Rows      int  `json:"rows"`
	Columns   int  `json:"columns"`
}

// The streams between the lab's init, which dials, and the host.
const (
	controlPort link.Port = 1 + iota
	stdinPort
	stdoutPort
	stderrPort
)

// message goes over the control stream, one JSON value after another.
type message struct {
	// To the host.
	Started bool   `json:"started,omitempty"`
	Failed  string `json:"failed,omitempty"` // there is no lab
	Absent  string `json:"absent,omitempty"` // there is no such program
	Ended   bool   `json:"ended,omitempty"`
	Exit    int    `json:"exit,omitempty"`
	// To the lab.
	Signal  int `json:"signal,omitempty"`
	Rows    int `json:"rows,omitempty"`
	Columns int `json:"columns,omitempty"`
}
