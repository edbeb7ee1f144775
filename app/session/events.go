package session

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
)

// maxEvent bounds one line of the stream of events.
const maxEvent = 4 << 20

// Events follows the session until ctx ends or the supervisor does; the channel is closed then. The first event is the status.
func (c *Client) Events(ctx context.Context) (<-chan Event, error) {
	req, err := http.NewRequestWithContext(ctx, "GET", base+"/v1/events", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, unwrapURL(err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, apiError(resp)
	}
	out := make(chan Event)
	go func() {
		defer close(out)
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(make([]byte, 64<<10), maxEvent)
		for lines.Scan() {
			data, ok := strings.CutPrefix(lines.Text(), "data: ")
			if !ok {
				continue // "event:" repeats the kind; the others are comments that keep the stream alive
			}
			var e Event
			if json.Unmarshal([]byte(data), &e) != nil {
				continue
			}
			select {
			case out <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}
