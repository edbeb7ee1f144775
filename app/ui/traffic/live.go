package traffic

import (
	"slices"
	"strconv"
	"strings"
	"sync"

	"capsid/proxy/ledger"
)

// DefaultRows is how many rows a Live list keeps.
const DefaultRows = 5000

// Live keeps the latest rows of a ledger, oldest first. A row that comes again, with the same ID, takes the place of the earlier one.
type Live struct {
	max int

	mu      sync.Mutex
	rows    []*ledger.Entry // ascending by ID; entries are never changed, only replaced
	shown   []*ledger.Entry // the rows that the filter keeps; nil when it must be made anew
	filter  string
	words   []string
	dropped int64
}

// NewLive returns an empty list of at most max rows; 0 means DefaultRows.
func NewLive(max int) *Live {
	if max <= 0 {
		max = DefaultRows
	}
	return &Live{max: max}
}

// Put adds rows, or replaces those it has.
func (l *Live) Put(entries ...ledger.Entry) {
	if len(entries) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range entries {
		l.put(&entries[i])
	}
	// Cut with some slack, so that a full list does not move thousands of pointers for each row.
	if over := len(l.rows) - l.max; over > 0 {
		l.rows = append(make([]*ledger.Entry, 0, l.max+l.max/8), l.rows[over:]...)
		l.dropped += int64(over)
	}
	l.shown = nil
}

func (l *Live) put(e *ledger.Entry) {
	n := len(l.rows)
	if n == 0 || l.rows[n-1].ID < e.ID {
		l.rows = append(l.rows, e)
		return
	}
	i, found := slices.BinarySearchFunc(l.rows, e.ID, func(r *ledger.Entry, id int64) int {
		switch {
		case r.ID < id:
			return -1
		case r.ID > id:
			return 1
		}
		return 0
	})
	switch {
	case found && l.rows[i].Done && !e.Done:
		// History that was asked for may arrive after the row's completion: what is complete stays.
	case found:
		l.rows[i] = e
	case i == 0 && l.dropped > 0:
		// Older than all that is kept.
	default:
		l.rows = slices.Insert(l.rows, i, e)
	}
}

// SetFilter keeps the rows that hold every word of text, whatever the case. A word that begins with "-" must be absent.
func (l *Live) SetFilter(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.filter, l.words, l.shown = text, strings.Fields(strings.ToLower(text)), nil
}

// Filter returns the text that SetFilter got.
func (l *Live) Filter() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.filter
}

// Rows returns what the filter keeps, oldest first. Neither the slice nor the rows are ever changed afterwards.
func (l *Live) Rows() []*ledger.Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shown != nil {
		return l.shown
	}
	if len(l.words) == 0 {
		l.shown = slices.Clone(l.rows)
	} else {
		l.shown = []*ledger.Entry{}
		for _, e := range l.rows {
			if matches(e, l.words) {
				l.shown = append(l.shown, e)
			}
		}
	}
	return l.shown
}

// Count returns how many rows are kept, whatever the filter.
func (l *Live) Count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.rows)
}

// Last returns the greatest ID, from which a reader that fell behind asks on.
func (l *Live) Last() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.rows); n > 0 {
		return l.rows[n-1].ID
	}
	return 0
}

func matches(e *ledger.Entry, words []string) bool {
	text := strings.ToLower(strings.Join([]string{
		string(e.Decision), DecisionText(e.Decision), string(e.Kind), e.Method, e.Host, Path(e), e.Process, strconv.Itoa(e.Status), e.Rule, e.Reason,
	}, "\n"))
	for _, w := range words {
		if not, ok := strings.CutPrefix(w, "-"); ok && not != "" {
			if strings.Contains(text, not) {
				return false
			}
			continue
		}
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}
