package ui

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/layout"
	"fyne.io/fyne/v2/widget"

	"capsid/app/session"
)

// maxFolders bounds the list of folders below the one that was typed.
const maxFolders = 200

// newDialog asks for the folder of a new session.
type newDialog struct {
	w       *Window
	agent   Agent
	d       *dialogBox
	path    *lineEntry
	name    *lineEntry
	recent  *fyne.Container
	folders *fyne.Container
	where   *widget.Label
	only    *widget.Check
	asks    *widget.Check
	backend *widget.Select // nil where there is nothing to choose
	listing string         // the folder whose subfolders are wanted
}

// lineEntry is a line of input in which Return accepts and Escape cancels.
type lineEntry struct {
	widget.Entry
	onEscape func()
	onStep   func(by int) // the arrow keys; may be nil
}

func newLineEntry(mono bool) *lineEntry {
	e := &lineEntry{}
	e.TextStyle.Monospace = mono
	e.ExtendBaseWidget(e)
	return e
}

// TypedKey is called by Fyne.
func (e *lineEntry) TypedKey(k *fyne.KeyEvent) {
	if k.Name == fyne.KeyEscape && e.onEscape != nil {
		e.onEscape()
		return
	}
	if e.onStep != nil && (k.Name == fyne.KeyUp || k.Name == fyne.KeyDown) {
		if k.Name == fyne.KeyUp {
			e.onStep(1)
		} else {
			e.onStep(-1)
		}
		return
	}
	e.Entry.TypedKey(k)
}

// newSession asks where, then starts.
func (w *Window) newSession(a Agent) { w.newSessionIn(a, "") }

func (w *Window) newSessionIn(a Agent, folder string) {
	if len(w.dialogs) > 0 {
		return
	}
	n := &newDialog{w: w, agent: a, path: newLineEntry(true), name: newLineEntry(false)}
	n.path.SetPlaceHolder("a folder; empty shares none")
	n.name.SetPlaceHolder(a.Name + "-1 and so on, if left empty")
	n.path.OnSubmitted = func(string) { n.start() }
	n.name.OnSubmitted = func(string) { n.start() }
	n.recent = container.New(layout.NewCustomPaddedVBoxLayout(1))
	n.folders = container.New(layout.NewCustomPaddedVBoxLayout(1))
	n.where = widget.NewLabel("")
	n.only = widget.NewCheck("The machine may only read the folder", nil)
	n.asks = widget.NewCheck(a.Title+" asks before it acts (it need not: the machine is its sandbox)", nil)
	w.probe.add("entry", n.path, func() string { return "folder" })
	w.probe.add("entry", n.name, func() string { return "name" })

	left := container.NewBorder(section("RECENT FOLDERS"), nil, nil, nil, container.NewVScroll(n.recent))
	right := container.NewBorder(section("FOLDERS HERE"), nil, nil, nil, container.NewVScroll(n.folders))
	lists := container.New(fixed{height: 190}, container.NewGridWithColumns(2, left, right))
	form := container.New(layout.NewFormLayout(), container.New(bar{0, 0, 6, 0}, newText("Folder", colDim, textBody)), n.path,
		container.New(bar{0, 0, 6, 0}, newText("Name", colDim, textBody)), n.name)
	if found := w.backends.Usable; len(found) > 1 {
		n.backend = backendSelect(found)
		form.Add(container.New(bar{0, 0, 6, 0}, newText("Machine", colDim, textBody)))
		form.Add(n.backend)
		w.probe.add("entry", n.backend, func() string { return "machine" })
	}
	options := container.New(bar{left: -6}, container.New(layout.NewCustomPaddedVBoxLayout(0), n.only))
	checks := options.Objects[0].(*fyne.Container)
	if a.Name != "shell" {
		checks.Add(n.asks)
	}
	what := paragraph(a.Title + " gets a machine of its own with this folder in it. Nothing leaves the machine that you have not allowed.")
	body := container.New(layout.NewCustomPaddedVBoxLayout(8), what, form, lists, options)
	start := w.button("Start", loud, n.start)
	n.d = w.dialog("New "+a.Title, w.mark(a.Name), 620, body, w.button("Cancel", plain, func() { n.d.cancel() }), start)
	n.path.onEscape, n.name.onEscape = n.d.cancel, n.d.cancel
	n.d.accept = n.start
	n.path.OnChanged = func(string) { n.list() }
	w.spawn(func() {
		recent := w.memory.Folders()
		w.do(func() { n.showRecent(recent, folder) })
		w.lookAtBackends() // for the next time: what was missing may have come
	})
	w.win.Canvas().Focus(n.path)
}

