package testenv

import (
	"net"
	"sync"
	"testing"
	"time"
)

// A Relay is a TCP relay in front of an address. It makes what happens on the
// way to a router: cut links, links that are dead without a word, long ways.
// Its methods may be called from any goroutine.
type Relay struct {
	listener net.Listener
	done     chan struct{}
	work     sync.WaitGroup

	mu     sync.Mutex // guards what follows
	target string
	delay  time.Duration
	rate   int // bytes per second each way; 0 = no limit
	open   map[*relayed]struct{}
	thawed chan struct{} // closed unless frozen
	frozen bool
	total  int
}

// relayed is one link: a pair of connections.
type relayed struct {
	near, far net.Conn // far is nil until dialled
	gone      bool
}

// NewRelay starts a relay on a free port of 127.0.0.1 that ends with the test.
func NewRelay(t testing.TB, target string) *Relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen for the relay: %v", err)
	}
	r := &Relay{
		listener: l, target: target,
		done: make(chan struct{}), open: map[*relayed]struct{}{}, thawed: make(chan struct{}),
	}
	close(r.thawed)
	r.work.Go(r.accept)
	t.Cleanup(r.close)
	return r
}

// Addr is where the relay listens, as host:port.
func (r *Relay) Addr() string { return r.listener.Addr().String() }

// SetTarget sends new links elsewhere.
func (r *Relay) SetTarget(target string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.target = target
}

// SetDelay holds back what is sent from now on for d, each way: a link with a
// round trip of 2·d. It does not limit how much is on the way.
func (r *Relay) SetDelay(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.delay = d
}

// SetRate makes the links that are opened from now on narrow: so many bytes per
// second each way, with little room on the way, so that a sender has to wait.
func (r *Relay) SetRate(bytesPerSecond int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rate = bytesPerSecond
}

// Cut resets all links. New ones are taken as before.
func (r *Relay) Cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for link := range r.open {
		link.reset()
	}
}

// Freeze makes all links, new ones too, half-open: nothing passes, nothing is
// closed. Thaw lets pass what has waited.
func (r *Relay) Freeze() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.frozen {
		r.frozen = true
		r.thawed = make(chan struct{})
	}
}

// Thaw ends Freeze.
func (r *Relay) Thaw() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.frozen {
		r.frozen = false
		close(r.thawed)
	}
}

// Links is how many links are open, and how many there have ever been.
func (r *Relay) Links() (open, total int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.open), r.total
}

func (r *Relay) close() {
	close(r.done)
	_ = r.listener.Close()
	r.Cut()
	r.Thaw()
	r.work.Wait()
}

func (r *Relay) accept() {
	for {
		near, err := r.listener.Accept()
		if err != nil {
			return
		}
		link := &relayed{near: near}
		r.mu.Lock()
		r.open[link] = struct{}{}
		r.total++
		r.mu.Unlock()
		r.work.Go(func() { r.carry(link) })
	}
}

// carry connects one link and copies both ways until one end closes.
func (r *Relay) carry(link *relayed) {
	defer func() {
		r.mu.Lock()
		link.reset()
		delete(r.open, link)
		r.mu.Unlock()
	}()
	if !r.passable() {
		return
	}
	r.mu.Lock()
	target, rate := r.target, r.rate
	r.mu.Unlock()
	far, err := net.DialTimeout("tcp", target, 10*time.Second)
	if err != nil {
		return
	}
	r.mu.Lock()
	link.far = far
	if link.gone || isDone(r.done) {
		link.gone = false
		link.reset()
	}
	r.mu.Unlock()
	var ways sync.WaitGroup
	ways.Go(func() { r.copy(link.near, far, rate) })
	ways.Go(func() { r.copy(far, link.near, rate) })
	ways.Wait()
}

// piece is what was read at once, and when it may go on.
type piece struct {
	data []byte
	due  time.Time
}

// copy carries one way: one goroutine reads, this one waits and writes.
func (r *Relay) copy(from, to net.Conn, rate int) {
	way, size := make(chan piece, 4096), 32<<10
	if rate > 0 {
		way, size = make(chan piece, 4), 4<<10
		if tcp, ok := from.(*net.TCPConn); ok {
			_ = tcp.SetReadBuffer(32 << 10)
		}
	}
	r.work.Go(func() {
		defer close(way)
		for {
			buf := make([]byte, size)
			n, err := from.Read(buf)
			r.mu.Lock()
			delay := r.delay
			r.mu.Unlock()
			if n > 0 {
				way <- piece{buf[:n], time.Now().Add(delay)}
			}
			if err != nil {
				return
			}
		}
	})
	broken := false
	for p := range way { // to the end, so that the reader never waits for us
		if broken {
			continue
		}
		if wait := time.Until(p.due); wait > 0 {
			select {
			case <-time.After(wait):
			case <-r.done:
			}
		}
		if rate > 0 {
			select {
			case <-time.After(time.Duration(len(p.data)) * time.Second / time.Duration(rate)):
			case <-r.done:
			}
		}
		if !r.passable() {
			broken = true
			continue
		}
		if _, err := to.Write(p.data); err != nil {
			broken = true
			_ = from.Close()
		}
	}
	if r.passable() {
		_ = to.Close() // the end is passed on like everything else
	}
}

// passable waits while the relay is frozen; false at the relay's end.
func (r *Relay) passable() bool {
	r.mu.Lock()
	thawed := r.thawed
	r.mu.Unlock()
	select {
	case <-thawed:
		return !isDone(r.done)
	case <-r.done:
		return false
	}
}

// reset closes both ends with an RST. The caller holds mu.
func (link *relayed) reset() {
	if link.gone {
		return
	}
	link.gone = true
	for _, c := range []net.Conn{link.near, link.far} {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
			_ = tcp.Close()
		}
	}
}

func isDone(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
