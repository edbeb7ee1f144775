// Package fonts embeds the faces that the terminal draws with: DejaVu Sans Mono 2.37, under the licence in LICENSE-DejaVu.txt.
package fonts

import _ "embed"

// Mono, MonoBold, MonoItalic and MonoBoldItalic are TrueType files.
var (
	//go:embed DejaVuSansMono.ttf
	Mono []byte
	//go:embed DejaVuSansMono-Bold.ttf
	MonoBold []byte
	//go:embed DejaVuSansMono-Oblique.ttf
	MonoItalic []byte
	//go:embed DejaVuSansMono-BoldOblique.ttf
	MonoBoldItalic []byte
)
