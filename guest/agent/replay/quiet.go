package replay

import (
	"bytes"
	"strings"
)

// appendQuiet appends raw output to dst without what a terminal would answer or do once more. A sequence that is still
// being written at the end stays: its rest comes live.
func appendQuiet(dst, raw []byte) []byte {
	for len(raw) > 0 {
		n := next(raw)
		if n == 0 {
			return append(dst, raw...)
		}
		seq := raw[:n]
		// A fragment is dropped: terminals do not agree on what a control character inside of a sequence does to it.
		if s, whole := split(seq); whole && !loud(s, seq) {
			dst = append(dst, seq...)
		}
		raw = raw[n:]
	}
	return dst
}

// loud tells whether a terminal would answer the sequence, or do something that must not be done twice.
func loud(s sequence, raw []byte) bool {
	switch s.kind {
	case 0:
		// ENQ, BEL; and what is left of a sequence that was cancelled.
		return raw[0] == 0x05 || raw[0] == bel || raw[0] == can || raw[0] == sub || raw[0] >= 0x80 && hasC1(raw)
	case 1:
		return s.inter == "" && (s.final == 'Z' || s.final == '\\') // DECID, and the end of a string that is not there
	case '[':
		return loudCSI(s)
	case 'P':
		// DECRQSS, XTGETTCAP, XTGETXRES; and what a multiplexer hands through unseen.
		return s.final == 'q' && s.inter != "" || s.final == 'Q' || s.final == 't' && bytes.HasPrefix(s.data, []byte("mux;")) || hasC1(s.data)
	case ']':
		return loudOSC(s.data) || hasC1(s.data)
	case '_':
		return true // kitty graphics answer; nothing else is in use
	}
	return true // PM, SOS: no terminal shows anything for them
}

func loudCSI(s sequence) bool {
	switch s.final {
	case 'c': // DA1, DA2, DA3
		return s.inter == ""
	case 'n': // DSR; with > it disables key modifier options
		return s.prefix != '>'
	case 'p': // DECRQM
		return s.inter == "$"
	case 'q': // XTVERSION
		return s.prefix == '>'
	case 'u': // kitty keyboard query; DECRQTSR, DECRQUPSS
		return s.prefix == '?' || s.inter != ""
	case 'm': // XTQMODKEYS
		return s.prefix == '?'
	case 't': // XTWINOPS: reports, and moving windows; 22 and 23 keep and bring back the title
		return s.prefix == 0 && s.inter == "" && s.number(0, 0) != 22 && s.number(0, 0) != 23
	case 'x': // DECREQTPARM; with $ and * it is something else
		return s.inter == ""
	case 'y', 'w', '|', 'R': // DECRQCRA, DECRQPSR, DECRQLP and XTREPORTSGR, XTREPORTCOLORS
		return s.inter != ""
	case 'S': // XTSMGRAPHICS; plain S scrolls
		return s.prefix == '?'
	}
	return false
}

func loudOSC(data []byte) bool {
	number, rest, _ := strings.Cut(string(data[:min(len(data), 4096)]), ";")
	switch number {
	case "4", "5", "10", "11", "12", "13", "14", "15", "16", "17", "18", "19", "21", "22": // colours and pointer shapes: "?" asks
		return strings.Contains(rest, "?")
	case "0", "1", "2", "7", "8", "104", "105", "110", "111", "112", "113", "114", "115", "116", "117", "118", "119", "133", "633", "66":
		return false
	}
	// The clipboard (52, 5522), notifications (9, 99, 777), questions (50, 60, 61, 1337, …) and what is not known.
	return true
}
