// Package share serves a folder of the host into a machine. The guest's kernel asks in FUSE messages (linux/fuse.h), which come
// over a link stream; a process of its own answers them and can reach nothing but that folder.
//
// What a session may rely on:
//
//   - Names. Every step is one name under a descriptor of its folder: openat2 with RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS and
//     RESOLVE_NO_MAGICLINKS, or an at-call that does not follow. A symbolic link is given to the guest as it is, which follows it in its own tree; the host
//     never does. What the host has mounted inside the folder is visible, as a program of the host sees it.
//   - Owners. The process acts as Config.HostUID and HostGID; files of that owner are GuestUID's in the guest, all others are
//     nobody's (65534). Whoever creates a file in the guest, root too, it belongs to the host user. A change of owner is answered
//     with success and does nothing, so that sudo npm install works. Permissions are checked twice: by the guest's kernel from the
//     bits and owners shown, and by the host's. Root on the host, with a folder that belongs to someone else, acts as that owner.
//   - Modes. Set-user-ID, and set-group-ID of anything but folders, is taken out of every mode that the guest asks for. Device
//     nodes are refused (EPERM); FIFOs and sockets are names only, their data never leaves the guest.
//   - Freshness. Names and attributes are kept by the guest for 750 ms, absent names not at all, so that a change made on the host is seen within a
//     second. Cached data is dropped when time or size have changed. Nothing written waits in the guest: write(2) returns when the
//     host's kernel has the data, fsync(2) when its disk has it. Only pages of a shared writable mapping wait, until msync(2),
//     munmap(2) and close, or the guest's write-back.
//   - Locks (flock, POSIX, OFD) are kept by the guest's kernel: they hold between the programs of the machine, not against programs of the host.
//   - Extended attributes: user.* only. Others are absent (ENODATA) and cannot be set.
//   - O_TMPFILE, ioctl and atomic whiteouts are not supported.
//
// A share outlives its process. What the guest knows by numbers, files and what it has open, can be saved (Process.Save) and loaded by another process
// (Config.State), beside a snapshot of the machine, on a host that was started anew perhaps. Every file is then looked for where it was, one name under another as ever, and must be
// the file that it was, by device (that of the folder itself may have changed), inode, time of birth and kind; where a file system keeps no time of birth, its ctime must
// not have changed either. A file that is gone, was deleted while it was open or has another in its place gives ESTALE, and what looks it up by name finds
// what is there now. The folder itself is whatever Config.Dir says. Positions in folders are the host file system's own and stay good. For what
// becomes of requests under way see package pump.
//
// The host takes no byte on trust: messages are checked for shape before they are looked into, node and handle numbers are
// looked up, and memory, descriptors, nodes, handles and requests in progress are bounded. Node numbers are never used twice. A saved
// state is checked as if the guest had written it.
package share
