// Package verified remembers that large files were compared with their digests, for as long as nobody touches them.
package verified

// Time is which of a file's times tells that it was touched (inode(7)).
type Time int

const (
	// Change is ctime, which only the system's clock sets.
	Change Time = iota
	// Write is mtime, for files that get new links, which are a change. Whoever owns the file can set it: what is found by it are accidents.
	Write
)
