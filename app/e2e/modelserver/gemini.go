package modelserver

import (
	"encoding/json"
	"net/http"
	"strings"
)

// gemini serves POST /v1beta/models/MODEL:streamGenerateContent and :generateContent.
func (s *Server) gemini(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Contents []struct {
			Role  string `json:"role"`
			Parts []struct {
				Text             string          `json:"text"`
				FunctionResponse json.RawMessage `json:"functionResponse"`
			} `json:"parts"`
		} `json:"contents"`
		Tools []struct {
			FunctionDeclarations []struct {
				Name string `json:"name"`
			} `json:"functionDeclarations"`
		} `json:"tools"`
		GenerationConfig struct {
			ResponseMIMEType string `json:"responseMimeType"`
		} `json:"generationConfig"`
	}
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	said, done := "", false
	for _, c := range req.Contents {
		if c.Role != "user" && c.Role != "function" {
			continue
		}
		for _, p := range c.Parts {
			if p.FunctionResponse != nil {
				done = true
			} else if p.Text != "" && !strings.HasPrefix(p.Text, "<session_context>") {
				said, done = p.Text, false
			}
		}
	}
	canWrite := false
	for _, t := range req.Tools {
		for _, f := range t.FunctionDeclarations {
			canWrite = canWrite || f.Name == "write_file"
		}
	}
	t := next(said, done)
	if t.word != "" && !canWrite {
		t = turn{text: "a title"}
	}
	if req.GenerationConfig.ResponseMIMEType == "application/json" {
		// The agent's own side questions: which model to use, who speaks next. One object answers all; unknown keys are ignored.
		t = turn{text: encode(object{"reasoning": "the script", "complexity_reasoning": "the script", "complexity_score": 10, "model_choice": "flash", "next_speaker": "user"})}
	}
	var parts [][]any
	for _, word := range words(t.text) {
		parts = append(parts, []any{object{"text": word}})
	}
	if t.word != "" {
		parts = [][]any{{object{"functionCall": object{"name": "write_file", "args": object{"file_path": t.path, "content": t.word + "\n"}}}}}
	}
	chunk := func(parts []any, last bool) object {
		candidate := object{"index": 0, "content": object{"role": "model", "parts": parts}}
		out := object{"candidates": []any{candidate}, "modelVersion": "stand-in"}
		if last {
			candidate["finishReason"] = "STOP"
			out["usageMetadata"] = object{"promptTokenCount": 10, "candidatesTokenCount": 10, "totalTokenCount": 20}
		}
		return out
	}
	if !strings.HasSuffix(r.PathValue("call"), ":streamGenerateContent") {
		var all []any
		for _, p := range parts {
			all = append(all, p...)
		}
		answer(w, encode(chunk(all, true)))
		return
	}
	e := stream(w)
	for i, p := range parts {
		e.send("", chunk(p, i == len(parts)-1))
	}
}
