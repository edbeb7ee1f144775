package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

const (
	queueLen    = 8192  // rows waiting to be written before callers wait
	batchLen    = 1024  // rows in one transaction
	keptLen     = 65536 // rows kept while the disk refuses them
	gather      = 30 * time.Millisecond
	followerLen = 4096
	// maxRows bounds the file: a guest may ask for ever. The oldest go first.
	maxRows = 500_000
)

// Ledger is the open ledger of a running session. Its methods may be called from any goroutine.
type Ledger struct {
	db    *sql.DB
	work  chan op
	ended chan struct{}

	mu        sync.Mutex
	closed    bool
	nextID    int64
	open      map[int64]Entry // under way
	followers map[chan Entry]struct{}
	refused   refusals
	lost      int64
	writeErr  error
}

type op struct {
	entry   Entry
	flushed chan error // not nil: tell when all before is written
}

// Open opens or makes the ledger at path. Rows that an earlier, killed supervisor left under way are marked as done.
func Open(path string) (*Ledger, error) {
	fail := func(err error) (*Ledger, error) { return nil, fmt.Errorf("ledger %s: %w", path, err) }
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fail(err)
	}
	f.Close()
	db, err := openDB(path, false)
	if err != nil {
		return fail(err)
	}
	l := &Ledger{db: db, work: make(chan op, queueLen), ended: make(chan struct{}), open: map[int64]Entry{}, followers: map[chan Entry]struct{}{}}
	if _, err := db.Exec(schema + `UPDATE entry SET done = 1 WHERE done = 0;`); err != nil {
		db.Close()
		return fail(err)
	}
	if err := db.QueryRow(`SELECT coalesce(max(id), 0) FROM entry`).Scan(&l.nextID); err != nil {
		db.Close()
		return fail(err)
	}
	old, err := query(db, Query{Blocked: true, Limit: 20_000})
	if err != nil {
		db.Close()
		return fail(err)
	}
	for _, e := range old {
		l.refused.add(e)
	}
	go l.write()
	return l, nil
}

// Origin is a snapshot that a machine went on from.
type Origin struct {
	Time     time.Time `json:"time"`
	Session  string    `json:"session"`
	Snapshot string    `json:"snapshot"`
}

// WentOn records that the machine goes on from a snapshot.
func (l *Ledger) WentOn(o Origin) error {
	_, err := l.db.Exec(`INSERT INTO origin (time, session, snapshot) VALUES (?, ?, ?)`, o.Time.UnixNano(), o.Session, o.Snapshot)
	return err
}

// Begin records that something is under way and returns its ID, with which Finish completes it.
func (l *Ledger) Begin(e Entry) int64 {
	e.Done = false
	return l.enter(e)
}

// Add records something that is over already.
func (l *Ledger) Add(e Entry) int64 {
	e.Done = true
	return l.enter(e)
}

func (l *Ledger) enter(e Entry) int64 {
	clean(&e)
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return 0
	}
	l.nextID++
	e.ID = l.nextID
	if !e.Done {
		l.open[e.ID] = e
	}
	if e.Decision != Allow {
		l.refused.add(e)
	}
	l.tell(e)
	l.mu.Unlock()
	l.enqueue(op{entry: e})
	return e.ID
}

// Finish completes a row that Begin returned: change sets what is known now. Duration is filled in if change leaves it zero. An ID that is
// not under way is ignored.
func (l *Ledger) Finish(id int64, change func(*Entry)) {
	l.mu.Lock()
	e, ok := l.open[id]
	if !ok || l.closed {
		l.mu.Unlock()
		return
	}
	delete(l.open, id)
	was := e.Decision
	change(&e)
	clean(&e)
	e.ID, e.Done = id, true
	if e.Duration == 0 {
		e.Duration = time.Since(e.Time)
	}
	if was == Allow && e.Decision != Allow {
		l.refused.add(e)
	}
	l.tell(e)
	l.mu.Unlock()
	l.enqueue(op{entry: e})
}

// enqueue waits while the queue is full; the writer always drains it until Close has returned.
func (l *Ledger) enqueue(o op) {
	select {
	case l.work <- o:
	case <-l.ended:
		if o.flushed != nil {
			o.flushed <- os.ErrClosed
		}
	}
}

// tell is called with mu held. A follower that does not keep up loses its channel, not rows in between.
func (l *Ledger) tell(e Entry) {
	for ch := range l.followers {
		select {
		case ch <- e:
		default:
			delete(l.followers, ch)
			close(ch)
		}
	}
}

// Follow returns the rows that begin or are completed from now on; a row is seen again, with the same ID, when it is completed. The channel is closed when
// ctx or the ledger ends, or when the reader fell too far behind: it should then Query for what it missed and follow anew.
func (l *Ledger) Follow(ctx context.Context) <-chan Entry {
	ch := make(chan Entry, followerLen)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		close(ch)
		return ch
	}
	l.followers[ch] = struct{}{}
	context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if _, ok := l.followers[ch]; ok {
			delete(l.followers, ch)
			close(ch)
		}
	})
	return ch
}

// Query returns rows, oldest first, with all that was entered before the call.
func (l *Ledger) Query(q Query) ([]Entry, error) {
	if err := l.Flush(); err != nil {
		return nil, err
	}
	return query(l.db, q)
}

// Pending returns what was refused, grouped by registrable domain, the latest first. Whether policy still refuses it is for the caller to ask.
func (l *Ledger) Pending() ([]Group, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refused.groups(), nil
}

// Err tells of rows that could not be written.
func (l *Ledger) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.writeErr == nil {
		return nil
	}
	return fmt.Errorf("ledger: %d rows lost: %w", l.lost, l.writeErr)
}

// Flush returns when all that was entered before is on its way to the disk.
func (l *Ledger) Flush() error {
	done := make(chan error, 1)
	l.enqueue(op{flushed: done})
	select {
	case err := <-done:
		return err
	case <-l.ended:
		return os.ErrClosed
	}
}

// Close writes what is left and releases the file. Rows still under way stay as they are.
func (l *Ledger) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	for ch := range l.followers {
		delete(l.followers, ch)
		close(ch)
	}
	l.mu.Unlock()
	err := l.Flush()
	close(l.ended)
	return errors.Join(err, l.db.Close())
}
