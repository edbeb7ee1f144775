package vt

import "strings"

const (
	maxLinks   = 2048 // living hyperlinks; older ones lose their address
	maxLinkURI = 2048 // bytes
)

// links keeps the addresses of OSC 8. Cells hold a number only, so that memory does not follow what a program can put into cells.
type links struct {
	uris []linkEntry
	last uint32
}

type linkEntry struct {
	n       uint32
	id, uri string
}

// hyperlink begins or ends a link: OSC 8 ; params ; URI.
func (s *Screen) hyperlink(rest string) {
	params, uri, _ := strings.Cut(rest, ";")
	if uri == "" {
		s.c.link = 0
		return
	}
	if len(uri) > maxLinkURI || clean(uri, maxLinkURI) != uri {
		s.c.link = 0
		return
	}
	var id string
	for _, p := range strings.Split(params, ":") {
		if v, ok := strings.CutPrefix(p, "id="); ok && len(v) <= 256 {
			id = v
		}
	}
	s.c.link = s.links.add(id, uri)
}

func (l *links) add(id, uri string) uint32 {
	if l.last > 0 {
		if e := l.get(l.last); e != nil && e.id == id && e.uri == uri {
			return l.last
		}
	}
	if l.uris == nil {
		l.uris = make([]linkEntry, maxLinks)
	}
	l.last++
	if l.last == 0 {
		l.last = 1
	}
	l.uris[l.last%maxLinks] = linkEntry{l.last, id, uri}
	return l.last
}

func (l *links) get(n uint32) *linkEntry {
	if n == 0 || l.uris == nil {
		return nil
	}
	if e := &l.uris[n%maxLinks]; e.n == n {
		return e
	}
	return nil
}
