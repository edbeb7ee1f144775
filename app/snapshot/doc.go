// Package snapshot is what a session's snapshot is on disk: a folder of plain files and a manifest of their digests, sessions/<id>/snapshots/<name>/.
//
// A folder gets its name when all in it has reached the disk, so one that has a name is whole, whenever the program or the computer stopped. Folders share
// files by hard links and none needs another: removing one takes nothing from the others, nor from sessions that were restored from it.
//
// What is read of a folder may have been torn, altered or written by another version: it is bounded, checked and refused with a reason. The manifest's own digest finds
// accidents; it is no signature, and somebody who may write there can write another manifest with its digest. So whoever restores takes the
// workspace, the policy and the access from the session that is restored, never from a manifest.
package snapshot
