package disk

import (
	"math/rand/v2"
	"testing"
)

// The map agrees with a slice of booleans.
func TestBitmap(t *testing.T) {
	const blocks = 3*chunkBlocks + 77
	r := rand.New(rand.NewPCG(3, 4))
	m, model := newBitmap(blocks), make([]bool, blocks)
	for range 3000 {
		b := r.Int64N(blocks)
		end := b + 1 + r.Int64N(min(blocks-b, 1<<r.IntN(17)))
		switch r.IntN(5) {
		case 0:
			m.set(b, end)
			for i := b; i < end; i++ {
				model[i] = true
			}
		case 1:
			m.unset(b, end)
			for i := b; i < end; i++ {
				model[i] = false
			}
		default:
			want := b
			for want < end && model[want] == model[b] {
				want++
			}
			if has, stop := m.run(b, end); has != model[b] || stop != want {
				t.Fatalf("run %d to %d: %v until %d, want %v until %d", b, end, has, stop, model[b], want)
			}
		}
	}
}
