// Package disk has the disks of machines: stacks of plain sparse files of one size, where a hole in a layer means "ask the layer below", and a hole in all
// of them reads as zeros. Only the top is written. A snapshot freezes the top and lays an empty one on it; a fork is two empty tops on one stack.
// Neither costs more as the disk grows.
//
// The unit of a layer is a block of 4 KiB: a block is in a layer as a whole or not at all. What is there is read once when a stack is opened, by
// SEEK_DATA and SEEK_HOLE (lseek(2)), into a bit for each block, and kept up by writes. The bottom needs none of that: there a hole is zeros in any case.
//
// # What a crash leaves
//
// A block that comes into the top does so by one write of whole, aligned blocks, in which what the guest did not write is what the layers below
// have. The kernel copies such a write block by block into its cache, and a process that is killed does not end it within a block; a file system with
// blocks of 4 KiB brings a block to the disk before it says that the block is there. So after a crash each block is the old one or the new one, never partly zero.
// Sync (FLUSH) brings the top to the disk, and what was frozen and is not there yet.
//
// # Zeros and discards
//
// An extent that was allocated and not written is a hole to SEEK_DATA. So where a layer below has data, zeroing writes real zeros; where none has,
// it makes a hole. A discard (virtio §5.2.6.2, NBD_CMD_TRIM) may leave zeros or what was there. Where no layer below has data, it makes a hole, which reads as zeros; where one
// has, it leaves the block as it is: a hole would bring back what was written before a snapshot. A stack of one layer is a plain file: it punches holes.
//
// Layers must not be copied by tools that fill holes or dig new ones (cp --sparse=always, fallocate --dig-holes).
package disk
