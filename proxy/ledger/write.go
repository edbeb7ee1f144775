package ledger

import (
	"time"
)

// write is the writer's goroutine: it gathers rows for a moment and writes them in one transaction.
func (l *Ledger) write() {
	var kept []Entry
	var written int64 // rows since the last look at the bound
	timer := time.NewTimer(gather)
	defer timer.Stop()
	for {
		var waiting []chan error
		take := func(o op) {
			if o.flushed != nil {
				waiting = append(waiting, o.flushed)
			} else {
				kept = append(kept, o.entry)
			}
		}
		select {
		case o := <-l.work:
			take(o)
		case <-l.ended:
			return
		}
		timer.Reset(gather)
	more:
		for len(kept) < batchLen && len(waiting) == 0 {
			select {
			case o := <-l.work:
				take(o)
			case <-timer.C:
				break more
			case <-l.ended:
				return
			}
		}
		err := l.writeBatch(kept)
		if err == nil {
			written += int64(len(kept))
			kept = kept[:0]
			if written > maxRows/50 {
				written = 0
				err = l.prune()
			}
		} else if over := len(kept) - keptLen; over > 0 {
			kept = kept[over:]
			l.mu.Lock()
			l.lost += int64(over)
			l.mu.Unlock()
		}
		l.mu.Lock()
		l.writeErr = err
		l.mu.Unlock()
		for _, w := range waiting {
			w <- err
		}
	}
}

func (l *Ledger) writeBatch(batch []Entry) error {
	if len(batch) == 0 {
		return nil
	}
	tx, err := l.db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	st, err := tx.Prepare(upsert)
	if err != nil {
		return err
	}
	defer st.Close()
	for i := range batch {
		if _, err := st.Exec(batch[i].row()...); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func (l *Ledger) prune() error {
	_, err := l.db.Exec(`DELETE FROM entry WHERE id <= (SELECT max(id) FROM entry) - ?`, maxRows)
	return err
}
