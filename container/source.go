package container

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"sync"
)

// A source is the context of a build on its way to the engine. The transport
// reads it from a goroutine of its own, and may still do so when the engine has
// answered; after end it gets nothing more.
type source struct {
	sent func() // called for each part

	mu     sync.Mutex // held while the context is read
	from   io.Reader
	seeker io.Seeker // nil: the context can be sent once only
	start  int64     // where the context begins
	begun  bool      // something was taken since the start
	head   []byte    // read for a look, not yet sent
	err    error     // of the context itself
	ended  bool
}

// newSource looks at the beginning of a context.
func newSource(context io.Reader) (*source, error) {
	if context == nil {
		return nil, &engineError{ErrContext, errors.New("there are no files to build from")}
	}
	s := &source{from: context}
	if seeker, ok := context.(io.Seeker); ok {
		if at, err := seeker.Seek(0, io.SeekCurrent); err == nil { // a pipe is a Seeker that cannot
			s.seeker, s.start = seeker, at
		}
	}
	head := make([]byte, 512)
	n, err := io.ReadFull(context, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, &engineError{ErrContext, err}
	}
	s.head = head[:n]
	if err := checkArchive(s.head); err != nil {
		return nil, &engineError{ErrContext, err}
	}
	return s, nil
}

func isTar(head []byte) bool {
	_, err := tar.NewReader(bytes.NewReader(head)).Next()
	return err == nil || err == io.EOF
}

// Read is the transport's.
func (s *source) Read(to []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended:
		return 0, io.ErrClosedPipe
	case s.err != nil:
		return 0, s.err
	}
	s.begun = true
	s.sent()
	if len(s.head) > 0 {
		n := copy(to, s.head)
		s.head = s.head[n:]
		return n, nil
	}
	n, err := s.from.Read(to)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// rewind makes the context ready for being sent from its beginning.
func (s *source) rewind() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.begun {
		return nil
	}
	if s.seeker == nil {
		return errors.New("the engine wants the build's files once more, and they come from a stream")
	}
	if _, err := s.seeker.Seek(s.start, io.SeekStart); err != nil {
		s.err = err
		return err
	}
	s.begun, s.head = false, nil
	return nil
}

// failure is what went wrong with the context itself.
func (s *source) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *source) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
}
