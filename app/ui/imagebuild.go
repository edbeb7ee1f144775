package ui

import (
	"context"
	"errors"
	"sync"
	"time"

	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/layout"
	"fyne.io/fyne/v2/widget"

	"capsid/app/ui/traffic"
)

// offerImage offers to build the image that machines start from, shows how far it is, and calls then when it is there. then may be nil.
func (w *Window) offerImage(then func()) {
	if len(w.dialogs) > 0 {
		return
	}
	text := paragraph("Machines start from one image: a Debian system with the agents in it. It is built on this computer from your distribution's packages, once, and checked by digest at every start. This takes some minutes and about a gigabyte of disk.")
	var d *dialogBox
	d = w.dialog("Build the image first", nil, 480, text, w.button("Not now", plain, func() { d.cancel() }),
		w.button("Build it", loud, func() { d.close(); w.buildImage(then) }))
	d.accept = func() { d.close(); w.buildImage(then) }
}

// buildImage builds in a dialog with a bar and Cancel.
func (w *Window) buildImage(then func()) {
	ctx, cancel := context.WithCancel(w.ctx)
	stage, line, took := widget.NewLabel("Preparing…"), monoText("", colDim), newText("", colDim, textSmall)
	known, busy := widget.NewProgressBar(), widget.NewProgressBarInfinite()
	known.Hide()
	body := container.New(layout.NewCustomPaddedVBoxLayout(6), container.New(bar{left: -6}, stage), container.New(fixed{height: 18}, known, busy), line, took)
	var d *dialogBox
	stop := w.button("Cancel", plain, nil)
	stop.tapped = func() {
		cancel()
		stop.Disable()
		stage.SetText("Cancelling…")
	}
	stop.hint = "Stop; what is whole is used again the next time"
	d = w.dialog("Building the image", nil, 520, body, stop)
	d.onCancel = cancel
	began := w.now()
	width := func() int { return int((body.Size().Width - 4) / monoWidth()) }

	// Progress may come thousands of times a second; the newest is drawn a few times.
	var mu sync.Mutex
	var last Progress
	var g gate
	paint := func() {
		w.do(func() {
			mu.Lock()
			p := last
			mu.Unlock()
			if ctx.Err() != nil {
				return
			}
			stage.SetText(p.Stage)
			if p.Done >= 0 {
				busy.Hide()
				known.Show()
				known.SetValue(min(p.Done, 1))
			} else {
				known.Hide()
				busy.Show()
			}
			setText(line, traffic.Cut(p.Line, width()), colDim)
			setText(took, traffic.Took(w.now().Sub(began)), colDim)
		})
	}
	w.spawn(func() {
		defer cancel()
		err := w.engine.BuildImage(ctx, func(p Progress) {
			mu.Lock()
			last = p
			mu.Unlock()
			g.poke(100*time.Millisecond, paint)
		})
		w.do(func() {
			busy.Stop()
			d.close()
			switch {
			case err == nil:
				w.note("The image is built", false)
				w.noImage = false
				w.welcome.refresh()
				if then != nil {
					then()
				}
			case errors.Is(err, context.Canceled):
				w.note("The building of the image was cancelled", false)
			default:
				w.showError("The image could not be built", err, func() { w.buildImage(then) })
			}
		})
	})
}
