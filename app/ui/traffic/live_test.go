package traffic

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"capsid/proxy/ledger"
)

func entry(id int64, host string) ledger.Entry {
	return ledger.Entry{ID: id, Kind: ledger.HTTP, Host: host, Method: "GET", URL: "https://" + host + "/a/b?c=d", Decision: ledger.Allow, Time: time.Unix(id, 0)}
}

func ids(l *Live) []int64 {
	var out []int64
	for _, e := range l.Rows() {
		out = append(out, e.ID)
	}
	return out
}

func TestLiveKeepsOrderAndBound(t *testing.T) {
	l := NewLive(3)
	for _, id := range []int64{1, 2, 4, 3} {
		l.Put(entry(id, "a.example"))
	}
	if got := fmt.Sprint(ids(l)); got != "[2 3 4]" {
		t.Errorf("rows %s", got)
	}
	l.Put(entry(1, "late.example")) // older than all that is kept
	if got := fmt.Sprint(ids(l)); got != "[2 3 4]" {
		t.Errorf("after an old row: %s", got)
	}
	done := entry(3, "a.example")
	done.Done, done.Status = true, 200
	l.Put(done)
	l.Put(entry(3, "a.example")) // history that was read before the row was complete
	if rows := l.Rows(); rows[1].Status != 200 || l.Count() != 3 || l.Last() != 4 {
		t.Errorf("a completed row was undone: %+v, %d rows, last %d", rows[1], l.Count(), l.Last())
	}
}

func TestLiveRowsNeverChange(t *testing.T) {
	l := NewLive(0)
	l.Put(entry(1, "a.example"))
	before := l.Rows()
	done := entry(1, "a.example")
	done.Done = true
	l.Put(done, entry(2, "b.example"))
	if len(before) != 1 || before[0].Done {
		t.Error("a slice that was handed out has changed")
	}
}

func TestLiveFilter(t *testing.T) {
	l := NewLive(0)
	blocked := entry(2, "telemetry.example")
	blocked.Decision, blocked.Status, blocked.Method, blocked.Process = ledger.Ask, 403, "POST", "node"
	l.Put(entry(1, "api.example"), blocked, entry(3, "api.example"))
	for filter, want := range map[string]string{
		"": "[1 2 3]", "API": "[1 3]", "blocked": "[2]", "allowed get": "[1 3]", "-api": "[2]", "403": "[2]", "node post": "[2]", "c=d": "[1 2 3]", "nothing": "[]", "-": "[]", "example\nallowed": "[1 3]",
	} {
		l.SetFilter(filter)
		if got := fmt.Sprint(ids(l)); got != want {
			t.Errorf("filter %q leaves %s, want %s", filter, got, want)
		}
	}
	if l.Count() != 3 {
		t.Error("the filter took rows away")
	}
}

func TestLiveFromManyGoroutines(t *testing.T) {
	l := NewLive(500)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 2000 {
				l.Put(entry(int64(i*4+g+1), "a.example"))
				if i%100 == 0 {
					l.SetFilter([]string{"", "a"}[i/100%2])
				}
				rows := l.Rows()
				for j := 1; j < len(rows); j++ {
					if rows[j-1].ID >= rows[j].ID {
						t.Error("rows out of order")
						return
					}
				}
			}
		}()
	}
	wg.Wait()
	if l.Count() != 500 {
		t.Errorf("%d rows are kept", l.Count())
	}
}

func BenchmarkLivePutFull(b *testing.B) {
	l := NewLive(0)
	id := int64(0)
	for b.Loop() {
		id++
		l.Put(entry(id, "a.example"))
		if id%50 == 0 {
			l.Rows()
		}
	}
}

func TestTexts(t *testing.T) {
	for n, want := range map[int64]string{-1: "–", 0: "–", 999: "999 B", 1000: "1.0 kB", 9_949: "9.9 kB", 9_951: "10 kB", 999_499: "999 kB", 1_000_000: "1.0 MB", 3 << 40: "3.3 TB"} {
		if got := Size(n); got != want || len([]rune(got)) > 6 {
			t.Errorf("Size(%d) = %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "", time.Microsecond: "<1 ms", 340 * time.Millisecond: "340 ms", 3200 * time.Millisecond: "3.2 s", 75 * time.Second: "1 min 15 s", 2*time.Hour + time.Minute: "2 h 1 min"} {
		if got := Took(d); got != want {
			t.Errorf("Took(%v) = %q, want %q", d, got, want)
		}
	}
	now := time.Unix(1e9, 0)
	for d, want := range map[time.Duration]string{0: "just now", 30 * time.Second: "30 s ago", 90 * time.Second: "1 min ago", 3 * time.Hour: "3 h ago"} {
		if got := Ago(now, now.Add(-d)); got != want {
			t.Errorf("Ago(%v) = %q, want %q", d, got, want)
		}
	}
	for _, c := range []struct {
		text string
		n    int
		want string
	}{{"abc", 3, "abc"}, {"abcd", 3, "ab…"}, {"äöüß", 3, "äö…"}, {"abc", 1, "…"}, {"abc", 0, ""}, {"", 5, ""}, {"日本語", 2, "日…"}} {
		if got := Cut(c.text, c.n); got != c.want {
			t.Errorf("Cut(%q, %d) = %q, want %q", c.text, c.n, got, c.want)
		}
	}
	for _, c := range []struct {
		e    ledger.Entry
		want string
	}{
		{ledger.Entry{URL: "https://a.example"}, "/"},
		{ledger.Entry{URL: "https://a.example/x?y=1"}, "/x?y=1"},
		{ledger.Entry{Kind: ledger.DNS}, "(name)"},
		{ledger.Entry{Kind: ledger.Connect, Port: 22}, ":22"},
		{ledger.Entry{Kind: ledger.HTTP, URL: "::bad\x7f"}, ""},
	} {
		if got := Path(&c.e); got != c.want {
			t.Errorf("Path(%+v) = %q, want %q", c.e, got, c.want)
		}
	}
}

func FuzzCut(f *testing.F) {
	f.Add("hello", 3)
	f.Fuzz(func(t *testing.T, text string, n int) {
		if got := len([]rune(Cut(text, n))); n >= 0 && got > n && got > 0 {
			t.Errorf("Cut(%q, %d) has %d letters", text, n, got)
		}
	})
}
