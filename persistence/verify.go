package persistence

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// bbolt reads its file through a memory map and trusts what it finds there: a
// short file, a page number beyond the end or a loop of pages would end the
// process, not give an error. So the file is read here first, with plain reads
// and every length checked. The layout is bbolt's version 2:
//
//	page      id u64, flags u16, count u16, overflow u32, then count elements
//	meta      magic, version, pageSize, flags u32; root, sequence, freelist,
//	          pages, txid, checksum u64; on pages 0 and 1, the newer one counts
//	branch    element: pos, ksize u32, page u64       pos is from the element
//	leaf      element: flags, pos, ksize, vsize u32   flag 1: the value is a bucket
//	bucket    root, sequence u64; root 0: a whole page follows in the value
//	freelist  page numbers u64; count 0xFFFF: the first one is the count
const (
	pageHeader     = 16
	elementSize    = 16
	bucketHeader   = 16
	metaSize       = 64
	boltMagic      = 0xED0CDAED
	boltVersion    = 2
	flagBranch     = 0x01
	flagLeaf       = 0x02
	flagMeta       = 0x04
	flagFreelist   = 0x10
	bucketElement  = 0x01
	noFreelist     = ^uint64(0)
	smallestPage   = 1 << 10
	largestPage    = 1 << 24
	deepestNesting = 64
)

// byteOrder is the machine's: bbolt writes its structs as they are in memory.
var byteOrder = binary.NativeEndian

// damage says what is wrong with a file.
type damage struct{ what string }

func (d *damage) Error() string { return d.what }

func damagef(format string, args ...any) error { return &damage{fmt.Sprintf(format, args...)} }

// verifyFile checks a file that nobody else has open. why is the damage, nil if
// there is none; fresh means that there is nothing in it yet.
func verifyFile(path string) (why error, fresh bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, true, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, false, err
	}
	if info.Size() == 0 {
		return nil, true, nil
	}
	err = verify(f, info.Size())
	if bad := (*damage)(nil); errors.As(err, &bad) {
		return bad, false, nil
	}
	return nil, false, err
}

// verify checks the structure of a bbolt file. The error is a *damage unless the
// file could not be read for another reason.
func verify(r io.ReaderAt, size int64) error {
	m, err := newestMeta(r, size)
	if err != nil {
		return err
	}
	if uint64(size)/m.pageSize < m.pages {
		return damagef("%d bytes are less than the %d pages that it should have", size, m.pages)
	}
	v := verifier{r: r, meta: m, seen: make([]uint64, m.pages/64+1)}
	v.mark(0, 2)
	if m.freelist != noFreelist {
		if err := v.freelist(); err != nil {
			return err
		}
	}
	return v.tree(m.root, span{top: true})
}

type boltMeta struct {
	version                     uint32
	pageSize                    uint64
	root, freelist, pages, txid uint64
	headed                      bool // its page says what it is
}

// newestMeta finds the meta page of the last commit that was finished.
func newestMeta(r io.ReaderAt, size int64) (best boltMeta, err error) {
	found := false
	look := func(at int64) error {
		b := make([]byte, pageHeader+metaSize)
		if at+int64(len(b)) > size {
			return nil
		}
		if err := readAt(r, b, at); err != nil {
			return err
		}
		m, ok := parseMeta(b[pageHeader:])
		m.headed = byteOrder.Uint64(b) == min(uint64(at), 1) && byteOrder.Uint16(b[8:]) == flagMeta
		if ok && (!found || m.txid > best.txid) && (at == 0 || int64(m.pageSize) == at) {
			best, found = m, true
		}
		return nil
	}
	if err := look(0); err != nil {
		return best, err
	}
	// The second one's place follows from a page size that only the first knows.
	for at := int64(smallestPage); at <= largestPage; at <<= 1 {
		if err := look(at); err != nil {
			return best, err
		}
	}
	switch {
	case !found:
		return best, damagef("no valid meta page")
	case best.version != boltVersion:
		return best, damagef("its format has the version %d, not %d", best.version, boltVersion)
	case !best.headed:
		return best, damagef("the header of its meta page is wrong")
	case best.pages < 3, best.pages > uint64(size):
		return best, damagef("it should have %d pages", best.pages)
	}
	return best, nil
}

func parseMeta(b []byte) (m boltMeta, ok bool) {
	u32 := func(at int) uint32 { return byteOrder.Uint32(b[at:]) }
	u64 := func(at int) uint64 { return byteOrder.Uint64(b[at:]) }
	sum := fnv.New64a()
	_, _ = sum.Write(b[:56])
	if u32(0) != boltMagic || u64(56) != sum.Sum64() {
		return m, false
	}
	m = boltMeta{version: u32(4), pageSize: uint64(u32(8)), root: u64(16), freelist: u64(32), pages: u64(40), txid: u64(48)}
	return m, m.pageSize >= smallestPage && m.pageSize <= largestPage && m.pageSize&(m.pageSize-1) == 0
}

// readAt reads all of b. What the medium no longer gives is damage.
func readAt(r io.ReaderAt, b []byte, at int64) error {
	_, err := r.ReadAt(b, at)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF), errors.Is(err, syscall.EIO):
		return damagef("%d bytes at %d cannot be read: %v", len(b), at, err)
	}
	return err
}

// A verifier walks the pages of a file. Each may be met once, as a free one or
// in one place of one tree.
type verifier struct {
	r    io.ReaderAt
	meta boltMeta
	seen []uint64 // one bit a page
}

// mark notes n pages from id on; false means that one of them is beyond the end
// or was met before.
func (v *verifier) mark(id, n uint64) bool {
	if id >= v.meta.pages || n > v.meta.pages-id {
		return false
	}
	for p := id; p < id+n; p++ {
		if v.seen[p/64]&(1<<(p%64)) != 0 {
			return false
		}
		v.seen[p/64] |= 1 << (p % 64)
	}
	return true
}

