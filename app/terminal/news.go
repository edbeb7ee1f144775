package terminal

import (
	"time"

	"fyne.io/fyne/v2"
)

// news is what the callbacks have still to be told. There is one place for each kind, so that a program that says a thing a thousand
// times between two frames says it once.
type news struct {
	title  *string
	bell   bool
	notice *notice
	clip   *string
	ended  bool
	err    error

	lastBell, lastNotice time.Time
}

type notice struct{ title, body string }

const (
	bellInterval   = 300 * time.Millisecond
	noticeInterval = time.Second
)

func (t *Terminal) tell(f func(*news)) {
	t.mu.Lock()
	f(&t.news)
	t.mu.Unlock()
	t.pace.kick()
}

// deliver calls the callbacks; it runs on the UI goroutine.
func (t *Terminal) deliver() {
	t.mu.Lock()
	n := t.news
	now := time.Now()
	t.news = news{lastBell: n.lastBell, lastNotice: n.lastNotice}
	if n.bell && now.Sub(n.lastBell) < bellInterval {
		n.bell = false
	}
	if n.bell {
		t.news.lastBell = now
	}
	if n.notice != nil {
		if wait := noticeInterval - now.Sub(n.lastNotice); wait > 0 { // the last one said in that time is told when it is over
			t.news.notice, n.notice = n.notice, nil
			t.pace.after(wait)
		} else {
			t.news.lastNotice = now
		}
	}
	t.mu.Unlock()

	if n.title != nil && t.OnTitle != nil {
		t.OnTitle(*n.title)
	}
	if n.bell && t.OnBell != nil {
		t.OnBell()
	}
	if n.notice != nil && t.OnNotify != nil {
		t.OnNotify(n.notice.title, n.notice.body)
	}
	if n.clip != nil && t.OnClipboard != nil {
		text := *n.clip
		t.OnClipboard(text, func() { fyne.CurrentApp().Clipboard().SetContent(text) })
	}
	if n.ended && t.OnEnd != nil {
		t.OnEnd(n.err)
	}
}
