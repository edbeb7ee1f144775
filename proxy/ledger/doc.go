// Package ledger keeps what a session's machine asked for and what was decided, in SQLite (WAL, one file for each session).
//
// A row appears when its request begins and is completed when it ends; followers see both. Rows are written in batches by a goroutine of the
// ledger's own, off the request's path; when the disk cannot keep up the callers wait, since what is not recorded must not run ahead. If
// a batch cannot be written (a full disk) it is kept and tried again with the next one; rows beyond the bound are counted as lost and Err says so.
//
// All text in a row came from the guest: it is bounded and stripped of control characters before it is stored or shown.
package ledger
