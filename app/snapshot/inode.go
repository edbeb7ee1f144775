package snapshot

import (
	"os"
	"syscall"
)

// inode is what a folder's entry leads to.
type inode struct {
	dev, ino uint64
	links    uint64
	bytes    int64 // allocated on the disk
}

// inodeOf looks at what the system said of a file.
func inodeOf(info os.FileInfo) inode {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return inode{links: 1, bytes: info.Size()}
	}
	// st_blocks counts 512 bytes whatever the file system's blocks are (stat(2)). The conversions: systems differ in the types.
	return inode{dev: uint64(st.Dev), ino: uint64(st.Ino), links: uint64(st.Nlink), bytes: int64(st.Blocks) * 512}
}
