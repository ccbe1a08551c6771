package router

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/gammazero/nexus/v3/transport/serialize"
	"github.com/gammazero/nexus/v3/wamp"
)

// A pipe is a wire to a client in this process. Messages are written down and
// read again on the way, so that this client gets what all others get, and
// shares no memory with them.
type pipe struct {
	format
	toClient chan wamp.Message
	toRouter chan wamp.Message
	done     chan struct{}
	once     sync.Once
	seen     atomic.Uint64

	writing sync.Mutex // held while toClient is written to, or closed
}

// clientEnd is the client's end of a pipe.
type clientEnd struct{ *pipe }

func newPipe() (wamp.Peer, *pipe) {
	p := &pipe{
		format:   format{Serializer: &serialize.CBORSerializer{}},
		toClient: make(chan wamp.Message, 64), toRouter: make(chan wamp.Message), done: make(chan struct{}),
	}
	return clientEnd{p}, p
}

func (c clientEnd) Recv() <-chan wamp.Message { return c.toClient }
func (c clientEnd) Send() chan<- wamp.Message { return c.toRouter }
func (c clientEnd) IsLocal() bool             { return false }
func (c clientEnd) Close()                    { c.pipe.close() }

func (p *pipe) read() (wamp.Message, error) {
	select {
	case msg := <-p.toRouter:
		p.seen.Add(1)
		raw, err := p.encode(msg)
		if err != nil {
			return nil, fmt.Errorf("message of this process: %w", err)
		}
		return p.decode(raw)
	case <-p.done:
		return nil, errClosed
	}
}

func (p *pipe) write(frame []byte) error {
	msg, err := p.decode(frame)
	if err != nil {
		return err
	}
	p.writing.Lock()
	defer p.writing.Unlock()
	select {
	case <-p.done:
		return errClosed
	default:
	}
	select {
	case p.toClient <- msg:
		return nil
	case <-p.done:
		return errClosed
	}
}

func (p *pipe) ping() bool    { return false }
func (p *pipe) heard() uint64 { return p.seen.Load() }

// bye closes: the client still gets what was written.
func (p *pipe) bye() { p.close() }

func (p *pipe) close() {
	p.once.Do(func() {
		close(p.done)
		p.writing.Lock()
		defer p.writing.Unlock()
		close(p.toClient)
	})
}
