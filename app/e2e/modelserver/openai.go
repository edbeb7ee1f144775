package modelserver

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/klauspost/compress/zstd"
)

// responses serves POST /v1/responses (the Responses API, streamed).
func (s *Server) responses(w http.ResponseWriter, r *http.Request) {
	var body io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "zstd" {
		z, err := zstd.NewReader(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		defer z.Close()
		body = z
	}
	var req struct {
		Model string `json:"model"`
		Input []struct {
			Type    string          `json:"type"`
			Role    string          `json:"role"`
			Content json.RawMessage `json:"content"`
			Tools   []tool          `json:"tools"` // of the item "additional_tools"
		} `json:"input"`
		Tools []tool `json:"tools"`
	}
	if err := json.NewDecoder(body).Decode(&req); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	said, done := "", false
	for _, item := range req.Input {
		switch item.Type {
		case "message", "":
			if t := texts(item.Content); item.Role == "user" && t != "" {
				said, done = t, false
			}
		case "function_call_output", "custom_tool_call_output", "local_shell_call_output":
			done = true
		}
	}
	tools := req.Tools
	for _, item := range req.Input {
		tools = append(tools, item.Tools...)
	}
	shell := shellTool("", tools)
	t := next(said, done)
	if t.word != "" && shell.Name == "" {
		t = turn{text: "a title"}
	}
	response := object{"id": "resp_01", "object": "response", "model": req.Model, "status": "in_progress", "output": []any{}}
	e := stream(w)
	e.send("response.created", object{"type": "response.created", "response": response})
	var item object
	if t.word != "" {
		item = shell.call(t)
		e.send("response.output_item.added", object{"type": "response.output_item.added", "output_index": 0, "item": item})
	} else {
		item = object{"type": "message", "id": "msg_01", "role": "assistant", "status": "in_progress", "content": []any{}}
		e.send("response.output_item.added", object{"type": "response.output_item.added", "output_index": 0, "item": item})
		for _, word := range words(t.text) {
			e.send("response.output_text.delta", object{"type": "response.output_text.delta", "item_id": "msg_01", "output_index": 0, "content_index": 0, "delta": word})
		}
		item = object{"type": "message", "id": "msg_01", "role": "assistant", "status": "completed", "content": []any{object{"type": "output_text", "text": t.text, "annotations": []any{}}}}
	}
	e.send("response.output_item.done", object{"type": "response.output_item.done", "output_index": 0, "item": item})
	response["status"], response["output"] = "completed", []any{item}
	response["usage"] = object{"input_tokens": 10, "input_tokens_details": object{"cached_tokens": 0}, "output_tokens": 10,
		"output_tokens_details": object{"reasoning_tokens": 0}, "total_tokens": 20}
	e.send("response.completed", object{"type": "response.completed", "response": response})
}

// tool is one tool that the agent offers; a namespace holds more.
type tool struct {
	Type  string `json:"type"`
	Name  string `json:"name"`
	Tools []tool `json:"tools"`

	namespace string
}

// shellTool finds a tool that runs commands. Its form differs from model to model of the same agent.
func shellTool(namespace string, tools []tool) (found tool) {
	for _, t := range tools {
		t.namespace = namespace
		if t.Type == "namespace" {
			t = shellTool(t.Name, t.Tools)
		}
		switch t.Name {
		case "exec_command", "shell", "shell_command", "exec":
			found = t
		}
	}
	return found
}

// call is the call that writes a turn's file.
func (s tool) call(t turn) object {
	line := fmt.Sprintf("echo %s > %s", t.word, t.path)
	item := object{"type": "function_call", "id": "fc_01", "call_id": "call_01", "name": s.Name, "status": "completed"}
	if s.namespace != "" {
		item["namespace"] = s.namespace
	}
	switch s.Name {
	case "exec": // a script that has the other tools
		item["type"] = "custom_tool_call"
		item["input"] = fmt.Sprintf("text(await tools.exec_command({cmd: %s}));", encode(line))
	case "exec_command":
		item["arguments"] = encode(object{"cmd": line})
	case "shell_command":
		item["arguments"] = encode(object{"command": line})
	default:
		item["arguments"] = encode(object{"command": []string{"sh", "-c", line}})
	}
	return item
}
