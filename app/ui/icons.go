package ui

import (
	"fmt"
	"image/color"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/theme"
)

// Small icons of the window's own; those of the kinds of session come with their agents.
const (
	markOther = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><path fill="none" stroke="#c3a6e8" stroke-width="2.200" d="M12 4a8 8 0 1 0 .01 0z"/><path fill="#c3a6e8" d="M12 9a3 3 0 1 0 .01 0z"/></svg>`
	iconPlus  = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><path fill="none" stroke="#8a94a4" stroke-width="2.200" stroke-linecap="round" d="M12 5v14M5 12h14"/></svg>`
	iconClose = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><path fill="none" stroke="#8a94a4" stroke-width="2.200" stroke-linecap="round" d="M7 7l10 10M17 7L7 17"/></svg>`
	iconMore  = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><path fill="#8a94a4" d="M5 10.200a1.800 1.800 0 1 0 .01 0zM12 10.200a1.800 1.800 0 1 0 .01 0zM19 10.200a1.800 1.800 0 1 0 .01 0z"/></svg>`
)

// mark is the icon of a kind of session.
func (w *Window) mark(agent string) fyne.Resource {
	for _, a := range w.agents {
		if a.Name == agent && len(a.Icon) > 0 {
			return fyne.NewStaticResource("agent-"+agent+".svg", a.Icon)
		}
	}
	return svg("mark-other", markOther)
}

func svg(name, text string) fyne.Resource { return fyne.NewStaticResource(name+".svg", []byte(text)) }

// cameraIcon stands for snapshots, forkIcon for what goes on from one.
func cameraIcon(c color.NRGBA) fyne.Resource { return drawn("camera", pathCamera, c) }
func forkIcon(c color.NRGBA) fyne.Resource   { return drawn("fork", pathFork, c) }
func brokenIcon() fyne.Resource              { return drawn("broken", pathBroken, colWarn) }

// drawn is an icon of lines in a colour.
func drawn(name, path string, c color.NRGBA) fyne.Resource {
	hex := fmt.Sprintf("%02x%02x%02x", c.R, c.G, c.B)
	return svg(name+"-"+hex, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><path fill="none" stroke="#`+hex+`" stroke-width="2" stroke-linecap="round" stroke-linejoin="round" d="`+path+`"/></svg>`)
}

const (
	pathCamera = "M4 7.500h3.500L9.200 5h5.600l1.700 2.500H20a1 1 0 0 1 1 1V18a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1V8.500a1 1 0 0 1 1-1zM12 9.500a3.500 3.500 0 1 0 .01 0z"
	pathFork   = "M6 3.500a2.200 2.200 0 1 0 .01 0zM18 3.500a2.200 2.200 0 1 0 .01 0zM12 16.100a2.200 2.200 0 1 0 .01 0zM6 7.900c0 5 6 3 6 8.200M18 7.900c0 5-6 3-6 8.200"
	pathBroken = "M12 3.500L22 20.500H2zM12 10v4.500M12 17.500v.1"
)

func plusIcon() fyne.Resource   { return svg("plus", iconPlus) }
func closeIcon() fyne.Resource  { return svg("close", iconClose) }
func moreIcon() fyne.Resource   { return svg("more", iconMore) }
func folderIcon() fyne.Resource { return theme.FolderIcon() }

const iconProblem = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><path fill="none" stroke="#ec7b84" stroke-width="2" stroke-linejoin="round" d="M12 3.500L22 20.500H2z"/><path fill="none" stroke="#ec7b84" stroke-width="2.200" stroke-linecap="round" d="M12 10v4.500M12 17.500v.1"/></svg>`
