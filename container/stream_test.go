package container

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func frame(stream byte, text string) string {
	var head [8]byte
	head[0] = stream
	binary.BigEndian.PutUint32(head[4:], uint32(len(text)))
	return string(head[:]) + text
}

// frames reads a log in frames.
func frames(t *testing.T, log io.Reader, timestamps bool) (lines []string, err error) {
	t.Helper()
	err = readFrames(bufio.NewReader(log), LogOptions{Timestamps: timestamps}, func(stream string, line []byte) {
		lines = append(lines, stream[3:]+":"+string(line))
	})
	return lines, err
}

func TestFramesOfBothStreamsAreUnmixed(t *testing.T) {
	log := frame(1, "one\nhalf a ") + frame(2, "bad\n") + frame(1, "line\r\n\n") + frame(2, "no end") + frame(1, "a\rb\r\r\n")
	want := []string{"out:one", "err:bad", "out:half a line", "out:", "out:a\rb\r", "err:no end"}
	for what, r := range map[string]io.Reader{
		"whole":        strings.NewReader(log),
		"byte by byte": iotest.OneByteReader(strings.NewReader(log)),
	} {
		got, err := frames(t, r, false)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v, want %q", what, got, err, want)
		}
	}
}

func TestBrokenFramesAreAnError(t *testing.T) {
	for what, log := range map[string]string{
		"cut in a head":  frame(1, "x\n") + "\x01\x00",
		"cut in a frame": frame(1, "hello\n")[:10],
		"unknown stream": frame(9, "x"),
	} {
		if _, err := frames(t, strings.NewReader(log), false); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	_, err := frames(t, strings.NewReader(frame(3, "disk is gone\n")), false)
	if err == nil || err.Error() != "disk is gone" {
		t.Errorf("error frame = %v, want the engine's words", err)
	}
	_, err = frames(t, strings.NewReader(frame(1, "x")[:4]), false)
	if !isDisconnect(err) {
		t.Errorf("end in a head = %v, want a disconnect", err)
	}
}

func TestEndlessLineIsCutAndTheNextIsWhole(t *testing.T) {
	long := strings.Repeat("x", 3*MaxLine)
	for _, tty := range []bool{true, false} {
		var got []string
		line := func(_ string, line []byte) { got = append(got, string(line)) }
		var err error
		if tty {
			err = readRaw(bufio.NewReaderSize(strings.NewReader(long+"\r\nnext\r\n"), 32<<10), &splitter{stream: "stdout", line: line})
		} else {
			err = readFrames(bufio.NewReaderSize(strings.NewReader(frame(1, long)+frame(1, "\nnext\n")), 32<<10), LogOptions{}, line)
		}
		if err != nil || len(got) != 2 || len(got[0]) != MaxLine || got[1] != "next" {
			t.Errorf("tty %t: %d lines, %v, want one of %d bytes and the next", tty, len(got), err, MaxLine)
		}
	}
}

func TestTimesInsideALongLineAreTakenOut(t *testing.T) {
	const stamp, other = "2026-11-21T11:56:55.690722397Z ", "2026-11-21T11:56:55.690722398Z "
	part := strings.Repeat("x", partSize)
	for _, test := range []struct{ kept, want string }{
		{stamp + "short", stamp + "short"},
		{stamp + part, stamp + part},
		{stamp + part + stamp, stamp + part},
		{stamp + part + stamp + part + stamp + "yz", stamp + part + part + "yz"},
		{stamp + part + other + "yz", stamp + part + other + "yz"}, // text that looks like a time
		{stamp + "x" + stamp + "y", stamp + "x" + stamp + "y"},
	} {
		got, err := frames(t, strings.NewReader(frame(1, test.kept+"\n")), true)
		if err != nil || len(got) != 1 || got[0] != "out:"+test.want {
			t.Errorf("%d bytes kept: %d lines, %v, want one of %d bytes", len(test.kept), len(got), err, len(test.want))
		}
	}
}

// A part that is full may be all of a line, or the beginning of one that is being
// printed; only of a container that ended the engine knows.
func TestHalfPrintedLineIsLeftOutOfARunningContainersLog(t *testing.T) {
	const stamp = "2026-11-21T11:56:55.690722397Z "
	part := strings.Repeat("x", partSize)
	for _, o := range []LogOptions{{}, {Timestamps: true}, {Running: true}, {Running: true, Timestamps: true}} {
		time := map[bool]string{true: stamp}[o.Timestamps]
		for _, last := range []struct {
			text string
			half bool
		}{
			{part, true}, {part + time + part, true}, {part + time + "tail", false}, {"half", false}, {part + "\n", false},
		} {
			var got []string
			log := frame(1, time+"whole\n") + frame(1, time+last.text)
			err := readFrames(bufio.NewReader(strings.NewReader(log)), o, func(_ string, line []byte) { got = append(got, string(line)) })
			want := 2
			if o.Running && last.half {
				want = 1
			}
			if err != nil || len(got) != want {
				t.Errorf("%+v, last line of %d bytes: %d lines, %v, want %d", o, len(last.text), len(got), err, want)
			}
		}
	}
}

func FuzzReadFrames(f *testing.F) {
	f.Add([]byte(frame(1, "one\ntwo")+frame(2, "x\r\n")), true)
	f.Add([]byte(frame(3, "error")), false)
	f.Fuzz(func(t *testing.T, log []byte, timestamps bool) {
		total := 0
		_ = readFrames(bufio.NewReaderSize(bytes.NewReader(log), 16), LogOptions{Timestamps: timestamps}, func(stream string, line []byte) {
			if bytes.ContainsRune(line, '\n') || stream != "stdout" && stream != "stderr" {
				t.Errorf("line %q of %q", line, stream)
			}
			total += len(line)
		})
		if total > len(log) {
			t.Errorf("%d bytes of lines from %d", total, len(log))
		}
	})
}

func pulled(t *testing.T, stream string) (last PullProgress, records int, err error) {
	t.Helper()
	err = readProgress("pull", strings.NewReader(stream), func(p PullProgress) {
		last = PullProgress{Record: bytes.Clone(p.Record), Current: p.Current, Total: p.Total}
		records++
	})
	return last, records, err
}

func TestPullProgressIsTheSumOfTheLayers(t *testing.T) {
	download := func(id string, current, total int) string {
		return fmt.Sprintf(`{"status":"Downloading","id":%q,"progressDetail":{"current":%d,"total":%d}}`+"\r\n", id, current, total)
	}
	stream := `{"status":"Pulling from x","id":"1"}` + "\r\n" +
		`{"status":"Already exists","progressDetail":{},"id":"c"}` + "\r\n" +
		download("a", 10, 100)
	for _, step := range []struct {
		more           string
		current, total int64
	}{
		{"", 10, 100},
		{download("b", 5, 50), 15, 150},
		{download("a", 90, 100), 95, 150},
		{`{"status":"Download complete","progressDetail":{},"id":"a"}` + "\r\n", 105, 150},
		{`{"status":"Extracting","id":"a","progressDetail":{"current":1,"total":100}}` + "\n", 105, 150},
		{download("b", 3, 50), 103, 150}, // a retry begins anew
		{`{"status":"Pull complete","progressDetail":{},"id":"b"}`, 150, 150},
	} {
		stream += step.more
		last, _, err := pulled(t, stream)
		if err != nil || last.Current != step.current || last.Total != step.total {
			t.Errorf("after %q: %d of %d, %v, want %d of %d", step.more, last.Current, last.Total, err, step.current, step.total)
		}
	}
}

func TestErrorInThePullIsAnErrorOfThePull(t *testing.T) {
	for _, test := range []struct {
		text string
		kind error
	}{
		{"unauthorized: authentication required", ErrUnauthorized},
		{"denied: requested access to the resource is denied", ErrUnauthorized},
		{"manifest unknown", ErrNotFound},
		{"manifest for x:1 not found: manifest unknown: manifest unknown", ErrNotFound},
		{"write /var/lib/docker/tmp/x: no space left on device", ErrNoSpace},
		{"context canceled", ErrUnavailable},
	} {
		last, records, err := pulled(t, fmt.Sprintf(`{"errorDetail":{"message":%q},"error":%q}`+"\n", test.text, test.text))
		if got := translate(t.Context(), err); !errors.Is(got, test.kind) {
			t.Errorf("%s: %v, want %v", test.text, got, test.kind)
		}
		if records != 1 || !bytes.Contains(last.Record, []byte(test.text)) {
			t.Errorf("%s: the record was not reported", test.text)
		}
	}
	for _, bad := range []string{"null x", "<html>", `{"status":`, strings.Repeat("x", 2*maxRecord)} {
		if _, _, err := pulled(t, bad); err == nil {
			t.Errorf("%.20q is accepted", bad)
		}
	}
}

func FuzzReadPull(f *testing.F) {
	f.Add(`{"status":"Downloading","id":"a","progressDetail":{"current":1,"total":2}}` + "\n" + `{"error":"x"}`)
	f.Fuzz(func(t *testing.T, stream string) {
		_ = readProgress("pull", strings.NewReader(stream), func(PullProgress) {})
	})
}