// backendSelect lets a person choose what runs the machine. The first item leaves it to Capsid.
func backendSelect(found []Backend) *widget.Select {
	s := widget.NewSelect([]string{"Chosen by Capsid"}, nil)
	for _, b := range found {
		s.Options = append(s.Options, b.Name+" ("+b.Detail+")")
	}
	s.SetSelectedIndex(0)
	return s
}

// chosenBackend is the name of the backend that was chosen, empty for none.
func (n *newDialog) chosenBackend() string {
	if n.backend == nil || n.backend.SelectedIndex() < 1 {
		return ""
	}
	name, _, _ := strings.Cut(n.backend.Selected, " ")
	return name
}

// showRecent lists the recent folders and begins with the one used last.
func (n *newDialog) showRecent(list []string, folder string) {
	for _, dir := range list {
		b := n.w.button(tilde(dir), quiet, func() { n.set(dir) }).asSmall().alignLeft().withIcon(folderIcon())
		b.hint = dir
		n.recent.Add(b)
	}
	if len(list) == 0 {
		n.recent.Add(container.New(bar{8, 4, 0, 0}, newText("none yet", colFaint, textSmall)))
	}
	switch {
	case n.path.Text != "": // typed meanwhile
	case folder != "":
		n.set(folder)
	case len(list) > 0:
		n.set(list[0])
	default:
		if home, err := os.UserHomeDir(); err == nil {
			n.set(home + string(filepath.Separator))
		}
	}
}

func (n *newDialog) set(dir string) {
	n.path.SetText(dir)
	n.path.CursorColumn = len([]rune(dir))
	n.path.Refresh()
	n.w.win.Canvas().Focus(n.path)
	n.list()
}

// list shows the folders below the one that stands in the entry, or those whose names begin as its last part.
func (n *newDialog) list() {
	dir, prefix := expand(n.path.Text), ""
	n.listing = dir
	n.w.spawn(func() {
		if fi, err := os.Stat(dir); err != nil || !fi.IsDir() {
			dir, prefix = filepath.Split(dir)
		}
		names := subfolders(dir, prefix)
		n.w.do(func() {
			if n.listing == expand(n.path.Text) {
				n.showFolders(filepath.Clean(dir), names)
			}
		})
	})
}

func (n *newDialog) showFolders(dir string, names []string) {
	n.folders.RemoveAll()
	if parent := filepath.Dir(dir); parent != dir {
		up := n.w.button(".. up to "+tilde(parent), quiet, func() { n.set(parent) }).asSmall().alignLeft()
		n.folders.Add(up)
	}
	for _, name := range names {
		full := filepath.Join(dir, name)
		b := n.w.button(name, quiet, func() { n.set(full) }).asSmall().alignLeft().withIcon(folderIcon())
		b.hint = full
		n.folders.Add(b)
	}
	n.folders.Refresh()
}

// subfolders lists the folders in dir that begin with prefix, hidden ones left out unless asked for.
func subfolders(dir, prefix string) []string {
	if dir == "" {
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer f.Close()
	entries, _ := f.ReadDir(5000) // what could be read is shown; more is not looked through
	var names []string
	for _, e := range entries {
		name := e.Name()
		if !strings.HasPrefix(name, prefix) || strings.HasPrefix(name, ".") && !strings.HasPrefix(prefix, ".") {
			continue
		}
		if e.IsDir() {
			names = append(names, name)
		} else if e.Type()&os.ModeSymlink != 0 {
			if fi, err := os.Stat(filepath.Join(dir, name)); err == nil && fi.IsDir() {
				names = append(names, name)
			}
		}
	}
	slices.SortFunc(names, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
	return names[:min(len(names), maxFolders)]
}

// expand turns ~ into the home folder.
func expand(path string) string {
	path = strings.TrimSpace(path)
	if path == "~" || strings.HasPrefix(path, "~/") {
		if home, err := os.UserHomeDir(); err == nil {
			return home + path[1:]
		}
	}
	return path
}

// tilde shortens a path below the home folder.
func tilde(path string) string {
	if home, err := os.UserHomeDir(); err == nil && home != "/" {
		if path == home {
			return "~"
		}
		if rest, ok := strings.CutPrefix(path, home+"/"); ok {
			return "~/" + rest
		}
	}
	return path
}

func (n *newDialog) start() {
	dir := expand(n.path.Text)
	if len(dir) > 1 {
		dir = strings.TrimSuffix(dir, "/")
	}
	opts := session.StartOptions{Agent: n.agent.Name, Name: strings.TrimSpace(n.name.Text), Workspace: dir, Supervised: n.asks.Checked, Backend: n.chosenBackend()}
	if n.only.Checked {
		opts.Access = session.ReadOnly
	}
	n.d.close()
	n.w.start(n.agent, opts)
}
