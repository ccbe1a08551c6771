package cli

import (
	"math/rand/v2"
	"strings"
	"testing"

	"reagent/messenger"
	"reagent/protocol"
)

// printed is an output event of a device's shell; at < 0 is one without a
// position.
func printed(text string, at int) messenger.Event {
	e := messenger.Event{Args: []any{text}}
	if at >= 0 {
		e.Kwargs = map[string]any{protocol.TerminalOffset: float64(at)} // as JSON reads it
	}
	return e
}

func kept(e messenger.Event, from int) messenger.Event {
	e.Kwargs[protocol.TerminalKept] = from
	return e
}

func TestOutputIsPutTogetherFromItsPositions(t *testing.T) {
	for claim, c := range map[string]struct {
		r      receiver
		events []messenger.Event
		want   string
		asks   int
		lost   uint64
		ends   bool
	}{
		"in order":                          {events: []messenger.Event{printed("ab", 0), printed("cd", 2), printed(protocol.TerminalEOF, 4)}, want: "abcd", ends: true},
		"what comes twice counts once":      {events: []messenger.Event{printed("abcd", 0), printed("cdef", 2), printed("ab", 0)}, want: "abcdef"},
		"the first position is a beginning": {events: []messenger.Event{printed("cd", 2), printed("ef", 4)}, want: "cdef"},
		"a gap is asked for":                {events: []messenger.Event{printed("ab", 0), printed("ef", 4), printed("cd", 2), printed("ef", 4)}, want: "abcdef", asks: 1},
		"an answer whose beginning is lost is asked for again": {
			events: []messenger.Event{printed("ab", 0), printed("gh", 6), printed("ij", 8), printed("ef", 4), printed("cd", 2), printed("efgh", 4)},
			want:   "abcdefgh", asks: 3},
		"what the agent does not have is given up": {
			events: []messenger.Event{printed("ab", 0), printed("gh", 6), kept(printed("ef", 4), 4), printed("gh", 6)},
			want:   "abefgh", asks: 1, lost: 2},
		"… and no more": {
			events: []messenger.Event{printed("ab", 0), kept(printed("gh", 6), 4), kept(printed("ef", 4), 4), printed("gh", 6)},
			want:   "abefgh", asks: 1, lost: 2},
		"an end behind a gap is none": {events: []messenger.Event{printed("ab", 0), printed(protocol.TerminalEOF, 4)}, want: "ab", asks: 1},
		"an end that is asked for":    {events: []messenger.Event{printed("ab", 0), printed(protocol.TerminalEOF, 4), printed("cd", 2), printed(protocol.TerminalEOF, 4)}, want: "abcd", asks: 1, ends: true},
		"nothing is taken after the end": {
			events: []messenger.Event{printed("ab", 0), printed(protocol.TerminalEOF, 2), printed("cd", 2)}, want: "ab", ends: true},
		"without positions it is as it comes": {events: []messenger.Event{printed("ab", -1), printed("ab", -1), printed(protocol.TerminalEOF, -1)}, want: "abab", ends: true},
		"what came before it was clear comes again with its position": {
			r: receiver{open: true}, events: []messenger.Event{printed("ab", -1), printed("cd", -1), printed("abcd", 0)}, want: "abcd"},
		"an end that came alone comes again behind what was printed": {
			r: receiver{open: true}, events: []messenger.Event{printed(protocol.TerminalEOF, -1), printed("ab", 0), printed(protocol.TerminalEOF, 2)}, want: "ab", ends: true},
		"a client that was set back to none": {events: []messenger.Event{printed("ab", 0), printed("cd", -1), printed("bcdef", 1)}, want: "abcdef"},
		"what is no output is none":          {events: []messenger.Event{{}, {Args: []any{7}}, {Args: []any{nil}}, printed("", 0), printed("a", 0)}, want: "a"},
	} {
		t.Run(claim, func(t *testing.T) {
			var got strings.Builder
			var asks int
			var lost uint64
			for _, e := range c.events {
				out := c.r.take(e)
				got.Write(out.data)
				lost += out.lost
				if out.ask {
					asks++
				}
			}
			if got.String() != c.want || asks != c.asks || lost != c.lost || c.r.ended != c.ends {
				t.Errorf("got %q, asked %d times, lost %d, ended %v; want %q, %d, %d, %v",
					got.String(), asks, lost, c.r.ended, c.want, c.asks, c.lost, c.ends)
			}
		})
	}
}

