package ui

import (
	"image/color"
	"strconv"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/widget"

	"capsid/app/ui/traffic"
	"capsid/proxy/ledger"
)

const liveRowHeight = 22

// columns are where the parts of a Live row stand; the host and path take what is left.
type columns struct{ time, dot, method, host, status, size, right float32 }

func liveColumns(width float32) columns {
	m := monoWidth()
	c := columns{time: 6}
	c.dot = c.time + 8*m + 8
	c.method = c.dot + 14
	c.host = c.method + 7*m
	c.right = width - 8
	c.size = c.right - 6*m - 6
	c.status = c.size - 4*m - 4
	return c
}

// liveRow shows one row of the ledger. Lists reuse it for other rows.
type liveRow struct {
	widget.BaseWidget
	e *ledger.Entry
}

func newLiveRow() *liveRow {
	r := &liveRow{}
	r.ExtendBaseWidget(r)
	return r
}

func (r *liveRow) set(e *ledger.Entry) {
	if r.e == e {
		return
	}
	r.e = e
	r.Refresh()
}

func (r *liveRow) name() string {
	if r.e == nil {
		return ""
	}
	return traffic.DecisionText(r.e.Decision) + " " + traffic.Method(r.e) + " " + r.e.Host + traffic.Path(r.e) + " " + traffic.Status(r.e)
}

// CreateRenderer is called by Fyne.
func (r *liveRow) CreateRenderer() fyne.WidgetRenderer {
	s := &liveRowRenderer{r: r, time: monoText("", colFaint), dot: canvas.NewCircle(color.Transparent), method: monoText("", colDim),
		host: monoText("", colText), path: monoText("", colDim), status: monoText("", colDim), size: monoText("", colDim)}
	s.status.Alignment, s.size.Alignment = fyne.TextAlignTrailing, fyne.TextAlignTrailing
	return s
}

type liveRowRenderer struct {
	r                                      *liveRow
	dot                                    *canvas.Circle
	time, method, host, path, status, size *canvas.Text
}

// MinSize is called by Fyne.
func (s *liveRowRenderer) MinSize() fyne.Size { return fyne.NewSize(260, liveRowHeight) }

// Layout is called by Fyne.
func (s *liveRowRenderer) Layout(size fyne.Size) {
	c, h := liveColumns(size.Width), size.Height
	s.dot.Resize(fyne.NewSquareSize(7))
	s.dot.Move(fyne.NewPos(c.dot, (h-7)/2))
	e := s.r.e
	if e == nil {
		return
	}
	m := monoWidth()
	room := int((c.status - c.host - 6) / m)
	host := traffic.Cut(e.Host, room)
	s.host.Text = host
	path := ""
	if left := room - len([]rune(host)); left > 1 {
		path = traffic.Cut(traffic.Path(e), left)
	}
	s.path.Text = path
	place(s.time, c.time, 0, h)
	place(s.method, c.method, 0, h)
	place(s.host, c.host, 0, h)
	place(s.path, c.host+float32(len([]rune(host)))*m, 0, h)
	place(s.status, c.size-4-s.status.MinSize().Width, 0, h)
	place(s.size, c.right-s.size.MinSize().Width, 0, h)
}

// Refresh is called by Fyne.
func (s *liveRowRenderer) Refresh() {
	e := s.r.e
	if e == nil {
		return
	}
	s.time.Text = e.Time.Local().Format("15:04:05")
	s.dot.FillColor = decisionColor(e.Decision)
	if !e.Done && e.Decision == ledger.Allow {
		s.dot.FillColor = alpha(colGood, 0x70)
	}
	s.method.Text = traffic.Cut(traffic.Method(e), 7)
	s.host.Color = colText
	if e.Decision != ledger.Allow {
		s.host.Color = decisionColor(e.Decision)
	}
	s.status.Text, s.status.Color = traffic.Status(e), statusColor(e.Status)
	s.size.Text = traffic.Size(e.Received)
	s.Layout(s.r.Size())
	for _, o := range s.Objects() {
		o.Refresh()
	}
}

// Objects is called by Fyne.
func (s *liveRowRenderer) Objects() []fyne.CanvasObject {
	return []fyne.CanvasObject{s.time, s.dot, s.method, s.host, s.path, s.status, s.size}
}

// Destroy is called by Fyne.
func (s *liveRowRenderer) Destroy() {}

// liveHeader names the columns of the rows below it.
type liveHeader struct {
	widget.BaseWidget
}

func newLiveHeader() *liveHeader {
	h := &liveHeader{}
	h.ExtendBaseWidget(h)
	return h
}

// CreateRenderer is called by Fyne.
func (h *liveHeader) CreateRenderer() fyne.WidgetRenderer {
	r := &liveHeaderRenderer{}
	for _, name := range []string{"time", "method", "host and path", "status", "size"} {
		r.texts = append(r.texts, newText(name, colFaint, 10))
	}
	r.line = canvas.NewRectangle(colLine)
	return r
}

type liveHeaderRenderer struct {
	texts []*canvas.Text
	line  *canvas.Rectangle
}

// MinSize is called by Fyne.
func (r *liveHeaderRenderer) MinSize() fyne.Size { return fyne.NewSize(200, 20) }

// Layout is called by Fyne.
func (r *liveHeaderRenderer) Layout(size fyne.Size) {
	c := liveColumns(size.Width)
	place(r.texts[0], c.time, 0, 19)
	place(r.texts[1], c.method, 0, 19)
	place(r.texts[2], c.host, 0, 19)
	place(r.texts[3], c.size-4-r.texts[3].MinSize().Width, 0, 19)
	place(r.texts[4], c.right-r.texts[4].MinSize().Width, 0, 19)
	r.line.Resize(fyne.NewSize(size.Width, 1))
	r.line.Move(fyne.NewPos(0, size.Height-1))
}

// Refresh is called by Fyne.
func (r *liveHeaderRenderer) Refresh() {}

// Objects is called by Fyne.
func (r *liveHeaderRenderer) Objects() []fyne.CanvasObject {
	out := []fyne.CanvasObject{r.line}
	for _, t := range r.texts {
		out = append(out, t)
	}
	return out
}

// Destroy is called by Fyne.
func (r *liveHeaderRenderer) Destroy() {}

// liveDetail returns what is known of a row, as lines of a name and a text.
func liveDetail(e *ledger.Entry) [][2]string {
	what := e.URL
	if what == "" {
		what = e.Host
		if e.Port != 0 {
			what += ":" + strconv.Itoa(e.Port)
		}
	}
	out := [][2]string{{traffic.Method(e), what}}
	decided := traffic.DecisionText(e.Decision)
	if e.Rule != "" {
		decided += " by " + e.Rule
	}
	if e.Source != "" {
		decided += " (" + e.Source + ")"
	}
	out = append(out, [2]string{"decision", decided})
	if e.Reason != "" {
		out = append(out, [2]string{"because", e.Reason})
	}
	took := "under way"
	if e.Done {
		took = traffic.Took(e.Duration)
	}
	result := "status " + traffic.Status(e) + ", sent " + traffic.Size(e.Sent) + ", received " + traffic.Size(e.Received)
	if took != "" {
		result += ", " + took
	}
	out = append(out, [2]string{"result", result})
	if e.Process != "" {
		out = append(out, [2]string{"program", e.Process + " (as the machine says)"})
	}
	return out
}
