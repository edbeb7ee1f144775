package modelserver

import (
	"encoding/json"
	"net/http"
	"strings"
)

// messages serves POST /v1/messages (the Messages API, streamed or not).
func (s *Server) messages(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Model    string `json:"model"`
		Stream   bool   `json:"stream"`
		Messages []struct {
			Role    string          `json:"role"`
			Content json.RawMessage `json:"content"`
		} `json:"messages"`
		Tools []struct {
			Name string `json:"name"`
		} `json:"tools"`
	}
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	said, done := "", false
	for _, m := range req.Messages {
		if m.Role != "user" {
			continue
		}
		if strings.Contains(string(m.Content), `"tool_result"`) {
			done = true
		}
		// A person's commands ("!ls") may be handed in together with an earlier tool's result.
		if t := texts(m.Content); t != "" {
			said, done = t, false
		}
	}
	canWrite := false
	for _, t := range req.Tools {
		canWrite = canWrite || t.Name == "Write"
	}
	t := next(said, done)
	if t.word != "" && !canWrite {
		t = turn{text: "a title"} // side questions of the agent: titles, summaries
	}
	block, reason := object{"type": "text", "text": t.text}, "end_turn"
	input := object{"file_path": t.path, "content": t.word + "\n"}
	if t.word != "" {
		block, reason = object{"type": "tool_use", "id": "toolu_01", "name": "Write", "input": input}, "tool_use"
	}
	usage := object{"input_tokens": 10, "output_tokens": 10, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
	message := object{"id": "msg_01", "type": "message", "role": "assistant", "model": req.Model, "content": []any{block},
		"stop_reason": reason, "stop_sequence": nil, "usage": usage}
	if !req.Stream {
		answer(w, encode(message))
		return
	}
	message["content"], message["stop_reason"] = []any{}, nil
	e := stream(w)
	e.send("message_start", object{"type": "message_start", "message": message})
	if t.word != "" {
		block["input"] = object{}
	} else {
		block["text"] = ""
	}
	e.send("content_block_start", object{"type": "content_block_start", "index": 0, "content_block": block})
	if t.word != "" {
		e.send("content_block_delta", object{"type": "content_block_delta", "index": 0, "delta": object{"type": "input_json_delta", "partial_json": encode(input)}})
	}
	for _, word := range words(t.text) {
		if t.word == "" {
			s.halt.Load().await(r.Context(), strings.TrimSpace(word))
			e.send("content_block_delta", object{"type": "content_block_delta", "index": 0, "delta": object{"type": "text_delta", "text": word}})
		}
	}
	e.send("content_block_stop", object{"type": "content_block_stop", "index": 0})
	e.send("message_delta", object{"type": "message_delta", "delta": object{"stop_reason": reason, "stop_sequence": nil}, "usage": usage})
	e.send("message_stop", object{"type": "message_stop"})
}
