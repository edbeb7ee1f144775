// Package supervisor is the process that a session is: it owns the machine, the proxy, the shares and the API on the session's socket.
//
// Run is its whole life. It comes up step by step and shows each step; whatever fails, what came up before is taken down in reverse order.
// When it returns, no process, no socket and no mount of the session is left, only its folder with the last status in it. It ends when its context
// does, when it is asked to by the API, or when the machine ends.
//
// A machine boots, or goes on from a snapshot: of its own session (restore), of another (fork), or from one that was kept warm. A snapshot is taken in this order: the guest
// stops its programs, so that no file of the workspace is in use; the share's process says what the guest knows of files; the machine is frozen and goes on; the guest lets
// the programs go on; what was frozen is written. A machine that goes on is given an identity of its own before its programs are let go on.
//
// Nothing that the guest says is trusted: its streams are bounded by the link and the proxy, its words (titles, versions) are bounded and cleaned
// before they are stored or shown.
package supervisor
