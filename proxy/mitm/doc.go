// Package mitm carries a guest's connections out, one HTTP request at a time, each decided by policy and each a row of the ledger.
//
// A connection comes as a stream: a PROXY protocol v2 header that says where the guest wanted to go, then its bytes. A synthetic
// address stands for the name that was asked for; that name, the decided name, is what policy is asked about, what is
// resolved, and what the upstream's certificate is verified for. Nothing that the guest says later can change it: a TLS server
// name or a Host that differs gets 421 and a row.
//
// TLS is ended here with a leaf of the install's own authority, also for hosts that are refused, so that their requests can be answered with a 403
// that says why. What is neither TLS nor HTTP is closed, with a row. Requests are parsed and written anew by net/http; no byte of a request
// line or header is passed on as it came, so two parsers cannot be played off against each other. Bodies are streamed as they come, both
// ways at once, in constant memory.
//
// Policy is asked for each request; after a change of policy Recheck ends exchanges that it no longer allows. The network side knows no rules: all
// of them are func fields of Config. Only WebSocket upgrades pass, as HTTP/1.1. A proxy in the host's environment (HTTPS_PROXY) is not used:
// the address that is dialed must be one that was checked.
package mitm
