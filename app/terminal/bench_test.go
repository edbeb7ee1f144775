package terminal

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/test"
	"fyne.io/fyne/v2/widget"
)

// BenchmarkRedraw changes rows of 120×40 cells and draws the window, in turn with Fyne's TextGrid and with the terminal, and reports updates a
// second of both and their ratio. The window is painted in software by Fyne's test driver, so the numbers leave out what a graphics card takes.
func BenchmarkRedraw(b *testing.B) {
	const cols, rows = 120, 40
	for _, changed := range []int{rows, 2} {
		b.Run(fmt.Sprintf("%d rows change", changed), func(b *testing.B) {
			test.NewTempApp(b)
			size := fyne.NewSize(2*padding+8*cols, 2*padding+16*rows)
			line := func(n, i int) string {
				return fmt.Sprintf("%6d %3d ", n, i) + strings.Repeat("words and words ", 6) + "─ │ ok"
			}

			grid := widget.NewTextGrid()
			gw := test.NewTempWindow(b, grid)
			gw.Resize(size)
			for i := range rows {
				grid.SetRow(i, gridRow(line(0, i)))
			}
			drawGrid := func(n int) {
				for i := range changed {
					grid.SetRow(i, gridRow(line(n, i)))
				}
				gw.Canvas().Capture()
			}

			term := New(Options{})
			tw := test.NewTempWindow(b, term)
			tw.SetPadded(false)
			tw.Resize(size)
			for c, r := term.Grid(); c != cols || r != rows; c, r = term.Grid() {
				time.Sleep(time.Millisecond)
			}
			drawTerm := func(n int) {
				var out strings.Builder
				for i := range changed {
					fmt.Fprintf(&out, "\x1b[%dH%s", i+1, line(n, i))
				}
				term.screen.Write([]byte(out.String()))
				term.frame()
				tw.Canvas().Capture()
			}
			// The frame is drawn below and not when the pacer would.
			term.pace.mu.Lock()
			term.pace.running = true
			term.pace.mu.Unlock()
			time.Sleep(5 * frameInterval)
			drawGrid(1)
			drawTerm(1)

			var gridTime, termTime time.Duration
			n := 1
			for b.Loop() {
				n++
				start := time.Now()
				drawGrid(n)
				mid := time.Now()
				drawTerm(n)
				gridTime += mid.Sub(start)
				termTime += time.Since(mid)
			}
			b.ReportMetric(float64(b.N)/gridTime.Seconds(), "textgrid/s")
			b.ReportMetric(float64(b.N)/termTime.Seconds(), "terminal/s")
			b.ReportMetric(gridTime.Seconds()/termTime.Seconds(), "ratio")
		})
	}
}

func gridRow(text string) widget.TextGridRow {
	row := widget.TextGridRow{}
	for _, r := range text {
		row.Cells = append(row.Cells, widget.TextGridCell{Rune: r})
	}
	return row
}
