package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"capsid/proxy/ledger"
)

// TestAgents holds a conversation with each of the real agents in its machine's terminal: a question, and a task that makes it write a file, which
// the host then sees. The models are stood in for; everything else is as it is for a person.
func TestAgents(t *testing.T) {
	for _, agent := range []struct {
		name   string
		prompt string // what its screen shows once it can be talked to
		host   string // where its model is
		path   string
	}{
		{"claude", "bypass permissions on", "api.anthropic.com", "/v1/messages"},
		{"codex", "OpenAI Codex", "api.openai.com", "/v1/responses"},
		{"gemini", "Type your message", "generativelanguage.googleapis.com", ":streamGenerateContent"},
	} {
		t.Run(agent.name, func(t *testing.T) {
			h := newHouse(t)
			ws := h.workspace("project")
			st := h.start(agent.name+"-talks", agent.name, ws, "--policy", h.policy)
			s := h.look(st)
			s.await(agent.prompt)
			s.say("good morning", "You said: good morning")
			note := filepath.Join(ws, "note.txt")
			s.say("write the word PLUM into "+note, "Done. The word PLUM is in "+note+" now.")
			data, err := os.ReadFile(note)
			if err != nil || strings.TrimSpace(string(data)) != "PLUM" {
				t.Errorf("the host sees %q in the workspace: %v", data, err)
			}
			e := h.row(h.rows(st.ID), "the model's request", func(e ledger.Entry) bool {
				return e.Method == "POST" && e.Host == agent.host && strings.Contains(e.URL, agent.path) && e.Decision == ledger.Allow
			})
			if e.Status != 200 || e.Received == 0 || !strings.HasPrefix(e.Source, agent.name+".toml:") {
				t.Errorf("the row of the model's request: %+v", e)
			}
		})
	}
}
