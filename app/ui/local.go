package ui

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"slices"

	"capsid/app/backend"
	"capsid/app/session"
	"capsid/assets"
	"capsid/guest/image"
	"capsid/proxy/ledger"
	"capsid/vmm"
)

// Local is the Engine of this computer: its store of sessions, its images, its backends.
type Local struct {
	Store      *session.Store
	Candidates []vmm.Backend // what may run machines, the best first
	BuildLog   io.Writer     // what the tools say that build an image; nil: nowhere
}

var _ Engine = (*Local)(nil)

// usual is the order of the buttons; a person's own kinds follow by name.
var usual = []string{"claude", "codex", "gemini", "shell"}

// Agents is of Engine.
func (l *Local) Agents() ([]Agent, error) {
	list, err := assets.Agents(l.Store.Paths().Agents())
	if err != nil {
		// A fault in a person's own file must not take the others away.
		ours, oursErr := assets.Agents("")
		if oursErr != nil {
			return nil, oursErr
		}
		list = ours
	}
	var out []Agent
	for _, a := range list {
		out = append(out, Agent{Name: a.Name, Title: a.Title, Icon: a.IconSVG()})
	}
	place := func(a Agent) int {
		if i := slices.Index(usual, a.Name); i >= 0 {
			return i
		}
		return len(usual)
	}
	slices.SortStableFunc(out, func(a, b Agent) int { return place(a) - place(b) })
	return out, err
}

// List is of Engine.
func (l *Local) List() ([]session.Status, error) { return l.Store.List() }

// Watch is of Engine.
func (l *Local) Watch(ctx context.Context) (<-chan struct{}, error) { return l.Store.Watch(ctx) }

// Start is of Engine.
func (l *Local) Start(ctx context.Context, o session.StartOptions, on func(session.Status)) (session.Status, error) {
	return l.Store.Start(ctx, o, on)
}

// Remove is of Engine.
func (l *Local) Remove(id string, force bool) error { return l.Store.Remove(id, force) }

// Client is of Engine.
func (l *Local) Client(id string) Client {
	c := l.Store.Client(id)
	c.From = "window"
	return localClient{c}
}

type localClient struct{ *session.Client }

// Terminal narrows the type; a nil pointer must not become a TerminalConn that is not nil.
func (c localClient) Terminal(ctx context.Context, name string, cols, rows int) (TerminalConn, error) {
	t, err := c.Client.Terminal(ctx, name, cols, rows)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Ledger is of Engine.
func (l *Local) Ledger(id string, q ledger.Query) ([]ledger.Entry, error) {
	r, err := ledger.Read(filepath.Join(l.Store.Paths().Folder(id), "ledger.db"))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return r.Query(q)
}

// Image is of Engine.
func (l *Local) Image() (string, error) {
	img, err := image.Latest(l.Store.Paths().Images())
	if errors.Is(err, image.ErrNone) {
		return "", ErrNoImage
	}
	if err != nil {
		return "", err
	}
	return img.Digest, nil
}

// BuildImage is of Engine.
func (l *Local) BuildImage(ctx context.Context, progress func(Progress)) error {
	log := l.BuildLog
	if log == nil {
		log = io.Discard
	}
	_, err := image.Build(ctx, image.BuildOptions{
		Root: l.Store.Paths().Images(), Log: log,
		Progress: func(s image.Step) {
			p := Progress{Stage: sentence(s.Name), Done: -1, Line: s.Detail}
			if s.Total > 0 {
				p.Done = float64(s.Done) / float64(s.Total)
			}
			progress(p)
		},
	})
	return err
}

// Backends is of Engine.
func (l *Local) Backends() Backends {
	found := backend.Look(context.Background(), l.Candidates)
	var out Backends
	for _, f := range found {
		if f.Usable {
			out.Usable = append(out.Usable, Backend{Name: f.Name(), Detail: f.Detail})
		}
	}
	// A fault in a policy file is told by the start, which it prevents.
	d, _ := session.Defaults(l.Store.Paths())
	choice, err := backend.ChooseOf(found, d.Backend)
	var e *backend.Error
	switch {
	case errors.As(err, &e):
		out.Line = sentence(e.Message) + "; fix: " + e.Fix
	case err == nil:
		out.Line = "New machines: " + choice.Name() + ", " + choice.Why
	}
	return out
}

func sentence(s string) string {
	if s == "" || s[0] < 'a' || s[0] > 'z' {
		return s
	}
	return string(s[0]-'a'+'A') + s[1:]
}
