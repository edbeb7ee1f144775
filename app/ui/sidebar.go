package ui

import (
	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/layout"

	"capsid/app/session"
)

// sidebar is the left side: the buttons that start a session, and the sessions.
type sidebar struct {
	w       *Window
	root    fyne.CanvasObject
	buttons *fyne.Container
	list    *fyne.Container
	empty   *canvas.Text
	rows    map[string]*sessionRow
	order   []string
}

func newSidebar(w *Window) *sidebar {
	s := &sidebar{w: w, rows: map[string]*sessionRow{}}
	s.buttons = container.New(layout.NewCustomPaddedVBoxLayout(4))
	s.list = container.New(layout.NewCustomPaddedVBoxLayout(2))
	s.empty = newText("none yet", colFaint, textSmall)
	head := boldText("SESSIONS", colFaint, 10)
	scroll := container.NewVScroll(s.list)
	s.root = container.NewStack(
		canvas.NewRectangle(colPanel),
		container.New(bar{10, 10, 10, 6}, container.NewBorder(
			container.New(layout.NewCustomPaddedVBoxLayout(6), s.buttons, container.New(bar{2, 10, 0, 2}, container.NewHBox(head, s.empty))),
			nil, nil, nil, scroll)),
	)
	return s
}

// setAgents makes the New buttons.
func (s *sidebar) setAgents(list []Agent) {
	s.buttons.RemoveAll()
	for _, a := range list {
		b := s.w.button("New "+a.Title, plain, func() { s.w.newSession(a) }).withIcon(s.w.mark(a.Name)).alignLeft()
		b.hint = "Start " + a.Title + " in a machine of its own"
		if k := agentKey(a.Name); k != "" {
			b.hint += " (" + k + ")"
		}
		s.buttons.Add(b)
	}
}

// set shows the sessions.
func (s *sidebar) set(list []session.Status, selected string) {
	keep := map[string]bool{}
	order := make([]string, 0, len(list))
	for _, st := range list {
		keep[st.ID] = true
		order = append(order, st.ID)
		row := s.rows[st.ID]
		if row == nil {
			row = s.newRow(st.ID)
			s.rows[st.ID] = row
		}
		row.st, row.selected, row.now, row.mark = st, st.ID == selected, s.w.now(), s.w.mark(st.Agent)
		row.bell, row.depth, row.last = false, 0, true
		if known := s.w.sessions[st.ID]; known != nil {
			row.bell, row.depth, row.last = known.bell, known.depth, known.last
		}
		if looks := row.looks(); looks != row.looked {
			row.looked = looks
			row.Refresh()
		}
	}
	for id := range s.rows {
		if !keep[id] {
			delete(s.rows, id)
		}
	}
	if !equalStrings(order, s.order) {
		s.order = order
		s.list.Objects = s.list.Objects[:0]
		for _, id := range order {
			s.list.Objects = append(s.list.Objects, s.rows[id])
		}
		s.list.Refresh()
	}
	if len(list) == 0 {
		s.empty.Show()
	} else {
		s.empty.Hide()
	}
}

func (s *sidebar) newRow(id string) *sessionRow {
	row := newSessionRow()
	row.onTap = func() { s.w.openSession(id) }
	row.onMenu = func(at fyne.Position) { s.w.sessionMenu(id, at) }
	row.onHint = s.w.hint
	s.w.probe.add("session", row, func() string {
		if s.rows[id] != row {
			return ""
		}
		return row.st.Name + " " + string(row.st.State)
	})
	return row
}

func equalStrings(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
