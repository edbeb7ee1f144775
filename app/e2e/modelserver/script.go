package modelserver

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
)

// turn is what the script answers: either words, or a call of the agent's tool for writing files.
type turn struct {
	text       string
	word, path string // a call, when word is not empty
}

var asked = regexp.MustCompile(`write the word (\w+) into (/[\w./-]+)`)

// next plays the script. said is the person's last message; done is true when the agent has handed in a tool's result after it.
func next(said string, done bool) turn {
	m := asked.FindStringSubmatch(said)
	ran := strings.LastIndex(said, "<bash-stdout>")
	switch {
	case ran >= 0 && strings.Contains(said[ran:], "Capsid blocked"):
		return turn{text: "Nothing has left the machine: that host waits for your decision."}
	case ran >= 0:
		return turn{text: "That worked."}
	case m != nil && done:
		return turn{text: fmt.Sprintf("Done. The word %s is in %s now.", m[1], m[2])}
	case m != nil:
		return turn{word: m[1], path: m[2]}
	}
	said = strings.TrimSpace(said)
	if r := []rune(said); len(r) > 80 {
		said = string(r[:80])
	}
	return turn{text: "You said: " + said}
}

// words cuts a text as a model streams it.
func words(s string) []string { return strings.SplitAfter(s, " ") }

// events writes server-sent events, each flushed as it comes.
type events struct{ w http.ResponseWriter }

func stream(w http.ResponseWriter) events {
	w.Header().Set("Content-Type", "text/event-stream")
	return events{w}
}

func (e events) send(name string, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own maps always encode
	}
	if name != "" {
		fmt.Fprintf(e.w, "event: %s\n", name)
	}
	fmt.Fprintf(e.w, "data: %s\n\n", data)
	http.NewResponseController(e.w).Flush()
}

type object = map[string]any

func encode(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(data)
}

// texts gathers the texts of a message's content, which is a string or a list of blocks.
func texts(content json.RawMessage) string {
	var s string
	if json.Unmarshal(content, &s) == nil {
		return s
	}
	var blocks []struct {
		Text string `json:"text"`
	}
	if json.Unmarshal(content, &blocks) != nil {
		return ""
	}
	var out []string
	for _, b := range blocks {
		// What agents add of their own accord is not what the person said.
		if b.Text != "" && !strings.HasPrefix(b.Text, "<system-reminder>") && !strings.HasPrefix(b.Text, "<environment_context>") {
			out = append(out, b.Text)
		}
	}
	return strings.Join(out, "\n")
}
