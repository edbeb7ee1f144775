package terminal

import (
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"

	"github.com/go-text/typesetting/font"
)

// systemFonts looks for characters that no embedded font has, Chinese, Japanese and Korean above all, among the machine's own fonts. They are
// looked for when they are first needed, and opened one after the other until one has the character.
type systemFonts struct {
	mu     sync.Mutex
	listed bool
	paths  []string // not opened yet
	fonts  []*font.Font
}

const (
	maxSystemFonts    = 12
	maxSystemFontSize = 64 << 20
)

// preferred are parts of the names of fonts with the characters in question, the best first.
var preferred = []string{
	"notosansmonocjk", "notosanscjk", "sourcehansans", "droidsansfallback", "wqy-microhei", "wqy-zenhei", "unifont",
	"symbola", "notosanssymbols2", "notosanssymbols", "notosansmath", "freemono", "freesans", "arialunicode", "hiraginosansgb", "applesymbols",
}

func (s *systemFonts) find(r rune) (*font.Font, font.GID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.fonts {
		if gi, ok := f.NominalGlyph(r); ok {
			return f, gi
		}
	}
	if !s.listed {
		s.listed = true
		s.paths = listSystemFonts()
	}
	for len(s.paths) > 0 && len(s.fonts) < maxSystemFonts {
		f := openFont(s.paths[0])
		s.paths = s.paths[1:]
		if f == nil {
			continue
		}
		s.fonts = append(s.fonts, f)
		if gi, ok := f.NominalGlyph(r); ok {
			return f, gi
		}
	}
	return nil, 0
}

func listSystemFonts() []string {
	home, _ := os.UserHomeDir()
	rank := map[string]int{}
	var paths []string
	for _, dir := range []string{"/usr/share/fonts", "/usr/local/share/fonts", filepath.Join(home, ".local/share/fonts"), "/System/Library/Fonts", "/Library/Fonts"} {
		// A folder that cannot be read has no fonts for us.
		_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return nil
			}
			name := strings.ToLower(strings.ReplaceAll(d.Name(), " ", ""))
			if ext := filepath.Ext(name); ext != ".ttf" && ext != ".otf" && ext != ".ttc" || strings.Contains(name, "bold") || strings.Contains(name, "italic") {
				return nil
			}
			for i, p := range preferred {
				if strings.HasPrefix(name, p) {
					rank[path] = i
					paths = append(paths, path)
					break
				}
			}
			return nil
		})
	}
	sort.SliceStable(paths, func(i, j int) bool { return rank[paths[i]] < rank[paths[j]] })
	return paths
}

// openFont reads the first font of a file, or nil: one font fewer is no fault.
func openFont(path string) *font.Font {
	st, err := os.Stat(path)
	if err != nil || st.Size() > maxSystemFontSize {
		return nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer file.Close()
	faces, err := font.ParseTTC(file)
	if err != nil || len(faces) == 0 {
		return nil
	}
	return faces[0].Font
}
