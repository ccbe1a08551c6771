package router

import "sync"

// An outbox holds what waits to be written. Its owner bounds it.
type outbox struct {
	wake chan struct{} // has room for one

	mu       sync.Mutex
	frames   [][]byte
	bytes    int64
	finished bool
}

func newOutbox() *outbox { return &outbox{wake: make(chan struct{}, 1)} }

// add puts a message at the end; after finish it is dropped.
func (o *outbox) add(frame []byte) (waiting int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.finished {
		o.frames = append(o.frames, frame)
		o.bytes += int64(len(frame))
		o.signal()
	}
	return o.bytes
}

// take takes the message at the front, nil if there is none. over is true when
// there will never be one again.
func (o *outbox) take() (frame []byte, over bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.frames) == 0 {
		o.frames = nil
		return nil, o.finished
	}
	frame = o.frames[0]
	o.frames[0] = nil
	o.frames = o.frames[1:]
	o.bytes -= int64(len(frame))
	return frame, false
}

// waiting is how many bytes there are.
func (o *outbox) waiting() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bytes
}

// finish says that nothing more will come.
func (o *outbox) finish() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.finished = true
	o.signal()
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}
