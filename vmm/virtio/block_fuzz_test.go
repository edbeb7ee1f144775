package virtio

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// blockModel is what a disk of some sectors does, in the simplest words.
type blockModel struct {
	data     []byte
	readOnly bool
}

// answer serves a request: what the guest reads, which is nil if it is not said, and the status.
func (m *blockModel) answer(kind uint32, sector uint64, out []byte, in int) ([]byte, byte) {
	le := binary.LittleEndian
	fits := func(sector, n uint64) bool {
		return sector <= uint64(len(m.data))/512 && n <= uint64(len(m.data))/512-sector
	}
	switch kind {
	case 0:
		if in%512 != 0 || !fits(sector, uint64(in/512)) {
			return nil, 1
		}
		return m.data[sector*512:][:in], 0
	case 1:
		if m.readOnly || len(out)%512 != 0 || !fits(sector, uint64(len(out)/512)) {
			return nil, 1
		}
		copy(m.data[sector*512:], out)
		return nil, 0
	case 4:
		return nil, 0
	case 8:
		return append([]byte("fuzz"), make([]byte, 16)...)[:min(in, 20)], 0
	case 11, 13:
		if m.readOnly || len(out) == 0 || len(out)%16 != 0 || len(out) > 256 || kind == 13 && len(out) > 16 {
			return nil, 1
		}
		for b := out; len(b) > 0; b = b[16:] {
			if flags := le.Uint32(b[12:]); flags > 1 || flags == 1 && kind == 11 {
				return nil, 2
			}
			if !fits(le.Uint64(b), uint64(le.Uint32(b[8:]))) {
				return nil, 1
			}
		}
		for b := out; len(b) > 0; b = b[16:] { // a discard zeroes too, here
			clear(m.data[le.Uint64(b)*512:][:le.Uint32(b[8:])*512])
		}
		return nil, 0
	}
	return nil, 2
}

// Whatever is asked of a disk, and however it is cut into buffers, the answer and the file are as the model says.
func FuzzBlock(f *testing.F) {
	f.Add(uint8(0), uint32(0), uint64(3), uint16(1024), []byte{0, 16, 5}, []byte{})
	f.Add(uint8(2), uint32(1), uint64(127), uint16(0), []byte{3, 9, 200}, bytes.Repeat([]byte("x"), 512))
	f.Add(uint8(0), uint32(13), uint64(0), uint16(0), []byte{}, blockRangeBytes(4, 100, 1))
	f.Add(uint8(2), uint32(11), uint64(0), uint16(0), []byte{15}, append(blockRangeBytes(4, 100, 0), blockRangeBytes(120, 8, 0)...))
	f.Add(uint8(1), uint32(8), uint64(0), uint16(20), []byte{}, []byte{})
	f.Add(uint8(0), uint32(4), uint64(0), uint16(0), []byte{1, 1, 1}, []byte{})
	f.Fuzz(func(t *testing.T, how uint8, kind uint32, sector uint64, in uint16, cuts, out []byte) {
		if len(out) > 8192 {
			return
		}
		file, data := testFile(t, 64<<10, true)
		m := blockModel{bytes.Clone(data), how&1 != 0}
		b, err := NewBlock(BlockConfig{Disk: testStack(t, file, m.readOnly), Serial: "fuzz"})
		if err != nil {
			t.Fatal(err)
		}
		d := newDriver(t, b)
		d.start(uint64(how)<<28 | FeatureVersion1 | uint64(how)<<6&blockFlush)
		request, reply := d.put(append(blockHeader(kind, sector), out...)), d.room(int(in)+1)
		var list []buffer
		for _, part := range []buffer{request, reply} {
			for part.n > 0 {
				n := part.n
				if len(cuts) > 0 && len(list) < 50 {
					n, cuts = min(n, 1+uint32(cuts[0])), cuts[1:]
				}
				list = append(list, buffer{part.at, n, part.write})
				part.at, part.n = part.at+uint64(n), part.n-n
			}
		}
		q := d.queues[0]
		q.add(d.features&FeatureIndirect != 0, list...)
		q.kick()
		if _, n := q.wait(); n != uint32(in)+1 {
			t.Errorf("%d bytes written of %d", n, in+1)
		}
		want, status := m.answer(kind, sector, out, int(in))
		got := d.bytes(reply.at, int(in)+1)
		if got[in] != status {
			t.Fatalf("status %d, want %d", got[in], status)
		}
		if !bytes.Equal(got[:len(want)], want) {
			t.Error("wrong bytes were read")
		}
		if !bytes.Equal(got[len(want):in], make([]byte, int(in)-len(want))) {
			t.Error("something was written behind what was read")
		}
		after := make([]byte, len(data)+1)
		if n, _ := file.ReadAt(after, 0); !bytes.Equal(after[:n], m.data) {
			t.Error("the file is not what it should be")
		}
	})
}
