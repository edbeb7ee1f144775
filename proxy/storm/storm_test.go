package storm

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"capsid/proxy/ledger"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type rows struct {
	mu   sync.Mutex
	list []ledger.Entry
	told chan struct{}
}

func (r *rows) add(e ledger.Entry) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, e)
	if r.told != nil {
		r.told <- struct{}{}
	}
	return int64(len(r.list))
}

func TestOneKindIsSummedUp(t *testing.T) {
	var got rows
	r := New(Config{Add: got.add, Window: time.Hour, PerKind: 3})
	for range 1000 {
		r.Add(ledger.Entry{Kind: ledger.HTTP, Host: "a.example", Port: 443, Decision: ledger.Ask, Reason: "why"})
	}
	r.Add(ledger.Entry{Kind: ledger.HTTP, Host: "b.example", Port: 443, Decision: ledger.Ask})
	if len(got.list) != 4 {
		t.Fatalf("%d rows before the window ended, want 3 and 1", len(got.list))
	}
	r.Close()
	if len(got.list) != 5 {
		t.Fatalf("%d rows, want 5", len(got.list))
	}
	if last := got.list[4]; last.Host != "a.example" || !strings.HasPrefix(last.Reason, "997 more like this") || !strings.HasSuffix(last.Reason, "why") {
		t.Errorf("summary %+v", last)
	}
	r.Add(ledger.Entry{Host: "late"})
	r.Close()
	if len(got.list) != 5 {
		t.Error("something was recorded after Close")
	}
}

func TestMadeUpHostsAreBounded(t *testing.T) {
	var got rows
	r := New(Config{Add: got.add, Window: time.Hour, Total: 20, Kinds: 30})
	for i := range 10000 {
		r.Add(ledger.Entry{Kind: ledger.Connect, Host: fmt.Sprintf("h%d.example", i), Decision: ledger.Block})
	}
	if len(got.list) != 20 || len(r.kinds) > 31 {
		t.Errorf("%d rows, %d kinds", len(got.list), len(r.kinds))
	}
	r.Close()
	if n := len(got.list); n > 20+31 {
		t.Errorf("%d rows with summaries", n)
	}
}

func TestQuestionsAreAlikeBelowOneDomain(t *testing.T) {
	var got rows
	r := New(Config{Add: got.add, Window: time.Hour, PerKind: 2})
	for i := range 100 {
		r.Add(ledger.Entry{Kind: ledger.DNS, Host: fmt.Sprintf("x%d.tunnel.example.com", i)})
	}
	r.Close()
	if len(got.list) != 3 {
		t.Errorf("%d rows", len(got.list))
	}
}

func TestWindowEndsByItself(t *testing.T) {
	got := rows{told: make(chan struct{}, 10)}
	r := New(Config{Add: got.add, Window: 20 * time.Millisecond, PerKind: 1})
	defer r.Close()
	for range 3 {
		r.Add(ledger.Entry{Host: "a.example"})
	}
	for range 2 {
		select {
		case <-got.told:
		case <-time.After(20 * time.Second):
			t.Fatal("no summary")
		}
	}
	r.Add(ledger.Entry{Host: "a.example"})
	<-got.told // the new window gives it a row of its own
}
