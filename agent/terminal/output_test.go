package terminal

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"

	"reagent/protocol"
)

func TestARingIsAQueueOfAnySize(t *testing.T) {
	var r ring
	var want []byte
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 2000 {
		p := make([]byte, random.IntN(9000))
		for j := range p {
			p[j] = byte(i + j)
		}
		r.add(p)
		want = append(want, p...)
		n := random.IntN(len(want) + 1)
		if random.IntN(3) == 0 {
			n = len(want)
		}
		r.drop(n)
		want = want[n:]
		r.shrink(64 << 10)
		got := make([]byte, r.n)
		r.copy(got, 0)
		if !bytes.Equal(got, want) {
			t.Fatalf("step %d: %d bytes, want %d, or others", i, len(got), len(want))
		}
		if len(want) > 10 && r.at(10) != want[10] {
			t.Fatalf("step %d: byte 10 is %d, want %d", i, r.at(10), want[10])
		}
	}
	r.drop(r.n)
	r.shrink(64 << 10)
	if len(r.buf) > 64<<10 {
		t.Errorf("an empty ring keeps %d bytes", len(r.buf))
	}
}

// due is what would be sent now, nil for nothing.
func due(o *output) *event {
	o.mu.Lock()
	defer o.mu.Unlock()
	if e, ok := o.due(mostText); ok {
		return &e
	}
	return nil
}

// sendAll sends what is due and returns it.
func sendAll(o *output) string {
	var b strings.Builder
	for e := due(o); e != nil; e = due(o) {
		b.Write(e.data)
		if e.lost > 0 {
			fmt.Fprintf(&b, "[%d lost]", e.lost)
		}
		if e.eof {
			b.WriteString("[eof]")
		}
		if e.gone {
			fmt.Fprintf(&b, "[kept from %d]", e.kept)
		}
		o.sent(*e)
	}
	return b.String()
}

func filled(n int) []byte { return bytes.Repeat([]byte("0123456789abcde\n"), n/16) }

func TestOutputWaitsWhileItIsNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutput(true, false)
		written := 0
		go func() {
			for range 100 {
				o.write(filled(mostRead))
				written += mostRead
			}
		}()
		synctest.Wait()
		if written != window {
			t.Errorf("%d bytes were taken in, want %d", written, window)
		}
		taken := 0
		for written < 100*mostRead || due(o) != nil {
			taken += len(sendAll(o))
			synctest.Wait()
			if n := o.kept.n; n > window+mostRead {
				t.Fatalf("%d bytes are kept", n)
			}
		}
		if taken != 100*mostRead {
			t.Errorf("%d bytes were sent, want %d", taken, 100*mostRead)
		}
	})
}

func TestWithoutAConnectionTheNewestIsKept(t *testing.T) {
	o := newOutput(true, false)
	o.write([]byte("before\n"))
	e := due(o)
	o.cut(e.epoch) // it was not sent
	for range 200 {
		o.write(filled(mostRead)) // waits for nobody
	}
	o.write([]byte("last\n"))
	if e := due(o); e != nil {
		t.Fatalf("%d bytes are due without a connection", len(e.data))
	}
	o.connected()
	o.cut(e.epoch) // late news of the old one
	got := sendAll(o)
	lost := 7 + 200*mostRead + 5 - offline
	if want := fmt.Sprintf("[%d lost]", lost); !strings.HasPrefix(got, want) || len(got) != len(want)+offline || !strings.HasSuffix(got, "last\n") {
		t.Errorf("%d bytes, %.40q…%q, want %s and %d bytes", len(got), got, got[len(got)-10:], want, offline)
	}
	if o.write([]byte("more")); sendAll(o) != "more" {
		t.Error("what comes afterwards is not sent as it is")
	}
	if n := len(o.kept.buf); n > 2*history {
		t.Errorf("the buffer keeps %d bytes", n)
	}
}

func TestNothingIsMarkedWhenNothingWasLost(t *testing.T) {
	o := newOutput(true, false)
	o.cut(0)
	o.write([]byte("while it was away"))
	o.connected()
	if got := sendAll(o); got != "while it was away" {
		t.Errorf("%q", got)
	}
}

func TestAClientWithFlowControlIsSentOneWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutput(false, false)
		o.hear(protocol.TerminalFlow{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 40 {
				o.write(filled(mostRead))
			}
			o.finish()
		}()
		got, want := 0, 40*mostRead
		for step := 0; got < want; step++ {
			synctest.Wait()
			n := len(sendAll(o))
			if step == 3 { // the connection is lost, with all that was sent
				o.cut(o.epoch)
				o.connected()
				if again := len(sendAll(o)); again != n {
					t.Fatalf("%d bytes are sent again, want %d", again, n)
				}
			}
			if n != min(window, want-got) && got+n != want+len("[eof]") {
				t.Fatalf("step %d: %d bytes beyond what was received, want %d", step, n, window)
			}
			got += n
			o.hear(protocol.TerminalFlow{Received: uint64(got)})
		}
		<-done
	})
}

func TestAClientGetsWhatItMissed(t *testing.T) {
	o := newOutput(true, false)
	o.write([]byte("0123456789"))
	sendAll(o)
	for _, c := range []struct {
		say  protocol.TerminalFlow
		want string
	}{
		{protocol.TerminalFlow{Received: 4, Resume: true}, "456789"},
		{protocol.TerminalFlow{Received: 4, Resume: true}, "456789"},
		{protocol.TerminalFlow{Received: 4}, ""},
		{protocol.TerminalFlow{Received: 0, Resume: true, Tail: 3}, "789"},
		{protocol.TerminalFlow{Received: 10, Resume: true}, ""},
		{protocol.TerminalFlow{Received: 1 << 60, Resume: true}, ""},
		{protocol.TerminalFlow{Received: 0, Resume: true}, "0123456789"},
	} {
		o.hear(c.say)
		if got := sendAll(o); got != c.want {
			t.Errorf("%+v: %q, want %q", c.say, got, c.want)
		}
	}
	o.write([]byte("€"))
	sendAll(o)
	o.hear(protocol.TerminalFlow{Received: 11, Resume: true}) // within a character
	if got := sendAll(o); got != "" {
		t.Errorf("from within a character: %q, want what is whole", got)
	}
	o.finish()
	if got := sendAll(o); got != "[eof]" {
		t.Errorf("at the end: %q", got)
	}
	o.hear(protocol.TerminalFlow{Received: 9, Resume: true})
	if got := sendAll(o); got != "9€[eof]" {
		t.Errorf("after the end: %q", got)
	}
	o.hear(protocol.TerminalFlow{Release: true})
	if _, more := o.take(1, 1); more {
		t.Error("there is more for a client that went after the end")
	}
}

func TestAClientIsToldWhatIsForgotten(t *testing.T) {
	o := newOutput(false, false)
	for range 20 {
		o.write(filled(mostRead))
		sendAll(o)
	}
	o.hear(protocol.TerminalFlow{Received: 5, Resume: true})
	e := due(o)
	if e == nil || !e.gone || e.kept != e.at || e.at != 20*mostRead-history {
		t.Fatalf("%+v, want what is kept from %d", e, 20*mostRead-history)
	}
	o.sent(*e)
	if e := due(o); e == nil || e.gone {
		t.Errorf("%v: told twice", e)
	}
	o.hear(protocol.TerminalFlow{Received: o.start, Resume: true})
	if e := due(o); e == nil || e.gone {
		t.Errorf("%v: nothing is gone", e)
	}
}

// An event that was taken before a client asked may have passed it by.
func TestWhatWasUnderWayWhenAClientAskedIsSentAgain(t *testing.T) {
	o := newOutput(false, false)
	o.write([]byte("abc"))
	o.finish()
	before := due(o)
	o.hear(protocol.TerminalFlow{Resume: true})
	o.sent(*before)
	if got := sendAll(o); got != "abc[eof]" {
		t.Errorf("%q, want all of it", got)
	}
}

func TestWhoGivesFlowControlUpIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, giveUp := range []func(*output){(*output).release, func(o *output) { o.hear(protocol.TerminalFlow{Release: true}) }} {
			o := newOutput(false, false)
			o.hear(protocol.TerminalFlow{})
			written := make(chan struct{})
			go func() {
				defer close(written)
				for range 20 {
					o.write(filled(mostRead))
				}
			}()
			synctest.Wait()
			sendAll(o)
			giveUp(o)
			for got := 1; got > 0; {
				synctest.Wait()
				got = len(sendAll(o))
			}
			select {
			case <-written:
			default:
				t.Error("the program waits")
				o.close()
			}
			<-written
		}
	})
}

