package ledger

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, path string) *Ledger {
	t.Helper()
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestARowBeginsAndIsCompleted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a ? b#%.db")
	l := open(t, path)
	live := l.Follow(t.Context())
	id := l.Begin(Entry{Session: "s", Kind: HTTP, Method: "GET", URL: "https://a.example/x", Host: "a.example", Port: 443, Decision: Allow, Process: "curl"})
	if e := <-live; e.ID != id || e.Done {
		t.Fatalf("the row did not show while under way: %+v", e)
	}
	rows, err := l.Query(Query{})
	if err != nil || len(rows) != 1 || rows[0].Done {
		t.Fatalf("%+v %v", rows, err)
	}
	l.Finish(id, func(e *Entry) { e.Status, e.Sent, e.Received, e.Duration = 200, 5, 7, time.Second })
	if e := <-live; e.ID != id || !e.Done || e.Status != 200 {
		t.Fatalf("%+v", e)
	}
	l.Finish(id, func(e *Entry) { e.Status = 500 }) // once only
	l.Add(Entry{Kind: Connect, Host: "b.example", Port: 22, Decision: Ask, Source: "built in"})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	rows, err = r.Query(Query{})
	if err != nil || len(rows) != 2 || rows[0].Status != 200 || rows[0].Received != 7 || rows[0].Duration != time.Second || !rows[0].Done || rows[0].Process != "curl" {
		t.Fatalf("%+v %v", rows, err)
	}
	for q, want := range map[Query]int{{Blocked: true}: 1, {After: id}: 1, {Host: "a.example"}: 1, {Limit: 1}: 1, {Host: "c.example"}: 0} {
		if rows, err := r.Query(q); err != nil || len(rows) != want {
			t.Errorf("%+v: %d rows, %v, want %d", q, len(rows), err, want)
		}
	}
	if rows, _ := r.Query(Query{Limit: 1}); rows[0].Host != "b.example" {
		t.Errorf("a limit keeps the newest: %+v", rows)
	}
}

func TestReopenGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "l.db")
	l := open(t, path)
	l.Begin(Entry{Host: "a.example", Decision: Allow})
	l.Add(Entry{Host: "x.b.example.co.uk", Decision: Ask})
	l.Close()
	l = open(t, path)
	id := l.Add(Entry{Host: "y.b.example.co.uk", Decision: Ask})
	rows, err := l.Query(Query{})
	if err != nil || len(rows) != 3 || rows[2].ID != id || !rows[0].Done {
		t.Fatalf("%+v %v", rows, err)
	}
	groups, err := l.Pending()
	if err != nil || len(groups) != 1 || groups[0].Domain != "example.co.uk" || groups[0].Count != 2 {
		t.Fatalf("%+v %v", groups, err)
	}
	if left := Filter(groups, func(h Host) bool { return h.Host != "y.b.example.co.uk" }); len(left) != 1 || left[0].Count != 1 {
		t.Errorf("%+v", left)
	}
}

func TestTextOfTheGuestIsHarmless(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "l.db"))
	l.Add(Entry{Host: "a.example", Decision: Block, Process: "x\x1b[2J\n", URL: "https://a/" + strings.Repeat("é", 5000), Reason: "\u202egnp"})
	rows, err := l.Query(Query{})
	if err != nil {
		t.Fatal(err)
	}
	e := rows[0]
	if strings.ContainsAny(e.Process+e.Reason, "\x1b\n\u202e") || len(e.URL) > maxURL || strings.ContainsRune(e.URL, '\ufffd') {
		t.Errorf("%q %q %d", e.Process, e.Reason, len(e.URL))
	}
}

func TestManyWritersLoseNothing(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "l.db"))
	var wg sync.WaitGroup
	const writers, each = 8, 500
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				id := l.Begin(Entry{Host: fmt.Sprintf("h%d.example", w), Decision: Allow})
				l.Finish(id, func(e *Entry) { e.Status = 200 + i%2 })
			}
		})
	}
	wg.Wait()
	rows, err := l.Query(Query{Limit: writers * each * 2})
	if err != nil || len(rows) != writers*each {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for _, e := range rows {
		if !e.Done || e.Status == 0 {
			t.Fatalf("%+v", e)
		}
	}
}

func TestASlowFollowerIsLetGo(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "l.db"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	slow := l.Follow(ctx)
	for range followerLen + 1 {
		l.Add(Entry{Host: "a.example", Decision: Allow})
	}
	n := 0
	for range slow {
		n++
	}
	if n != followerLen {
		t.Errorf("%d rows before the end", n)
	}
}

func TestAStormOfNamesIsBounded(t *testing.T) {
	var r refusals
	for i := range maxRefused * 3 {
		r.add(Entry{Host: fmt.Sprintf("n%d.example", i), Decision: Ask, Time: time.Unix(int64(i), 0)})
	}
	if len(r.hosts) > maxRefused {
		t.Errorf("%d hosts are remembered", len(r.hosts))
	}
	if r.hosts[hostPort{fmt.Sprintf("n%d.example", maxRefused*3-1), 0}] == nil {
		t.Error("the newest was dropped")
	}
}

func TestOrigins(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	at := time.Unix(1_900_000_000, 5)
	for _, snapshot := range []string{"a", "b"} {
		l, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.WentOn(Origin{at, "00000001", snapshot}); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	list, err := r.Origins()
	if err != nil || len(list) != 2 || list[1].Snapshot != "b" || list[1].Session != "00000001" || !list[0].Time.Equal(at) {
		t.Errorf("%+v, %v", list, err)
	}
}
