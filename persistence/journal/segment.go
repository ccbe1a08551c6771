package journal

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"strconv"
	"strings"
)

const (
	// MaxRecord is the length of the longest record that is kept.
	MaxRecord = 1 << 20
	// MaxHead is the length of the longest head that is kept.
	MaxHead = 64 << 10

	magic      = "rgjrnl1\n"
	frameSize  = 16 // of a frame without its record
	headerSize = len(magic) + 8
	maxName    = 4 << 10
)

var (
	table  = crc32.MakeTable(crc32.Castagnoli)
	little = binary.LittleEndian
)

// A segment is one file.
type segment struct {
	first uint64 // number of its first record, and its name; 0 = there is none
	size  int64
}

// A mark says that the frames from off on have numbers from seq on.
type mark struct {
	seq uint64
	off int64
}

func segmentName(first uint64) string {
	digits := strconv.FormatUint(first, 16)
	return strings.Repeat("0", 16-len(digits)) + digits + ".seg"
}

func parseSegmentName(name string) (first uint64, ok bool) {
	digits, ok := strings.CutSuffix(name, ".seg")
	if !ok || len(digits) != 16 {
		return 0, false
	}
	first, err := strconv.ParseUint(digits, 16, 64)
	return first, err == nil && first != 0 && segmentName(first) == name
}

// A header is what a segment begins with.
type header struct {
	id, name string
	head     []byte
}

func (h header) encode() []byte {
	body := little.AppendUint16(nil, uint16(len(h.id)))
	body = append(body, h.id...)
	body = little.AppendUint16(body, uint16(len(h.name)))
	body = append(body, h.name...)
	body = append(body, h.head...)
	out := append(make([]byte, 0, headerSize+len(body)), magic...)
	out = little.AppendUint32(out, crc32.Checksum(body, table))
	out = little.AppendUint32(out, uint32(len(body)))
	return append(out, body...)
}

var errHeader = errors.New("the header is damaged")

// readHeader reads a header and tells where the frames begin.
func readHeader(r io.ReaderAt) (h header, end int64, err error) {
	var fixed [headerSize]byte
	if _, err := r.ReadAt(fixed[:], 0); err != nil {
		return h, 0, errors.Join(errHeader, err)
	}
	sum, n := little.Uint32(fixed[len(magic):]), little.Uint32(fixed[len(magic)+4:])
	if string(fixed[:len(magic)]) != magic || n > maxName+MaxHead+4+maxID {
		return h, 0, errHeader
	}
	body := make([]byte, n)
	if _, err := r.ReadAt(body, int64(headerSize)); err != nil {
		return h, 0, errors.Join(errHeader, err)
	}
	if crc32.Checksum(body, table) != sum {
		return h, 0, errHeader
	}
	rest := body
	for _, text := range []*string{&h.id, &h.name} {
		if len(rest) < 2 || len(rest) < 2+int(little.Uint16(rest)) {
			return h, 0, errHeader
		}
		end := 2 + int(little.Uint16(rest))
		*text, rest = string(rest[2:end]), rest[end:]
	}
	h.head = rest
	return h, int64(headerSize) + int64(n), nil
}

// appendFrame adds a record's frame.
func appendFrame(b []byte, seq uint64, record []byte) []byte {
	at := len(b)
	b = append(b, 0, 0, 0, 0)
	b = little.AppendUint32(b, uint32(len(record)))
	b = little.AppendUint64(b, seq)
	b = append(b, record...)
	little.PutUint32(b[at:], crc32.Checksum(b[at+4:], table))
	return b
}

// A scanner finds the frames in a segment, over damage: what is no frame is
// passed byte by byte until there is one again.
type scanner struct {
	r      io.Reader // nil = all of it is in buf
	buf    []byte
	at     int   // what of buf was passed
	off    int64 // of buf[at] in the file
	seq    uint64
	limit  uint64 // numbers from here on are the next segment's
	failed int    // bytes that were checked in vain
	good   int64  // where the last frame ended
	err    error  // of r
}

// inVain bounds what is spent on bytes that look like frames and are not, which
// a record's content may do on purpose.
const inVain = 16 << 20

// window is how much is read at once.
const window = 32 << 10

func scan(r io.Reader, off int64, seq, limit uint64) *scanner {
	return &scanner{r: r, off: off, seq: seq, limit: limit, good: off}
}

func scanMemory(frames []byte, off int64, seq, limit uint64) *scanner {
	return &scanner{buf: frames, off: off, seq: seq, limit: limit, good: off}
}

// next gives the next frame. The record is good until the following call.
func (s *scanner) next() (seq uint64, record []byte, ok bool) {
	for s.failed < inVain {
		b := s.peek(frameSize)
		if b == nil {
			return 0, nil, false
		}
		length, seq := little.Uint32(b[4:]), little.Uint64(b[8:])
		if length <= MaxRecord && seq >= s.seq && seq < s.limit {
			n := int(length)
			if b = s.peek(frameSize + n); b != nil {
				if crc32.Checksum(b[4:], table) == little.Uint32(b) {
					s.pass(frameSize + n)
					s.seq, s.good = seq+1, s.off
					return seq, b[frameSize:], true
				}
				s.failed += n
			}
		}
		s.pass(1)
	}
	return 0, nil, false
}

func (s *scanner) pass(n int) {
	s.at += n
	s.off += int64(n)
}

// peek gives the next n bytes, nil where there are not so many.
func (s *scanner) peek(n int) []byte {
	for len(s.buf)-s.at < n {
		if s.r == nil {
			return nil
		}
		// What was given before is not used any more: make room in front.
		rest := copy(s.buf, s.buf[s.at:])
		s.buf, s.at = s.buf[:rest], 0
		if cap(s.buf) < max(n, window) {
			s.buf = append(make([]byte, 0, max(n, window)), s.buf...)
		}
		got, err := s.r.Read(s.buf[len(s.buf):cap(s.buf)])
		s.buf = s.buf[:len(s.buf)+got]
		if err != nil {
			s.r = nil
			if err != io.EOF {
				s.err = err
			}
		}
	}
	return s.buf[s.at : s.at+n : s.at+n]
}