// page reads a page with all that overflows from it.
func (v *verifier) page(id uint64) ([]byte, error) {
	if id < 2 || id >= v.meta.pages {
		return nil, damagef("page %d is beyond the end", id)
	}
	at := int64(id * v.meta.pageSize)
	b := make([]byte, v.meta.pageSize)
	if err := readAt(v.r, b, at); err != nil {
		return nil, err
	}
	if got := byteOrder.Uint64(b); got != id {
		return nil, damagef("page %d says that it is page %d", id, got)
	}
	more := uint64(byteOrder.Uint32(b[12:]))
	if !v.mark(id, more+1) {
		return nil, damagef("page %d and %d more are beyond the end or met twice", id, more)
	}
	if more > 0 {
		rest := make([]byte, more*v.meta.pageSize)
		if err := readAt(v.r, rest, at+int64(len(b))); err != nil {
			return nil, err
		}
		b = append(b, rest...)
	}
	return b, nil
}

func header(page []byte) (flags, count uint16) {
	return byteOrder.Uint16(page[8:]), byteOrder.Uint16(page[10:])
}

func (v *verifier) freelist() error {
	id := v.meta.freelist
	page, err := v.page(id)
	if err != nil {
		return fmt.Errorf("freelist: %w", err)
	}
	flags, short := header(page)
	if flags != flagFreelist {
		return damagef("freelist: page %d has the flags %x", id, flags)
	}
	ids, count := page[pageHeader:], uint64(short)
	if count == 0xFFFF {
		count, ids = byteOrder.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids)/8) {
		return damagef("freelist: %d entries do not fit", count)
	}
	for i := range count {
		if free := byteOrder.Uint64(ids[8*i:]); free < 2 || !v.mark(free, 1) {
			return damagef("freelist: page %d is beyond the end or met twice", free)
		}
	}
	return nil
}

// A span is where in its tree a page is. Its first key is low, by which bbolt
// finds the page again in the one above, and all its keys are below high; nil is
// no bound. The top tree has nothing but buckets in it.
type span struct {
	low, high []byte
	depth     int
	top       bool
}

// tree walks a page of a bucket and those below it.
func (v *verifier) tree(id uint64, at span) error {
	if at.depth > deepestNesting {
		return damagef("page %d is %d levels deep", id, at.depth)
	}
	page, err := v.page(id)
	if err != nil {
		return err
	}
	return v.node(page, id, at)
}

func (v *verifier) node(page []byte, id uint64, in span) error {
	flags, count := header(page)
	if len(page) < pageHeader+int(count)*elementSize {
		return damagef("page %d: %d elements do not fit", id, count)
	}
	if count == 0 && in.low != nil {
		return damagef("page %d is empty", id)
	}
	var keyOf func(e []byte) (pos, ksize uint64)
	switch {
	case flags == flagLeaf:
		keyOf = func(e []byte) (uint64, uint64) {
			return uint64(byteOrder.Uint32(e[4:])), uint64(byteOrder.Uint32(e[8:]))
		}
	case flags == flagBranch && count > 0:
		keyOf = func(e []byte) (uint64, uint64) {
			return uint64(byteOrder.Uint32(e)), uint64(byteOrder.Uint32(e[4:]))
		}
	default:
		return damagef("page %d: flags %x with %d elements", id, flags, count)
	}
	keys := make([][]byte, count)
	values := make([][]byte, count) // of leaves
	for i := range keys {
		at := pageHeader + i*elementSize
		e := page[at : at+elementSize]
		pos, ksize := keyOf(e)
		begin := uint64(at) + pos
		if ksize == 0 || begin+ksize > uint64(len(page)) {
			return damagef("page %d: key %d is not inside the page", id, i)
		}
		keys[i] = page[begin : begin+ksize]
		if flags == flagLeaf {
			vsize := uint64(byteOrder.Uint32(e[12:]))
			if begin+ksize+vsize > uint64(len(page)) {
				return damagef("page %d: value %d is not inside the page", id, i)
			}
			values[i] = page[begin+ksize : begin+ksize+vsize]
		}
		if i == 0 && in.low != nil && !bytes.Equal(keys[i], in.low) || i > 0 && bytes.Compare(keys[i-1], keys[i]) >= 0 ||
			in.high != nil && bytes.Compare(keys[i], in.high) >= 0 {
			return damagef("page %d: key %d is out of order", id, i)
		}
	}
	for i := range keys {
		e := page[pageHeader+i*elementSize:]
		flags, isBranch := byteOrder.Uint32(e), flags == flagBranch
		var err error
		switch {
		case isBranch:
			below := span{keys[i], in.high, in.depth + 1, in.top}
			if i+1 < len(keys) {
				below.high = keys[i+1]
			}
			err = v.tree(byteOrder.Uint64(e[8:]), below)
		case flags == bucketElement:
			err = v.bucket(values[i], id, in.depth+1)
		case flags != 0 || in.top:
			err = damagef("page %d: element %d has the flags %x", id, i, flags)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) bucket(value []byte, id uint64, depth int) error {
	if len(value) < bucketHeader {
		return damagef("page %d: a bucket of %d bytes", id, len(value))
	}
	if root := byteOrder.Uint64(value); root != 0 {
		return v.tree(root, span{depth: depth})
	}
	inline := value[bucketHeader:]
	if len(inline) < pageHeader {
		return damagef("page %d: an inline bucket of %d bytes", id, len(inline))
	}
	if flags, _ := header(inline); flags != flagLeaf {
		return damagef("page %d: an inline bucket with the flags %x", id, flags)
	}
	return v.node(inline, id, span{depth: depth})
}
