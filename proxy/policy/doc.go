// Package policy decides what may leave a machine. It reads corp.toml (an organisation's), a session's own policy file,
// user.toml (a person's) and decisions.toml (what a person clicked), and answers for names, connections and requests.
//
// The order, first answer wins:
//
//  1. corp.toml: rules, block list, allow list
//  2. the session's policy file: rules, block list, allow list
//  3. user.toml: rules, block list
//  4. decisions: the session's, then the project's, then those for always
//  5. user.toml: allow list
//  6. the hosts that the agent's own file asks for
//  7. default: corp.toml's, the session's, user.toml's, else "ask"
//
// "ask" refuses now and leaves the request for a person's review. corp.toml's block list stands before its rules, so nothing undoes it; with
// lock = true in a table of corp.toml any value there from a person is an error, and decisions and agents' hosts count for nothing.
//
// Policy is never read from a workspace: the agent could write it.
package policy
