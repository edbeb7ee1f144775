package supervisor

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"
)

func TestPrompt(t *testing.T) {
	screen := bytes.Repeat([]byte("x"), minScreen)
	is := func(c chan struct{}) bool {
		synctest.Wait()
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
	synctest.Test(t, func(t *testing.T) {
		p := newPrompt()
		p.Write(screen[:minScreen-1])
		time.Sleep(10 * quiet)
		if is(p.ready) {
			t.Error("a few bytes were taken for a prompt")
		}
		p.Write(screen)
		for range 5 { // as long as it draws it is not there
			time.Sleep(quiet - time.Millisecond)
			p.Write([]byte("."))
		}
		if is(p.ready) {
			t.Error("it was ready while it drew")
		}
		time.Sleep(quiet)
		if !is(p.ready) || !p.waits() {
			t.Error("an agent that is quiet is not at its prompt")
		}
		p.Write(screen) // later output changes nothing
		time.Sleep(10 * quiet)
		p.spoil()
		p.spoil()
		if p.waits() {
			t.Error("it waits though somebody typed")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		p := newPrompt()
		p.Write(screen)
		p.spoil()
		time.Sleep(10 * quiet)
		if is(p.ready) || !is(p.over) {
			t.Error("typing did not end the watch")
		}
	})
}

type keys struct {
	terminal
	got []byte
}

func (k *keys) Write(b []byte) (int, error) { k.got = append(k.got, b...); return len(b), nil }

func TestTyping(t *testing.T) {
	p, k := newPrompt(), &keys{}
	view := typing{k, p}
	view.Write([]byte("\x1b[?62;22c")) // a terminal's answer
	if !p.waits() {
		t.Error("an answer was taken for typing")
	}
	view.Write([]byte("h"))
	if p.waits() {
		t.Error("typing was not seen")
	}
	if string(k.got) != "\x1b[?62;22ch" {
		t.Errorf("passed on %q", k.got)
	}
}
