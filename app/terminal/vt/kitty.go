package vt

// Flags of the kitty keyboard protocol.
const (
	KittyDisambiguate uint8 = 1 << iota
	KittyEventTypes
	KittyAlternateKeys
	KittyAllKeys
	KittyText

	kittyAll = 1<<5 - 1
)

// maxKitty bounds the stack of one screen; what is deeper pushes the oldest out, as the protocol asks.
const maxKitty = 16

// kittyStack is the stack of one screen. Below it there is always the legacy state.
type kittyStack struct {
	stack [maxKitty]uint8
	n     int
}

func (k *kittyStack) flags() uint8 {
	if k.n == 0 {
		return 0
	}
	return k.stack[k.n-1]
}

func (k *kittyStack) push(f uint8) {
	if k.n == maxKitty {
		copy(k.stack[:], k.stack[1:])
		k.n--
	}
	k.stack[k.n] = f
	k.n++
}

func (s *Screen) kittyKeyboard(q *sequence) {
	k := &s.cur.kitty
	switch q.prefix {
	case '>':
		k.push(uint8(q.raw(0, 0)) & kittyAll)
	case '<':
		k.n = max(0, k.n-q.arg(0, 1))
	case '=':
		f := uint8(q.raw(0, 0)) & kittyAll
		switch q.raw(1, 1) {
		case 2:
			f |= k.flags()
		case 3:
			f = k.flags() &^ f
		}
		if k.n == 0 {
			k.push(f)
		} else {
			k.stack[k.n-1] = f
		}
	}
}

func (s *Screen) reportKitty() { s.replyf("\x1b[?%du", s.cur.kitty.flags()) }

// setModifyOtherKeys is XTMODKEYS for resource 4.
func (s *Screen) setModifyOtherKeys(q *sequence) {
	switch {
	case len(q.params) == 0:
		s.m.otherKeys = 0
	case q.raw(0, 0) == 4:
		s.m.otherKeys = uint8(min(q.raw(1, 0), 2))
	}
}

func (s *Screen) reportModifyOtherKeys() { s.replyf("\x1b[>4;%dm", s.m.otherKeys) }
