package ui

import (
	"fmt"
	"image/color"
	"path/filepath"
	"strconv"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/fyne/v2/widget"

	"capsid/app/session"
	"capsid/app/ui/traffic"
)

// sessionRow is one session in the sidebar: a state dot, its name, what it is about, and how much waits for a decision.
type sessionRow struct {
	widget.BaseWidget
	st       session.Status
	selected bool
	hovered  bool
	bell     bool
	depth    int  // below its parents
	last     bool // of the forks of its parent
	now      time.Time
	mark     fyne.Resource
	looked   string // what was drawn last

	onTap  func()
	onMenu func(fyne.Position)
	onHint func(string)
}

func newSessionRow() *sessionRow {
	r := &sessionRow{}
	r.ExtendBaseWidget(r)
	return r
}

// looks tells apart what is drawn apart.
func (r *sessionRow) looks() string {
	return fmt.Sprint(r.st.Name, r.st.State, r.st.Blocked, r.selected, r.bell, r.depth, r.last, r.mark.Name(), sessionInfo(r.st, r.now))
}

// Tapped is called by Fyne.
func (r *sessionRow) Tapped(*fyne.PointEvent) { r.onTap() }

// TappedSecondary is called by Fyne.
func (r *sessionRow) TappedSecondary(e *fyne.PointEvent) { r.onMenu(e.AbsolutePosition) }

// MouseIn is called by Fyne.
func (r *sessionRow) MouseIn(*desktop.MouseEvent) {
	r.hovered = true
	if r.onHint != nil {
		r.onHint(r.st.Name + ": " + string(r.st.State) + ", " + workspaceText(r.st) + ". Right-click for more.")
	}
	r.Refresh()
}

// MouseMoved is called by Fyne.
func (r *sessionRow) MouseMoved(*desktop.MouseEvent) {}

// MouseOut is called by Fyne.
func (r *sessionRow) MouseOut() {
	r.hovered = false
	if r.onHint != nil {
		r.onHint("")
	}
	r.Refresh()
}

// CreateRenderer is called by Fyne.
func (r *sessionRow) CreateRenderer() fyne.WidgetRenderer {
	s := &sessionRowRenderer{
		r: r, back: fill(color.Transparent, 6), dot: canvas.NewCircle(colFaint), ring: canvas.NewCircle(color.Transparent),
		name: newText("", colText, textBody), info: newText("", colDim, textSmall), badge: fill(colBadge, 8), count: boldText("", rgb(0xffffff), 10),
		mark: canvas.NewImageFromResource(nil), down: canvas.NewRectangle(colFaint), across: canvas.NewRectangle(colFaint),
	}
	s.mark.FillMode = canvas.ImageFillContain
	s.Refresh()
	return s
}

type sessionRowRenderer struct {
	r           *sessionRow
	back, badge *canvas.Rectangle
	dot, ring   *canvas.Circle
	name, info  *canvas.Text
	count       *canvas.Text
	mark        *canvas.Image
	down        *canvas.Rectangle
	across      *canvas.Rectangle
}

const (
	sessionRowHeight = 44
	forkIndent       = 14
)

// MinSize is called by Fyne.
func (s *sessionRowRenderer) MinSize() fyne.Size { return fyne.NewSize(150, sessionRowHeight) }

