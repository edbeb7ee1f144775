package ui

import (
	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
)

// statusBar is the line at the bottom: on the left what the pointer is on, else what runs the machines and why; on the right what just happened.
type statusBar struct {
	root    fyne.CanvasObject
	left    *canvas.Text
	right   *canvas.Text
	backing string
	hint    string
	notice  string
	width   float32
}

func newStatusBar() *statusBar {
	s := &statusBar{left: newText("", colDim, textSmall), right: newText("", colDim, textSmall)}
	s.root = container.NewStack(canvas.NewRectangle(colPanel), container.New(s, s.left, s.right))
	return s
}

// Layout is called by Fyne.
func (s *statusBar) Layout(_ []fyne.CanvasObject, size fyne.Size) {
	s.width = size.Width
	fit(s.right, s.notice, size.Width*0.55-12)
	right := s.right.MinSize().Width
	left := s.hint
	if left == "" {
		left = s.backing
	}
	fit(s.left, left, size.Width-right-36)
	place(s.left, 12, 0, size.Height)
	place(s.right, size.Width-right-12, 0, size.Height)
}

// MinSize is called by Fyne.
func (s *statusBar) MinSize([]fyne.CanvasObject) fyne.Size { return fyne.NewSize(200, 24) }

func (s *statusBar) again() { s.Layout(nil, fyne.NewSize(s.width, 24)) }

func (s *statusBar) setBacking(text string) {
	if s.backing != text {
		s.backing = text
		s.again()
	}
}

func (s *statusBar) setHint(text string) {
	if s.hint != text {
		s.hint = text
		s.again()
	}
}

func (s *statusBar) setNotice(text string, bad bool) {
	s.notice = text
	s.right.Color = colDim
	if bad {
		s.right.Color = colBad
	}
	s.again()
	s.right.Refresh()
}
