package traffic

import (
	"fmt"
	"net/url"
	"strconv"
	"time"

	"capsid/proxy/ledger"
)

// Path returns the path and query of a row's URL, or what stands for them where there is none.
func Path(e *ledger.Entry) string {
	u, err := url.Parse(e.URL)
	if e.URL == "" || err != nil {
		switch e.Kind {
		case ledger.DNS:
			return "(name)"
		case ledger.Connect:
			return ":" + strconv.Itoa(e.Port)
		}
		return ""
	}
	if u.Path == "" && u.RawQuery == "" {
		return "/"
	}
	return u.RequestURI()
}

// Method is a row's method, or the kind where it has none.
func Method(e *ledger.Entry) string {
	if e.Method != "" {
		return e.Method
	}
	switch e.Kind {
	case ledger.DNS:
		return "DNS"
	case ledger.Connect:
		return "TCP"
	}
	return ""
}

// DecisionText is the word for a decision.
func DecisionText(d ledger.Decision) string {
	switch d {
	case ledger.Allow:
		return "allowed"
	case ledger.Ask:
		return "blocked, asks"
	}
	return "blocked"
}

// Status is a row's HTTP status, or how far it is.
func Status(e *ledger.Entry) string {
	switch {
	case e.Status != 0:
		return strconv.Itoa(e.Status)
	case !e.Done:
		return "…"
	}
	return "–"
}

// Size writes a number of bytes in at most six characters.
func Size(n int64) string {
	if n <= 0 {
		return "–"
	}
	if n < 1000 {
		return strconv.FormatInt(n, 10) + " B"
	}
	f := float64(n)
	for _, unit := range []string{"kB", "MB", "GB", "TB"} {
		f /= 1000
		switch {
		case f < 9.95:
			return fmt.Sprintf("%.1f %s", f, unit)
		case f < 999.5:
			return fmt.Sprintf("%.0f %s", f, unit)
		}
	}
	return fmt.Sprintf("%.0f PB", f/1000)
}

// Ago says how long before now something was, in a few words.
func Ago(now, then time.Time) string {
	d := now.Sub(then)
	switch {
	case then.IsZero():
		return "never"
	case d < 5*time.Second:
		return "just now"
	case d < time.Minute:
		return fmt.Sprintf("%d s ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 24*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	}
	return then.Local().Format("2 Jan 15:04")
}

// Took writes a duration as a person reads it.
func Took(d time.Duration) string {
	switch {
	case d <= 0:
		return ""
	case d < time.Millisecond:
		return "<1 ms"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
}

// Cut shortens text to at most n runes, with an ellipsis in place of what is left out at the end.
func Cut(text string, n int) string {
	if n <= 0 {
		return ""
	}
	runes := 0
	for i := range text {
		runes++
		if runes > n {
			// i is where rune n+1 begins: drop one more for the ellipsis.
			return cutTo(text[:i], n-1) + "…"
		}
	}
	return text
}

func cutTo(text string, n int) string {
	for i := range text {
		if n == 0 {
			return text[:i]
		}
		n--
	}
	return text
}
