package terminal

import (
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"

	"golang.org/x/image/font/sfnt"
)

// systemFonts looks for characters that no embedded font has, Chinese, Japanese and Korean above all, among the machine's own fonts. They are
// opened when they are first needed, and at most maxSystemFonts of them.
type systemFonts struct {
	once  sync.Once
	fonts []*sfnt.Font
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

func (s *systemFonts) find(buf *sfnt.Buffer, r rune) (*sfnt.Font, sfnt.GlyphIndex) {
	s.once.Do(s.load)
	for _, f := range s.fonts {
		if gi, err := f.GlyphIndex(buf, r); err == nil && gi != 0 {
			return f, gi
		}
	}
	return nil, 0
}

func (s *systemFonts) load() {
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
	for _, path := range paths {
		if len(s.fonts) == maxSystemFonts {
			return
		}
		if f := openFont(path); f != nil {
			s.fonts = append(s.fonts, f)
		}
	}
}

// openFont reads the first font of a file, or nil: one font fewer is no fault.
func openFont(path string) *sfnt.Font {
	st, err := os.Stat(path)
	if err != nil || st.Size() > maxSystemFontSize {
		return nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	c, err := sfnt.ParseCollection(b)
	if err != nil {
		return nil
	}
	f, err := c.Font(0)
	if err != nil {
		return nil
	}
	return f
}
