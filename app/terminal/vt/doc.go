// Package vt is the model of a terminal's screen: bytes from a program go in by Write, and what they mean stands in cells, modes,
// scrollback and answers. It draws nothing and knows no toolkit.
//
// The program is hostile. Whatever it sends, memory stays bounded (scrollback by lines and by bytes, strings, titles, links, stacks and
// queues by the constants next to them), every sequence takes time bounded by the size of the screen, and nothing that it sends can make Write
// block: answers and events wait in a bounded queue that a goroutine of its own drains, never under the screen's lock. That goroutine ends
// when the queue is empty, so a Screen needs no Close.
//
// Sequences are those of xterm (ctlseqs), ECMA-48 and DEC STD 070, the kitty keyboard protocol, and synchronized output (mode 2026). All methods may be called from any goroutine.
//
// Lines have absolute numbers: the first line ever shown is 0, and a line keeps its number while it moves through the scrollback, until the
// width changes; then Frame.Epoch changes too, and numbers kept from before mean nothing.
package vt
