// Package traffic is what the window knows of a session's requests, free of any toolkit: the latest rows for the Live list, and what was
// refused, with what a person has just decided about it. Everything answers from memory and may be used from any goroutine.
//
// The text in rows came from the guest. The ledger has bounded it and taken control characters out; here it is only searched and cut.
package traffic
