package ledger

import (
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// Version 1 of the schema. Times are Unix nanoseconds, durations nanoseconds.
const schema = `
CREATE TABLE IF NOT EXISTS entry (
	id INTEGER PRIMARY KEY, time INTEGER NOT NULL, session TEXT NOT NULL, kind TEXT NOT NULL, process TEXT NOT NULL,
	method TEXT NOT NULL, url TEXT NOT NULL, host TEXT NOT NULL, port INTEGER NOT NULL, status INTEGER NOT NULL,
	sent INTEGER NOT NULL, received INTEGER NOT NULL, duration INTEGER NOT NULL, done INTEGER NOT NULL,
	decision TEXT NOT NULL, rule TEXT NOT NULL, source TEXT NOT NULL, reason TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS refused ON entry (decision, id) WHERE decision <> 'allow';
CREATE TABLE IF NOT EXISTS origin (time INTEGER NOT NULL, session TEXT NOT NULL, snapshot TEXT NOT NULL) STRICT;
PRAGMA user_version = 1;
`

const columns = `id, time, session, kind, process, method, url, host, port, status, sent, received, duration, done, decision, rule, source, reason`

const upsert = `INSERT INTO entry (` + columns + `) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)
ON CONFLICT (id) DO UPDATE SET status=excluded.status, sent=excluded.sent, received=excluded.received, duration=excluded.duration,
	done=excluded.done, decision=excluded.decision, rule=excluded.rule, source=excluded.source, reason=excluded.reason,
	method=excluded.method, url=excluded.url, process=excluded.process`

func openDB(path string, readOnly bool) (*sql.DB, error) {
	q := url.Values{"_pragma": {"busy_timeout(5000)", "synchronous(NORMAL)"}}
	if readOnly {
		q.Set("mode", "ro")
	} else {
		q.Add("_pragma", "journal_mode(WAL)")
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(4)
	return db, nil
}

// Query chooses rows.
type Query struct {
	After   int64  // only rows with a greater ID
	Limit   int    // the newest so many; 0 means 1000, at most 100,000
	Blocked bool   // only what was refused
	Host    string // only this host
}

func query(db *sql.DB, q Query) ([]Entry, error) {
	if q.Limit <= 0 {
		q.Limit = 1000
	}
	where, args := []string{"id > ?"}, []any{q.After}
	if q.Blocked {
		where = append(where, "decision <> 'allow'")
	}
	if q.Host != "" {
		where, args = append(where, "host = ?"), append(args, q.Host)
	}
	// The newest rows, in the order in which they came.
	rows, err := db.Query(`SELECT * FROM (SELECT `+columns+` FROM entry WHERE `+strings.Join(where, " AND ")+
		` ORDER BY id DESC LIMIT ?) ORDER BY id`, append(args, min(q.Limit, 100_000))...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := []Entry{}
	for rows.Next() {
		var e Entry
		var at, duration int64
		if err := rows.Scan(&e.ID, &at, &e.Session, &e.Kind, &e.Process, &e.Method, &e.URL, &e.Host, &e.Port, &e.Status,
			&e.Sent, &e.Received, &duration, &e.Done, &e.Decision, &e.Rule, &e.Source, &e.Reason); err != nil {
			return nil, err
		}
		e.Time, e.Duration = time.Unix(0, at), time.Duration(duration)
		out = append(out, e)
	}
	return out, rows.Err()
}

func (e *Entry) row() []any {
	return []any{e.ID, e.Time.UnixNano(), e.Session, string(e.Kind), e.Process, e.Method, e.URL, e.Host, e.Port, e.Status,
		e.Sent, e.Received, int64(e.Duration), e.Done, string(e.Decision), e.Rule, e.Source, e.Reason}
}

// Reader reads the ledger of a session, whether its supervisor lives or not.
type Reader struct{ db *sql.DB }

// Read opens a ledger's file for reading.
func Read(path string) (*Reader, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	db, err := openDB(path, true)
	if err != nil {
		return nil, fmt.Errorf("ledger %s: %w", path, err)
	}
	return &Reader{db}, nil
}

// Query returns rows, oldest first.
func (r *Reader) Query(q Query) ([]Entry, error) { return query(r.db, q) }

// Origins are the snapshots that the machine went on from, oldest first: what it asked for before each is in the ledger of that session.
func (r *Reader) Origins() ([]Origin, error) {
	rows, err := r.db.Query(`SELECT time, session, snapshot FROM origin ORDER BY time, rowid`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []Origin
	for rows.Next() {
		var o Origin
		var at int64
		if err := rows.Scan(&at, &o.Session, &o.Snapshot); err != nil {
			return nil, err
		}
		o.Time = time.Unix(0, at)
		out = append(out, o)
	}
	return out, rows.Err()
}

// Close releases the file.
func (r *Reader) Close() error { return r.db.Close() }
