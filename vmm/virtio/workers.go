package virtio

import (
	"sync"
	"sync/atomic"
)

// workers are the goroutines of a device that has started, one for each queue that it serves.
type workers struct {
	stopped atomic.Bool
	queues  []*Queue
	group   sync.WaitGroup
}

// serve lets handle answer every request of a queue: it returns how many bytes it wrote, or what the driver did wrong. A nil queue has none.
func (w *workers) serve(q *Queue, fail func(error), handle func(*Chain) (written uint32, err error)) {
	if q == nil {
		return
	}
	w.queues = append(w.queues, q)
	w.group.Go(func() {
		var c Chain
		for !w.stopped.Load() {
			if err := w.drain(q, &c, handle); err != nil {
				fail(err)
				return
			}
			if !q.Rearm() {
				q.Wait()
			}
		}
	})
}

// drain answers what waits in the queue. A driver that makes requests as fast as they are answered does not keep the device from stopping.
func (w *workers) drain(q *Queue, c *Chain, handle func(*Chain) (uint32, error)) error {
	defer q.Signal()
	for !w.stopped.Load() {
		ok, err := q.Pop(c)
		if err != nil || !ok {
			return err
		}
		written, err := handle(c)
		if err != nil {
			return err
		}
		q.Push(c.Head, written)
	}
	return nil
}

// stop ends the workers and returns when there are none. A nil w has none.
func (w *workers) stop() {
	if w == nil {
		return
	}
	w.stopped.Store(true)
	for _, q := range w.queues {
		q.Wake()
	}
	w.group.Wait()
}
