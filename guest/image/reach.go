package image

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// importPath is a quoted path of a neighbour, as import statements, import() and new URL() have it.
var importPath = regexp.MustCompile("[\"'`]\\./([A-Za-z0-9_.\\-]+\\.[cm]?js)[\"'`]")

// dropUnreached deletes the JavaScript files beside entry that it does not name, directly or through others. A bundler writes
// one set of chunks for each entry point; those of the others are dead weight. It errs on the side of keeping: any mention in quotes counts.
func dropUnreached(entry string) error {
	dir := filepath.Dir(entry)
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	scripts := map[string]bool{}
	for _, f := range files {
		if ext := path.Ext(f.Name()); f.Type().IsRegular() && (ext == ".js" || ext == ".mjs" || ext == ".cjs") {
			scripts[f.Name()] = true
		}
	}
	reached := map[string]bool{}
	todo := []string{filepath.Base(entry)}
	for len(todo) > 0 {
		name := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if reached[name] {
			continue
		}
		reached[name] = true
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		for _, m := range importPath.FindAllSubmatch(text, -1) {
			if next := strings.TrimPrefix(string(m[1]), "./"); scripts[next] {
				todo = append(todo, next)
			}
		}
	}
	for name := range scripts {
		if !reached[name] {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}
