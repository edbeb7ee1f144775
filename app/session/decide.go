package session

import (
	"time"

	"capsid/assets"
	"capsid/proxy/policy"
)

// PolicyPaths says where a session's policy is read from.
func PolicyPaths(p Paths, sess Session, agent assets.Agent) policy.Paths {
	return policy.Paths{
		Corp: p.Corp, User: p.UserPolicy(), Session: sess.Policy, Decisions: p.Decisions(),
		SessionDecisions: p.SessionDecisions(sess.ID), Project: sess.Workspace, Agent: agent.Grants(),
	}
}

// Decide records a person's decision in the file that its scope has. For the scopes project and always sess need not be a whole session:
// its Workspace names the project. Supervisors that run take it up by themselves.
func Decide(p Paths, sess Session, d DecisionRequest) error {
	corp, err := policy.Load(policy.Paths{Corp: p.Corp})
	if err != nil {
		return err
	}
	if corp.Locked() {
		return &Error{Message: p.Corp + " allows no decisions of your own", Hint: "ask those who keep that file"}
	}
	file := p.Decisions()
	if d.Scope == policy.ScopeSession {
		file = p.SessionDecisions(sess.ID)
	}
	decision := policy.Decision{Host: d.Host, Action: d.Action, Scope: d.Scope, From: d.From, Time: time.Now()}
	if d.Scope == policy.ScopeProject {
		decision.Project = sess.Workspace
	}
	return policy.Decide(file, decision)
}

// Defaults are what the policy files say of new sessions.
func Defaults(p Paths) (policy.SessionDefaults, error) {
	paths := PolicyPaths(p, Session{}, assets.Agent{})
	paths.SessionDecisions = "" // there is no session
	loaded, err := policy.Load(paths)
	if err != nil {
		return policy.SessionDefaults{}, err
	}
	return loaded.Session(), nil
}
