// Package assets holds what Capsid ships inside its programs: the kinds of session ("agents"), icons, an example policy and (package fonts) fonts.
//
// An agent is one TOML file, agents/NAME.toml here or in $XDG_CONFIG_HOME/capsid/agents, where a file of the same name takes the place of ours.
// Its keys are those of Agent; an unknown one is an error with file, line and column.
package assets

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

//go:embed agents/*.toml
var agentFiles embed.FS

//go:embed icons/*.svg icons/capsid.png
var iconFiles embed.FS

//go:embed user.example.toml
var userExample []byte

// UserExample is a user.toml with every key explained.
func UserExample() []byte { return slices.Clone(userExample) }

// Icon is the program's own icon, a PNG of 256×256.
func Icon() []byte {
	data, err := iconFiles.ReadFile("icons/capsid.png")
	if err != nil {
		panic(err) // embedded
	}
	return data
}

var agentName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

// maxAgentFile bounds a person's agent file.
const maxAgentFile = 1 << 20

// Agents is all kinds of session: ours, then a person's own in userDir, each by name. A userDir that is empty or does not exist adds none. Errors of a file
// are *policy.Error.
func Agents(userDir string) ([]Agent, error) {
	entries, err := agentFiles.ReadDir("agents")
	if err != nil {
		return nil, err
	}
	var out []Agent
	for _, e := range entries {
		data, err := agentFiles.ReadFile("agents/" + e.Name())
		if err != nil {
			return nil, err
		}
		a, err := parseAgent(e.Name(), e.Name(), data)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	files, err := userFiles(userDir)
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		data, err := readBounded(file)
		if err != nil {
			return nil, fmt.Errorf("agent: %w", err)
		}
		a, err := parseAgent(file, filepath.Base(file), data)
		if err != nil {
			return nil, err
		}
		if i := slices.IndexFunc(out, func(b Agent) bool { return b.Name == a.Name }); i >= 0 {
			out[i] = a
		} else {
			out = append(out, a)
		}
	}
	return out, nil
}

func userFiles(dir string) ([]string, error) {
	if dir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("agents: %w", err)
	}
	var out []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".toml") && !strings.HasPrefix(e.Name(), ".") {
			out = append(out, filepath.Join(dir, e.Name()))
		}
	}
	return out, nil
}

func readBounded(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxAgentFile {
		return nil, fmt.Errorf("%s is not a plain file of at most 1 MiB", file)
	}
	return os.ReadFile(file)
}