func TestTextIsCutBetweenCharacters(t *testing.T) {
	o := newOutput(true, false)
	text := strings.Repeat("aä€𝄞", 3000)
	o.write([]byte(text))
	var got strings.Builder
	for e := due(o); e != nil; e = due(o) {
		if len(e.data) > mostText || strings.ContainsRune(string(e.data), '\ufffd') {
			t.Fatalf("an event of %d bytes: %q", len(e.data), e.data)
		}
		got.Write(e.data)
		o.sent(*e)
	}
	if got.String() != text {
		t.Error("another text arrives")
	}
}

func TestWhatAProgramPrintsIsNoEnd(t *testing.T) {
	for _, text := range []bool{true, false} {
		o := newOutput(text, false)
		o.write([]byte(protocol.TerminalEOF))
		for e := due(o); e != nil; e = due(o) {
			if string(e.data) == protocol.TerminalEOF {
				t.Error("a program's text looks like the end of its terminal")
			}
			o.sent(*e)
		}
		if o.next != o.end {
			t.Errorf("%d of %d bytes were sent", o.next, o.end)
		}
	}
}

func TestPiecesOfCharactersAreJoined(t *testing.T) {
	text := "aä€𝄞\x00z"
	for size := 1; size <= len(text); size++ {
		var d decoder
		var got []byte
		for rest := []byte(text); len(rest) > 0; {
			n := min(size, len(rest))
			got = append(got, d.decode(bytes.Clone(rest[:n]))...)
			rest = rest[n:]
		}
		if got = append(got, d.flush()...); string(got) != text {
			t.Errorf("in pieces of %d: %q, want %q", size, got, text)
		}
	}
}

func FuzzDecoderMakesTextOfAnything(f *testing.F) {
	f.Add([]byte("a\xe2\x82\xac\xf0\x9d"), uint8(2))
	f.Add([]byte("\xff\xfe\xc0\x80\xed\xa0\x80"), uint8(1))
	f.Fuzz(func(t *testing.T, b []byte, size uint8) {
		var d decoder
		var got []byte
		for rest := b; len(rest) > 0; {
			n := min(int(size)+1, len(rest))
			got = append(got, d.decode(bytes.Clone(rest[:n]))...)
			rest = rest[n:]
			if len(d.rest) > 3 {
				t.Fatalf("%d bytes are kept back", len(d.rest))
			}
		}
		got = append(got, d.flush()...)
		if want := string([]rune(string(b))); string(got) != want {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

// A publication without flow control is acknowledged, on whatever connection.
func TestWhatWasAcknowledgedIsNotSentAgain(t *testing.T) {
	o := newOutput(false, false)
	o.write([]byte("abc"))
	o.finish()
	for _, want := range []string{"abc", "[eof]"} {
		e := due(o)
		o.connected()
		if o.sent(*e); string(e.data) != strings.TrimSuffix(want, "[eof]") || e.eof != (want == "[eof]") {
			t.Errorf("%q, end %t, want %s", e.data, e.eof, want)
		}
	}
	if got := sendAll(o); got != "" {
		t.Errorf("%q is sent again", got)
	}
}

func TestEachByteIsSentOrToldToBeLost(t *testing.T) {
	const much = ending + 100*mostRead
	for _, before := range []int{16, mostText, history} {
		o := newOutput(true, false)
		o.write(filled(before))
		under := due(o)
		o.drain()
		for range much / mostRead {
			o.write(filled(mostRead))
		}
		o.sent(*under)
		o.finish()
		sent, lost := 0, 0
		for e := due(o); e != nil; e = due(o) {
			sent, lost = sent+len(e.data), lost+int(e.lost)
			o.sent(*e)
		}
		if all := len(under.data) + sent + lost; all != before+much || sent != ending {
			t.Errorf("%d bytes of %d were sent or lost, and %d sent of the last %d", all, before+much, sent, ending)
		}
	}
}

// Whoever asks for what is before an event that is under way gets that, too.
func TestWhoAsksAndGivesUpMissesNothing(t *testing.T) {
	o := newOutput(false, false)
	o.hear(protocol.TerminalFlow{})
	o.write([]byte("abc"))
	o.sent(*due(o))
	o.release()
	o.write([]byte("def"))
	under := due(o)
	o.hear(protocol.TerminalFlow{Resume: true})
	o.release()
	o.sent(*under)
	if got := sendAll(o); got != "abcdef" {
		t.Errorf("%q, want all of it", got)
	}
}
