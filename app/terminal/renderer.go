package terminal

import (
	"image"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/theme"

	"capsid/app/terminal/vt"
)

// renderer holds the canvas objects: ground, one raster a row, scroll bar, the note at the end of a stream, and the search bar.
type renderer struct {
	t       *Terminal
	ground  *canvas.Rectangle
	rasters []*canvas.Raster
	bar     *canvas.Rectangle
	note    *canvas.Rectangle
	noteTxt *canvas.Text
	size    fyne.Size
	shown   image.Point // size of a row's image, in pixels
	scale   float32
}

// CreateRenderer is called by Fyne.
func (t *Terminal) CreateRenderer() fyne.WidgetRenderer {
	r := &renderer{
		t:       t,
		ground:  canvas.NewRectangle(nil),
		bar:     canvas.NewRectangle(nil),
		note:    canvas.NewRectangle(nil),
		noteTxt: canvas.NewText("", nil),
	}
	r.bar.CornerRadius = 2
	r.note.CornerRadius = 4
	r.bar.Hide()
	r.note.Hide()
	r.noteTxt.Hide()
	t.render = r
	t.search = newSearchBar(t)
	r.takeTheme()
	return r
}

func (r *renderer) Destroy() {}

func (r *renderer) MinSize() fyne.Size { return fyne.NewSize(120, 60) }

func (r *renderer) Objects() []fyne.CanvasObject {
	r.t.mu.Lock()
	defer r.t.mu.Unlock()
	out := make([]fyne.CanvasObject, 0, len(r.rasters)+5)
	out = append(out, r.ground)
	for _, o := range r.rasters {
		out = append(out, o)
	}
	return append(out, r.bar, r.note, r.noteTxt, r.t.search.box)
}

func (r *renderer) Layout(size fyne.Size) {
	r.size = size
	r.ground.Resize(size)
	box := r.t.search.box
	box.Resize(fyne.NewSize(min(box.MinSize().Width, size.Width), box.MinSize().Height))
	box.Move(fyne.NewPos(max(size.Width-box.Size().Width-padding*3, 0), padding))
	r.t.measure(size)
}

func (r *renderer) Refresh() {
	r.takeTheme()
	r.t.measure(r.size)
	r.ground.Refresh()
}

// measure tells the frame goroutine the size and scale to draw for.
func (t *Terminal) measure(size fyne.Size) {
	scale := t.pixels()
	t.mu.Lock()
	t.size, t.scale = size, scale
	t.mu.Unlock()
	t.pace.kick()
}

// pixels is how many pixels of the texture make one of Fyne's units.
func (t *Terminal) pixels() float32 {
	app := fyne.CurrentApp()
	if app == nil || len(app.Driver().AllWindows()) == 0 {
		return 1
	}
	c := app.Driver().CanvasForObject(t)
	if c == nil {
		return max(t.scale, 0.1)
	}
	if x, _ := c.PixelCoordinateForPosition(fyne.NewPos(1000, 0)); x > 0 {
		return float32(x) / 1000
	}
	return max(c.Scale(), 0.1)
}

func (r *renderer) takeTheme() {
	c := themeColours(r.t.opt.Palette)
	r.t.mu.Lock()
	r.t.colours = c
	r.t.mu.Unlock()
	r.ground.FillColor = nrgba(c.palette.Background)
	r.bar.FillColor = nrgba(mix(c.palette.Background, c.palette.Foreground, 110))
	r.note.FillColor = nrgba(mix(c.palette.Background, c.palette.Foreground, 40))
	r.noteTxt.Color = nrgba(c.palette.Foreground)
	r.noteTxt.TextSize = theme.TextSize()
}

// show brings the canvas objects up to date with a frame that was drawn; it runs on the UI goroutine.
func (t *Terminal) show(changed []int) {
	r := t.render
	if r == nil {
		return
	}
	f := &t.paint.frame
	face := t.paint.face
	t.mu.Lock()
	scale, ending := t.scale, t.ending
	t.mu.Unlock()
	px := image.Pt(f.Cols*face.cellW, face.cellH)
	if len(r.rasters) != f.Rows || r.shown != px || r.scale != scale {
		r.shown, r.scale = px, scale
		r.placeRows(f.Rows, px, scale)
	} else {
		for _, i := range changed {
			r.rasters[i].Refresh()
		}
	}
	if bg := nrgba(background(f)); r.ground.FillColor != bg {
		r.ground.FillColor = bg
		r.ground.Refresh()
	}
	r.placeBar(f)
	r.placeNote(ending)
	if c := t.pixels(); c != scale {
		t.measure(r.size)
	}
}

func background(f *vt.Frame) vt.RGB {
	if f.Reverse {
		return f.Palette.Foreground
	}
	return f.Palette.Background
}

func (r *renderer) placeRows(n int, px image.Point, scale float32) {
	t := r.t
	rasters := make([]*canvas.Raster, n)
	for i := range rasters {
		o := canvas.NewRaster(func(w, h int) image.Image { return t.image(i, w, h) })
		o.ScaleMode = canvas.ImageScalePixels
		o.Resize(fyne.NewSize(float32(px.X)/scale, float32(px.Y)/scale))
		o.Move(fyne.NewPos(padding, padding+float32(i*px.Y)/scale))
		rasters[i] = o
	}
	t.mu.Lock()
	r.rasters = rasters
	t.mu.Unlock()
	canvas.Refresh(t)
}

// placeBar shows where the view is while it is scrolled back.
func (r *renderer) placeBar(f *vt.Frame) {
	if f.Top >= f.Base {
		if r.bar.Visible() {
			r.bar.Hide()
		}
		return
	}
	total := float32(f.Base + f.Rows - f.First)
	h := max(r.size.Height*float32(f.Rows)/total, 16)
	y := (r.size.Height - h) * float32(f.Top-f.First) / max(float32(f.Base-f.First), 1)
	r.bar.Resize(fyne.NewSize(4, h))
	r.bar.Move(fyne.NewPos(r.size.Width-5, y))
	r.bar.Show()
	r.bar.Refresh()
}

func (r *renderer) placeNote(text string) {
	if text == "" {
		if r.note.Visible() {
			r.note.Hide()
			r.noteTxt.Hide()
		}
		return
	}
	if r.noteTxt.Text == text && r.note.Visible() && r.note.Position().Y == r.size.Height-r.note.Size().Height-2*padding {
		return
	}
	r.noteTxt.Text = text
	min := r.noteTxt.MinSize()
	box := fyne.NewSize(min.Width+4*padding, min.Height+2*padding)
	at := fyne.NewPos((r.size.Width-box.Width)/2, r.size.Height-box.Height-2*padding)
	r.note.Resize(box)
	r.note.Move(at)
	r.noteTxt.Resize(min)
	r.noteTxt.Move(at.AddXY(2*padding, padding))
	r.note.Show()
	r.noteTxt.Show()
	r.noteTxt.Refresh()
}
