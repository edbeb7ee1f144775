// Package terminal is the terminal widget: it draws a vt.Screen with Fyne and turns keys and pointer events into the bytes that
// programs expect.
//
// Each row of cells is one raster, drawn in software from a glyph cache into pixels that match the screen's one to one. A frame copies
// the rows that changed since the last one, draws them on a goroutine of its own, and hands them over in one call on the UI goroutine;
// there are at most 60 frames a second, and no goroutine runs while nothing changes.
//
// A Terminal is made with New and shows what the Conn given to Attach sends. Methods are called on the UI goroutine, and so are the On… callbacks.
// Reading and writing the Conn never blocks the UI: what is typed waits in a bounded queue.
package terminal
