package ui

import (
	"image/color"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/theme"
)

// The palette: slate greys with one accent; colour is kept for what means something (states, decisions).
var (
	colBackground = rgb(0x16181d)
	colTerminal   = rgb(0x16181d) // the terminal's own
	colPanel      = rgb(0x1a1e25)
	colRaised     = rgb(0x232932)
	colHover      = rgb(0x2a313c)
	colLine       = rgb(0x2b323d)
	colText       = rgb(0xd9dee7)
	colDim        = rgb(0x8a94a4)
	colFaint      = rgb(0x5c6675)
	colAccent     = rgb(0x7cb7ff)
	colGood       = rgb(0x7fcf94)
	colWarn       = rgb(0xe5b567)
	colBad        = rgb(0xec7b84)
	colAsleep     = rgb(0x5578a8)
	colBadge      = rgb(0xc9772b)
)

func rgb(v uint32) color.NRGBA {
	return color.NRGBA{R: uint8(v >> 16), G: uint8(v >> 8), B: uint8(v), A: 0xff}
}

func alpha(c color.NRGBA, a uint8) color.NRGBA {
	c.A = a
	return c
}

// Sizes of text beside the theme's own.
const (
	textSmall = 11
	textMono  = 11.5
	textBody  = 13
)

// Theme is the window's look: dark whatever the desktop's setting, with compact rows.
type Theme struct{}

var _ fyne.Theme = Theme{}

// Color is called by Fyne.
func (Theme) Color(name fyne.ThemeColorName, _ fyne.ThemeVariant) color.Color {
	switch name {
	case theme.ColorNameBackground:
		return colBackground
	case theme.ColorNameButton:
		return colRaised
	case theme.ColorNameDisabledButton:
		return rgb(0x1f242c)
	case theme.ColorNameDisabled:
		return colFaint
	case theme.ColorNameError:
		return colBad
	case theme.ColorNameFocus:
		return alpha(colAccent, 0x48)
	case theme.ColorNameForeground:
		return colText
	case theme.ColorNameForegroundOnPrimary, theme.ColorNameForegroundOnError, theme.ColorNameForegroundOnSuccess, theme.ColorNameForegroundOnWarning:
		return rgb(0x10141a)
	case theme.ColorNameHeaderBackground, theme.ColorNameMenuBackground, theme.ColorNameOverlayBackground:
		return rgb(0x1e232b)
	case theme.ColorNameHover:
		return alpha(rgb(0xffffff), 0x0e)
	case theme.ColorNameHyperlink, theme.ColorNamePrimary:
		return colAccent
	case theme.ColorNameInputBackground:
		return rgb(0x11141a)
	case theme.ColorNameInputBorder, theme.ColorNameSeparator:
		return colLine
	case theme.ColorNamePlaceHolder:
		return colFaint
	case theme.ColorNamePressed:
		return alpha(rgb(0xffffff), 0x20)
	case theme.ColorNameScrollBar:
		return alpha(rgb(0xaab4c4), 0x60)
	case theme.ColorNameScrollBarBackground:
		return color.Transparent
	case theme.ColorNameSelection:
		return alpha(colAccent, 0x30)
	case theme.ColorNameShadow:
		return color.NRGBA{A: 0x66}
	case theme.ColorNameSuccess:
		return colGood
	case theme.ColorNameWarning:
		return colWarn
	}
	return theme.DefaultTheme().Color(name, theme.VariantDark)
}

// Font is called by Fyne.
func (Theme) Font(s fyne.TextStyle) fyne.Resource { return theme.DefaultTheme().Font(s) }

// Icon is called by Fyne.
func (Theme) Icon(name fyne.ThemeIconName) fyne.Resource { return theme.DefaultTheme().Icon(name) }

// Size is called by Fyne.
func (Theme) Size(name fyne.ThemeSizeName) float32 {
	switch name {
	case theme.SizeNameText:
		return textBody
	case theme.SizeNameCaptionText:
		return textSmall
	case theme.SizeNameSubHeadingText:
		return 16
	case theme.SizeNameHeadingText:
		return 22
	case theme.SizeNameInnerPadding:
		return 6
	case theme.SizeNamePadding:
		return 4
	case theme.SizeNameInlineIcon:
		return 16
	case theme.SizeNameScrollBar:
		return 9
	case theme.SizeNameScrollBarSmall:
		return 3
	case theme.SizeNameSplitThickness:
		return 3
	case theme.SizeNameInputRadius, theme.SizeNameButtonRadius, theme.SizeNameSelectionRadius:
		return 6
	case theme.SizeNamePopupRadius, theme.SizeNameDialogRadius, theme.SizeNameMenuRadius:
		return 8
	}
	return theme.DefaultTheme().Size(name)
}
