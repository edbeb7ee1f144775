package e2e

import (
	"strings"
	"testing"

	"capsid/proxy/ledger"
)

// TestAgentForkedMidAnswer forks Claude Code while its model is speaking. The parent hears the answer to its end; a child's connection is cut, and it asks again by itself.
func TestAgentForkedMidAnswer(t *testing.T) {
	h := newHouse(t)
	st := h.start("speaking", "claude", h.workspace("project"), "--policy", h.policy)
	s := h.look(st)
	s.await("bypass permissions on")
	halt := h.models.HaltAt("moon")
	const question, answer = "tell me of the moon and of the sun", "You said: tell me of the moon and of the sun"
	s.key(question)
	s.await(question)
	s.key("\r")
	select {
	case <-halt.Begun():
	case <-t.Context().Done():
	}
	children := h.fork("speaking", "listening", 2)
	if strings.Contains(flat(s.text()), flat(answer)) {
		t.Fatalf("the answer was there before the fork:\n%s", s.text())
	}
	halt.Lift()
	s.await(answer)
	asked := func(id string) int {
		n := 0
		for _, e := range h.rows(id) {
			if e.Kind == ledger.HTTP && e.Method == "POST" && strings.Contains(e.URL, "/v1/messages") && e.Decision == ledger.Allow {
				n++
			}
		}
		return n
	}
	for _, child := range children {
		h.look(child).await(answer)
		if asked(child.ID) == 0 {
			t.Errorf("%s did not ask again:\n%s", child.Name, describe(h.rows(child.ID)))
		}
	}
}