func TestOutputOfAContainersShellIsBytes(t *testing.T) {
	r := receiver{container: true, open: true}
	if out := r.take(messenger.Event{Args: []any{[]byte{0xc3}}}); out.data != nil {
		t.Errorf("%q was not held", out.data)
	}
	if out := r.settle(); string(out.data) != "\xc3" {
		t.Errorf("held %q, want the byte", out.data)
	}
	// A position that comes late is counted from the start of the session.
	if out := r.take(messenger.Event{Args: []any{"w6Q="}, Kwargs: map[string]any{protocol.TerminalOffset: 0}}); string(out.data) != "\xa4" {
		t.Errorf("%q, want what follows the byte that was shown", out.data)
	}
}

// An agent that gives no positions does not print anything again.
func TestAnEndWithoutPositionsIsOne(t *testing.T) {
	r := receiver{open: true}
	r.take(printed("ab", -1))
	if r.take(printed(protocol.TerminalEOF, -1)); r.ended || !r.waits() {
		t.Errorf("ended %v, waits %v while positions may come", r.ended, r.waits())
	}
	if out := r.settle(); string(out.data) != "ab" || !r.ended {
		t.Errorf("%q, ended %v; want what was held, and the end", out.data, r.ended)
	}
}

// TestNothingIsLostWhateverTheRouterDrops plays an agent that sends again what it
// is asked for, over a way that drops and repeats at random.
func TestNothingIsLostWhateverTheRouterDrops(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		var all strings.Builder
		for all.Len() < 2000 {
			all.WriteString(strings.Repeat(string(rune('a'+random.IntN(26))), 1+random.IntN(9)))
		}
		text := all.String()
		r := receiver{}
		r.take(printed(text[:1], 0))
		got := text[:1]
		for at, asked := 1, 0; !r.ended; {
			n := min(1+random.IntN(20), len(text)-at)
			e := printed(text[at:at+n], at)
			if n == 0 {
				e = printed(protocol.TerminalEOF, at)
			}
			if at += n; random.IntN(4) == 0 { // it is dropped
				if n > 0 {
					continue
				}
				at = int(r.next) // a quiet client asks
				continue
			}
			out := r.take(e)
			got += string(out.data)
			if out.lost > 0 {
				t.Fatalf("seed %d: %d bytes were given up", seed, out.lost)
			}
			if out.ask || n == 0 {
				if asked++; asked > 10_000 {
					t.Fatalf("seed %d: it does not come to an end", seed)
				}
				at = int(r.next)
			}
		}
		if got != text {
			t.Fatalf("seed %d: got %q, want %q", seed, got, text)
		}
	}
}

func TestKeysAreNamedAsTheyArePressed(t *testing.T) {
	for name, want := range map[string]byte{"ctrl-]": 0x1d, "ctrl-a": 1, "Ctrl-Z": 26, "ctrl-@": 0, `ctrl-\`: 28, "ctrl-_": 31} {
		var k key
		if err := k.Set(name); err != nil || k.code != want || k.none {
			t.Errorf("%s = %d (%v), want %d", name, k.code, err, want)
		}
		typed := append([]byte("äx"), want, 'y')
		if before, pressed := k.cut(typed); string(before) != "äx" || !pressed {
			t.Errorf("%s among %q: %q, %v", name, typed, before, pressed)
		}
		if before, pressed := k.cut([]byte("äx")); string(before) != "äx" || pressed {
			t.Errorf("%s was found in %q: %q", name, "äx", before)
		}
	}
	for _, name := range []string{"", "ctrl-", "]", "ctrl-1", "ctrl-ab", "ctrl-ä", "alt-x"} {
		if k := (key{}); k.Set(name) == nil {
			t.Errorf("%q was taken for a key", name)
		}
	}
	var none key
	if err := none.Set("none"); err != nil {
		t.Fatal(err)
	}
	if before, pressed := none.cut([]byte{0, 0x1d}); len(before) != 2 || pressed {
		t.Error("no key was pressed")
	}
}

func TestTextIsNotCutWithinACharacter(t *testing.T) {
	for _, c := range []struct {
		typed string
		most  int
		want  int
	}{
		{"", 9, 0}, {"abc", 9, 3}, {"abc", 2, 2}, {"aä", 2, 1}, {"aä", 3, 3}, {"a€", 3, 1}, {"a€", 2, 1}, {"😀", 3, 0}, {"😀", 4, 4},
		{"a\xc3", 9, 1}, {"\xff\xfe", 9, 2}, {"a\x80\x80\x80\x80", 9, 5}, {"\x1b[A", 9, 3},
	} {
		if got := wholeText([]byte(c.typed), c.most); got != c.want {
			t.Errorf("%q, at most %d: %d, want %d", c.typed, c.most, got, c.want)
		}
	}
}
