package terminal

// A ring is a queue of bytes that grows to what is in it and is used again and
// again.
type ring struct {
	buf   []byte
	first int // of the oldest byte
	n     int
}

// smallest is what a ring has from its first byte on; it grows twofold.
const smallest = 4 << 10

func (r *ring) add(p []byte) {
	if r.n+len(p) > len(r.buf) {
		size := max(smallest, len(r.buf))
		for size < r.n+len(p) {
			size *= 2
		}
		buf := make([]byte, size)
		r.copy(buf[:r.n], 0)
		r.buf, r.first = buf, 0
	}
	at := (r.first + r.n) % max(1, len(r.buf))
	n := copy(r.buf[at:], p)
	copy(r.buf, p[n:])
	r.n += len(p)
}

// drop forgets the n oldest bytes.
func (r *ring) drop(n int) {
	if r.n -= n; r.n == 0 {
		r.first = 0
		return
	}
	r.first = (r.first + n) % len(r.buf)
}

// copy fills p with the bytes from the at-th on. So many there must be.
func (r *ring) copy(p []byte, at int) {
	if len(p) == 0 {
		return
	}
	from := (r.first + at) % len(r.buf)
	n := copy(p, r.buf[from:])
	copy(p[n:], r.buf)
}

// at is the i-th byte.
func (r *ring) at(i int) byte { return r.buf[(r.first+i)%len(r.buf)] }

// shrink gives back what a ring grew to beyond size, once that is free.
func (r *ring) shrink(size int) {
	if len(r.buf) <= size || r.n > size/2 {
		return
	}
	buf := make([]byte, size)
	r.copy(buf[:r.n], 0)
	r.buf, r.first = buf, 0
}
