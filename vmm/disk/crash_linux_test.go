package disk

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// history is what a disk may hold after a crash: of each block, what it was at the last flush and all that it has been since.
type history struct {
	now      []byte
	versions []map[string]bool
}

func newHistory(size int) *history {
	h := &history{now: make([]byte, size), versions: make([]map[string]bool, blocksOf(int64(size)))}
	h.flushed()
	return h
}

func (h *history) block(b int) []byte { return h.now[b*BlockSize : min((b+1)*BlockSize, len(h.now))] }

func (h *history) flushed() {
	for b := range h.versions {
		h.versions[b] = map[string]bool{string(h.block(b)): true}
	}
}

func (h *history) note(off, n int) {
	for b := off / BlockSize; b*BlockSize < off+n; b++ {
		h.versions[b][string(h.block(b))] = true
	}
}

// A process is killed at every single step of its work, or the host with it. Nothing that was flushed is lost, each block is an old one or a new one, and what was
// frozen is as it was.
func TestCrash(t *testing.T) {
	for seed := range uint64(6) {
		for _, powerLost := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d/%v", seed, powerLost), func(t *testing.T) {
				for budget := 0; ; budget++ {
					if !crashAt(t, seed, budget, powerLost) || t.Failed() {
						if budget < 50 {
							t.Errorf("the whole run has %d steps", budget)
						}
						break
					}
				}
			})
		}
	}
}

// crashAt works until the host is killed and looks at what it finds then. It returns false when the work was done before.
func crashAt(t *testing.T, seed uint64, budget int, powerLost bool) bool {
	const size = 24*BlockSize + 1536
	h := &host{budget: -1}
	r := rand.New(rand.NewPCG(seed, 7))
	files := []*memFile{h.newFile(size)}
	model := newHistory(size)
	s, err := open([]file{files[0]}, size, false)
	if err != nil {
		t.Fatal(err)
	}
	h.budget = budget
	frozen := [][]byte{} // what the stack was when each layer but the top was frozen, if that was synced
	for range 40 {
		off := r.IntN(size)
		n := 1 + r.IntN(min(size-off, 5*BlockSize))
		switch op := r.IntN(12); {
		case op < 6:
			p := make([]byte, n)
			for i := range p {
				p[i] = byte(1 + r.IntN(255))
			}
			copy(model.now[off:], p)
			model.note(off, n)
			_, err = s.WriteAt(p, int64(off))
		case op < 8:
			// It may be done in parts, and then the blocks at its ends are what they were, or zeros in part.
			clear(model.now[off : off+n])
			model.note(off, n)
			err = s.Zero(int64(off), int64(n), r.IntN(2) == 0)
		case op < 11:
			if err = s.Sync(); err == nil {
				model.flushed()
			}
		default:
			if len(files) == 5 {
				continue
			}
			f := h.newFile(size)
			if err = s.freeze(f); err == nil {
				before := bytes.Clone(model.now)
				files = append(files, f)
				if err = s.SyncFrozen(); err == nil {
					for len(frozen) < len(files)-1 {
						frozen = append(frozen, before)
					}
					model.flushed()
				}
			}
		}
		if err != nil {
			break
		}
	}
	if err == nil {
		return false
	}
	if !h.dead {
		t.Fatalf("budget %d: %v", budget, err)
	}
	again := &host{budget: -1}
	var found []file
	for _, f := range files {
		found = append(found, f.after(again, powerLost, r))
	}
	s, err = open(found, size, false)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, size)
	if _, err := s.ReadAt(got, 0); err != nil {
		t.Fatal(err)
	}
	for b := range model.versions {
		p := got[b*BlockSize : min((b+1)*BlockSize, size)]
		if !model.versions[b][string(p)] {
			t.Errorf("killed at step %d: block %d is none of the %d that it was", budget, b, len(model.versions[b]))
		}
	}
	for i, want := range frozen {
		s, err := open(found[:i+1], size, true)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
			t.Errorf("killed at step %d: what was frozen %d layers high is something else (%v)", budget, i+1, err)
		}
	}
	return true
}