// Layout is called by Fyne.
func (s *sessionRowRenderer) Layout(size fyne.Size) {
	s.back.Resize(size)
	in := forkIndent * float32(min(s.r.depth, 3))
	s.mark.Resize(fyne.NewSquareSize(18))
	s.mark.Move(fyne.NewPos(in+10, 13))
	// Down from the parent's mark, and to this one.
	down := float32(24)
	if !s.r.last {
		down = sessionRowHeight + 2
	}
	s.down.Move(fyne.NewPos(in+4, -2))
	s.down.Resize(fyne.NewSize(1, down))
	s.across.Move(fyne.NewPos(in+4, 22))
	s.across.Resize(fyne.NewSize(4, 1))
	// The dot sits on the mark's corner.
	s.ring.Resize(fyne.NewSquareSize(12))
	s.ring.Move(fyne.NewPos(in+21, 23))
	s.dot.Resize(fyne.NewSquareSize(8))
	s.dot.Move(fyne.NewPos(in+23, 25))
	right := size.Width - 8
	if s.count.Text != "" {
		w := s.count.MinSize().Width + 10
		s.badge.Resize(fyne.NewSize(w, 16))
		s.badge.Move(fyne.NewPos(right-w, 14))
		place(s.count, right-w+5, 14, 16)
		right -= w + 6
	}
	fit(s.name, s.r.st.Name, right-in-42)
	place(s.name, in+42, 5, 19)
	fit(s.info, sessionInfo(s.r.st, s.r.now), right-in-42)
	place(s.info, in+42, 23, 16)
}

// Refresh is called by Fyne.
func (s *sessionRowRenderer) Refresh() {
	r := s.r
	back := color.Color(color.Transparent)
	switch {
	case r.selected:
		back = colHover
	case r.hovered:
		back = rgb(0x20262e)
	}
	s.back.FillColor = back
	under := colPanel
	if r.selected {
		under = colHover
	} else if r.hovered {
		under = rgb(0x20262e)
	}
	s.ring.FillColor = under
	s.dot.FillColor = stateColor(r.st.State)
	s.mark.Resource = r.mark
	living := living(r.st.State)
	s.name.Color, s.info.Color, s.mark.Translucency = colText, colDim, 0
	if !living {
		s.name.Color, s.mark.Translucency = colDim, 0.5
	}
	if r.st.State == session.Failed {
		s.info.Color = colBad
	}
	s.count.Text = ""
	if r.st.Blocked > 0 && living {
		s.count.Text = strconv.Itoa(min(r.st.Blocked, 999))
	} else if r.bell {
		s.count.Text = "•"
	}
	s.badge.Hidden = s.count.Text == ""
	s.down.Hidden, s.across.Hidden = r.depth == 0, r.depth == 0
	s.badge.FillColor = colBadge
	if r.bell && r.st.Blocked == 0 {
		s.badge.FillColor = colAccent
	}
	s.Layout(r.Size())
	for _, o := range s.Objects() {
		o.Refresh()
	}
}

// Objects is called by Fyne.
func (s *sessionRowRenderer) Objects() []fyne.CanvasObject {
	return []fyne.CanvasObject{s.back, s.down, s.across, s.mark, s.ring, s.dot, s.name, s.info, s.badge, s.count}
}

// Destroy is called by Fyne.
func (s *sessionRowRenderer) Destroy() {}

// sessionInfo is the second line of a session.
func sessionInfo(st session.Status, now time.Time) string {
	where := "no folder"
	if st.Workspace != "" {
		where = filepath.Base(st.Workspace)
	}
	switch st.State {
	case session.Starting:
		for _, s := range st.Steps {
			if !s.Done {
				return "starting: " + s.Name
			}
		}
		return "starting"
	case session.Paused:
		return "paused · " + where
	case session.Failed:
		return "failed · " + where
	case session.Stopped:
		return "stopped · " + where
	case session.Suspended:
		return "suspended · " + where
	}
	if !st.Started.IsZero() && now.After(st.Started) {
		if d := now.Sub(st.Started); d >= time.Minute {
			return where + " · " + upTime(d)
		}
	}
	return where
}

func upTime(d time.Duration) string {
	if d < time.Hour {
		return strconv.Itoa(int(d.Minutes())) + " min"
	}
	return traffic.Took(d)
}

func workspaceText(st session.Status) string {
	if st.Workspace == "" {
		return "no folder shared"
	}
	if st.Access == session.ReadOnly {
		return st.Workspace + " (read-only)"
	}
	return st.Workspace
}
