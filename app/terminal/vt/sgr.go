package vt

// sgr sets the style of what is printed next.
func (s *Screen) sgr(params []param) {
	st := &s.c.style
	if len(params) == 0 {
		*st = Style{}
		return
	}
	for i := 0; i < len(params); i++ {
		end := i + 1
		for end < len(params) && params[end].sub {
			end++
		}
		sub := params[i+1 : end]
		n := max(params[i].v, 0)
		switch n {
		case 38, 48, 58:
			var c Color
			var ok bool
			if len(sub) > 0 {
				c, ok = colonColor(sub)
			} else {
				var taken int
				c, taken, ok = semicolonColor(params[end:])
				end += taken
			}
			if ok {
				switch n {
				case 38:
					st.FG = c
				case 48:
					st.BG = c
				case 58:
					st.UnderlineColor = c
				}
			}
		case 4:
			st.Underline = SingleUnderline
			if len(sub) > 0 {
				if v := sub[0].v; v >= 0 && v <= int(DashedUnderline) {
					st.Underline = Underline(v)
				}
			}
		default:
			s.simpleSGR(n)
		}
		i = end - 1
	}
}

func (s *Screen) simpleSGR(n int) {
	st := &s.c.style
	on := [...]Attr{1: Bold, 2: Dim, 3: Italic, 5: Blink, 6: Blink, 7: Inverse, 8: Hidden, 9: Strike}
	off := [...]Attr{22: Bold | Dim, 23: Italic, 25: Blink, 27: Inverse, 28: Hidden, 29: Strike}
	switch {
	case n == 0:
		*st = Style{}
	case n < len(on):
		st.Attr |= on[n]
	case n == 21:
		st.Underline = DoubleUnderline
	case n == 24:
		st.Underline = NoUnderline
	case n < len(off):
		st.Attr &^= off[n]
	case n >= 30 && n <= 37:
		st.FG = Indexed(uint8(n - 30))
	case n == 39:
		st.FG = 0
	case n >= 40 && n <= 47:
		st.BG = Indexed(uint8(n - 40))
	case n == 49:
		st.BG = 0
	case n == 53:
		st.Attr |= Overline
	case n == 55:
		st.Attr &^= Overline
	case n == 59:
		st.UnderlineColor = 0
	case n >= 90 && n <= 97:
		st.FG = Indexed(uint8(n - 90 + 8))
	case n >= 100 && n <= 107:
		st.BG = Indexed(uint8(n - 100 + 8))
	}
}

// colonColor reads 2:[space]:r:g:b, 2:r:g:b and 5:n (ITU-T T.416, and what programs make of it).
func colonColor(sub []param) (Color, bool) {
	switch sub[0].v {
	case 2:
		rgb := sub[1:]
		if len(rgb) >= 4 {
			rgb = rgb[1:]
		}
		if len(rgb) < 3 {
			return 0, false
		}
		return rgbColor(rgb[0].v, rgb[1].v, rgb[2].v)
	case 5:
		if len(sub) > 1 {
			return indexColor(sub[1].v)
		}
	}
	return 0, false
}

// semicolonColor reads 2;r;g;b and 5;n, and says how many parameters that took.
func semicolonColor(p []param) (c Color, taken int, ok bool) {
	if len(p) == 0 {
		return 0, 0, false
	}
	switch p[0].v {
	case 2:
		if len(p) < 4 {
			return 0, len(p), false
		}
		c, ok = rgbColor(p[1].v, p[2].v, p[3].v)
		return c, 4, ok
	case 5:
		if len(p) < 2 {
			return 0, len(p), false
		}
		c, ok = indexColor(p[1].v)
		return c, 2, ok
	}
	return 0, 1, false
}

func rgbColor(r, g, b int) (Color, bool) {
	r, g, b = max(r, 0), max(g, 0), max(b, 0)
	if r > 255 || g > 255 || b > 255 {
		return 0, false
	}
	return TrueColor(uint8(r), uint8(g), uint8(b)), true
}

func indexColor(n int) (Color, bool) {
	n = max(n, 0)
	return Indexed(uint8(n)), n <= 255
}
