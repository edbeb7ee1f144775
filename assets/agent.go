package assets

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"capsid/guest/control"
	"capsid/proxy/policy"
)

// Agent is one kind of session.
type Agent struct {
	Name       string            `toml:"-"` // the file's, without .toml
	Title      string            `toml:"title"`
	About      string            `toml:"about"`           // one line
	Icon       string            `toml:"icon"`            // of the embedded icons, or an SVG's absolute path; empty: a neutral one
	Command    []string          `toml:"command"`         // what runs in the session's main terminal
	Autonomous []string          `toml:"autonomous-args"` // added to Command unless a person wants to be asked: the machine is the sandbox
	Env        map[string]string `toml:"env"`
	Hosts      []string          `toml:"hosts"`    // what it cannot work without; allowed as if user.toml allowed them, below any block
	Packages   []string          `toml:"packages"` // names in the image's lock file that it is made of
	Files      []File            `toml:"file"`

	file  string // as errors and grants name it
	lines []int  // of Hosts
}

// File is seeded into the guest before the agent starts. Content is a template with the fields of Place.
type File struct {
	Path    string `toml:"path"` // absolute, or below "~/"
	Mode    string `toml:"mode"` // octal; empty: 0644
	Content string `toml:"content"`

	mode uint32
	tmpl *template.Template
}

// Place is what the templates of an agent's files and environment may name.
type Place struct {
	Workspace string // where the agent starts, absolute, in the guest
	Home      string
}

// CommandLine is the agent's command; autonomous or asking before it acts.
func (a Agent) CommandLine(autonomous bool) []string {
	out := slices.Clone(a.Command)
	if autonomous {
		out = append(out, a.Autonomous...)
	}
	return out
}

// Environ is the agent's environment as KEY=VALUE, sorted.
func (a Agent) Environ() []string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(a.Env)) {
		out = append(out, key+"="+a.Env[key])
	}
	return out
}

// Grants is the hosts that the agent asks for, each with the place that says so ("claude.toml:12").
func (a Agent) Grants() []policy.Grant {
	var out []policy.Grant
	for i, host := range a.Hosts {
		out = append(out, policy.Grant{Host: host, Source: a.file + ":" + strconv.Itoa(a.lines[i])})
	}
	return out
}

// Seed is the agent's files for one session.
func (a Agent) Seed(p Place) ([]control.File, error) {
	var out []control.File
	for _, f := range a.Files {
		var content bytes.Buffer
		if err := f.tmpl.Execute(&content, p); err != nil {
			return nil, fmt.Errorf("agent %s: %s: %w", a.Name, f.Path, err)
		}
		out = append(out, control.File{Path: f.Path, Mode: f.mode, Content: content.Bytes()})
	}
	return out, nil
}

// IconSVG is the agent's icon.
func (a Agent) IconSVG() []byte {
	data, err := iconFiles.ReadFile("icons/" + a.Icon + ".svg")
	if err != nil && filepath.IsAbs(a.Icon) {
		data, err = readBounded(a.Icon)
	}
	if err != nil {
		data, _ = iconFiles.ReadFile("icons/other.svg")
	}
	return data
}

// parseAgent reads one file. shown is how its errors name it, base how its grants do.
func parseAgent(shown, base string, data []byte) (Agent, error) {
	fail := func(line, column int, message, hint string) (Agent, error) {
		return Agent{}, &policy.Error{File: shown, Line: line, Column: column, Message: message, Hint: hint}
	}
	a := Agent{Name: strings.TrimSuffix(base, ".toml"), file: base}
	if !agentName.MatchString(a.Name) {
		return fail(0, 0, fmt.Sprintf("%q is no name for an agent", a.Name), "name the file with lower-case letters, digits and -, for instance aider.toml")
	}
	err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(&a)
	var strict *toml.StrictMissingError
	var decode *toml.DecodeError
	switch {
	case errors.As(err, &strict) && len(strict.Errors) > 0:
		line, column := strict.Errors[0].Position()
		return fail(line, column, "unknown key "+strconv.Quote(strings.Join(strict.Errors[0].Key(), ".")), "keys are title, about, icon, command, autonomous-args, env, hosts, packages and [[file]] with path, mode, content")
	case errors.As(err, &decode):
		line, column := decode.Position()
		return fail(line, column, strings.TrimPrefix(decode.Error(), "toml: "), "")
	case err != nil:
		return fail(0, 0, err.Error(), "")
	}
	if a.lines, err = hostLines(data); err != nil || len(a.lines) != len(a.Hosts) {
		return fail(0, 0, "hosts must be a plain list at the top of the file", "")
	}
	if a.Title == "" {
		return fail(0, 0, "title is missing", "it is what the button says, for instance title = \"Aider\"")
	}
	if len(a.Command) == 0 || a.Command[0] == "" {
		return fail(0, 0, "command is missing", "for instance command = [\"aider\"]")
	}
	for i, host := range a.Hosts {
		if _, err := policy.Canonical(strings.TrimPrefix(host, "*.")); err != nil {
			return fail(a.lines[i], 1, err.Error(), "a name, or *. and a name")
		}
	}
	for key := range a.Env {
		if key == "" || strings.ContainsAny(key, "=\x00") || strings.ContainsRune(a.Env[key], 0) {
			return fail(0, 0, fmt.Sprintf("%q is no name of a variable", key), "")
		}
	}
	for i := range a.Files {
		if err := a.Files[i].prepare(); err != nil {
			return fail(0, 0, fmt.Sprintf("file %q: %v", a.Files[i].Path, err), "")
		}
	}
	return a, nil
}

func (f *File) prepare() error {
	below, home := strings.CutPrefix(f.Path, "~/")
	if !home {
		below = f.Path
	}
	if (!home && !path.IsAbs(f.Path)) || below == "" || path.Clean(below) != below || strings.HasPrefix(below, "..") {
		return errors.New("path must be absolute or begin with ~/, and hold neither \"..\" nor doubled slashes")
	}
	f.mode = 0o644
	if f.Mode != "" {
		mode, err := strconv.ParseUint(f.Mode, 8, 32)
		if err != nil || mode > 0o777 {
			return fmt.Errorf("mode %q is not octal permissions", f.Mode)
		}
		f.mode = uint32(mode)
	}
	t, err := template.New(f.Path).Funcs(template.FuncMap{"quote": strconv.Quote}).Option("missingkey=error").Parse(f.Content)
	if err != nil {
		return err
	}
	f.tmpl = t
	return t.Execute(new(bytes.Buffer), Place{"/w", "/h"})
}

// hostLines is the line of each element of the top-level list "hosts".
func hostLines(data []byte) ([]int, error) {
	var p unstable.Parser
	p.Reset(data)
	var out []int
	for top := true; p.NextExpression(); {
		e := p.Expression()
		if e.Kind == unstable.Table || e.Kind == unstable.ArrayTable {
			top = false
		}
		if e.Kind != unstable.KeyValue || !top {
			continue
		}
		key := e.Key()
		if !key.Next() || !key.IsLast() || string(key.Node().Data) != "hosts" {
			continue
		}
		for it := e.Value().Children(); it.Next(); {
			out = append(out, p.Shape(it.Node().Raw).Start.Line)
		}
	}
	return out, p.Error()
}
