package testenv

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo answers each line with itself.
func echo(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); io.Copy(c, c) }()
		}
	}()
	return l.Addr().String()
}

type line struct {
	net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, r *Relay) line {
	t.Helper()
	c, err := net.Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return line{c, bufio.NewReader(c)}
}

func (l line) ask(within time.Duration) error {
	l.SetDeadline(time.Now().Add(within))
	if _, err := io.WriteString(l, "hello\n"); err != nil {
		return err
	}
	_, err := l.r.ReadString('\n')
	return err
}

func TestRelayDelaysEachWay(t *testing.T) {
	r := NewRelay(t, echo(t))
	c := dial(t, r)
	if err := c.ask(5 * time.Second); err != nil {
		t.Fatalf("through an idle relay: %v", err)
	}
	r.SetDelay(100 * time.Millisecond)
	start := time.Now()
	if err := c.ask(5 * time.Second); err != nil {
		t.Fatalf("through a slow relay: %v", err)
	}
	if got := time.Since(start); got < 200*time.Millisecond || got > 2*time.Second {
		t.Errorf("round trip %v, want 200 ms", got)
	}
}

func TestCutResetsWhatIsOpenAndTakesNewLinks(t *testing.T) {
	r := NewRelay(t, echo(t))
	c := dial(t, r)
	if err := c.ask(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	r.Cut()
	if err := c.ask(5 * time.Second); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a cut link answered %v, want a reset", err)
	}
	if err := dial(t, r).ask(5 * time.Second); err != nil {
		t.Errorf("a new link after the cut: %v", err)
	}
	if _, total := r.Links(); total != 2 {
		t.Errorf("links = %d, want 2", total)
	}
}

func TestFrozenLinkIsSilentAndThawsWhole(t *testing.T) {
	r := NewRelay(t, echo(t))
	c := dial(t, r)
	if err := c.ask(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	r.Freeze()
	if err := c.ask(100 * time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a frozen link answered %v, want silence", err)
	}
	r.Thaw()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if got, err := c.r.ReadString('\n'); got != "hello\n" {
		t.Errorf("after the thaw %q (%v), want what was sent before", got, err)
	}
}

func TestNarrowLinkMakesTheSenderWait(t *testing.T) {
	r := NewRelay(t, echo(t))
	r.SetRate(1 << 20)
	c := dial(t, r)
	c.SetDeadline(time.Now().Add(20 * time.Second))
	go c.Write(make([]byte, 1<<20))
	start := time.Now()
	if _, err := io.CopyN(io.Discard, c, 1<<20); err != nil {
		t.Fatal(err)
	}
	if got := time.Since(start); got < 900*time.Millisecond || got > 5*time.Second {
		t.Errorf("1 MiB at 1 MiB/s took %v", got)
	}
}
