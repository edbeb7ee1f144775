// Package ui is the desktop window: sessions on the left, terminals in the middle, what leaves the machines on the right.
//
// All state of a Window belongs to the UI goroutine. Whatever may wait (the API, the disk, a start) runs on a goroutine of its own,
// started by Window.spawn, and hands its result over by Window.do; both end with the window. Lists answer Fyne from memory
// (package traffic). The window owns nothing that a session needs: closing it leaves sessions running, opening it finds them.
//
// What the window needs from the rest of Capsid is the interface Engine, so that it can be shown against stand-ins; Local is the real one.
package ui
