package supervisor

import (
	"context"
	"sync"
	"time"

	"capsid/app/session"
	"capsid/proxy/ledger"
	"capsid/proxy/policy"
)

// followPolicy takes up changes of the policy files for as long as the session lives, and tells of each.
func (s *Supervisor) followPolicy() {
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	s.down.add(func() { cancel(); watching.Wait() })
	first := true
	watching.Go(func() {
		err := s.policy.Watch(ctx, func(err error) {
			switch {
			case err != nil:
				s.notice("error", "the policy in force stays: "+err.Error())
			case !first:
				s.notice("info", "the policy was read anew")
			}
			first = false
			s.countBlocked()
		})
		if err != nil {
			s.notice("error", "changes of the policy files are not seen: "+err.Error())
		}
	})
}

// followLedger passes entries to the hub, and keeps the count of what waits for a person's decision.
func (s *Supervisor) followLedger() {
	ctx, cancel := context.WithCancel(context.Background())
	var following sync.WaitGroup
	s.down.add(func() { cancel(); following.Wait() })
	following.Go(func() {
		refused := false
		tick := time.NewTicker(sampleEvery) // a storm of refusals costs one look each time
		defer tick.Stop()
		entries := s.ledger.Follow(ctx)
		for {
			select {
			case e, ok := <-entries:
				if ctx.Err() != nil {
					return
				}
				if !ok {
					// We fell behind and lost some: what is shown live may have gaps, the ledger has none.
					if entries = s.ledger.Follow(ctx); s.ledger.Err() != nil {
						s.notice("error", s.ledger.Err().Error())
					}
					refused = true
					continue
				}
				refused = refused || e.Decision != ledger.Allow
				s.hub.entry(e)
			case <-tick.C:
				if refused {
					refused = false
					s.countBlocked()
				}
			case <-ctx.Done():
				return
			}
		}
	})
}

func (s *Supervisor) countBlocked() {
	groups, err := s.Blocked()
	if err != nil {
		return // the session ends
	}
	n := 0
	for _, g := range groups {
		n += len(g.Hosts)
	}
	if s.state.get().Blocked != n {
		s.state.change(func(st *session.Status) { st.Blocked = n })
	}
}

// Blocked returns what was refused and what nobody has decided on yet.
func (s *Supervisor) Blocked() ([]ledger.Group, error) {
	groups, err := s.ledger.Pending()
	if err != nil {
		return nil, err
	}
	p := s.policy.Current()
	return ledger.Filter(groups, func(h ledger.Host) bool { return undecided(p, h) }), nil
}

// undecided: the policy in force still refuses the host, and no rule was written for it.
func undecided(p *policy.Policy, h ledger.Host) bool {
	var v policy.Verdict
	switch {
	case h.Port == 0:
		v = p.Name(h.Host)
	case h.Method != "":
		v = p.Request(policy.Request{Host: h.Host, Port: h.Port, Method: h.Method, Path: h.Path})
	default:
		v = p.Connect(h.Host, h.Port)
	}
	return v.Decision == ledger.Ask || v.Decision == ledger.Block && v.Rule == "default"
}

// Decide records a person's decision and puts it in force.
func (s *Supervisor) Decide(d session.DecisionRequest) error {
	if err := session.Decide(s.cfg.Paths, s.sess, d); err != nil {
		return err
	}
	if err := s.policy.Reload(); err != nil {
		return &session.Error{Message: "the decision is recorded, but the policy in force stays", Err: err}
	}
	s.countBlocked()
	return nil
}

// Ledger returns rows of the ledger.
func (s *Supervisor) Ledger(q ledger.Query) ([]ledger.Entry, error) {
	return s.ledger.Query(q)
}

func (s *Supervisor) notice(level, text string) {
	s.log.Info("notice", "level", level, "text", text)
	s.hub.notice(session.Notice{Time: time.Now().UTC(), Level: level, Text: text})
}
