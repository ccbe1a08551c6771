package container

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// Messages of moby.buildkit.v1, as far as they are read.

func text(number protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), s)
}

func count(number protowire.Number, n uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.VarintType), n)
}

func message(number protowire.Number, fields ...[]byte) []byte {
	return text(number, string(slices.Concat(fields...)))
}

func at(number protowire.Number, seconds uint64) []byte { return message(number, count(1, seconds)) }

// told gives what a viewer reads of a row of traces.
func told(t *testing.T, traces ...[]byte) (lines []string) {
	t.Helper()
	tr := newTrace(func(line []byte) { lines = append(lines, string(line)) })
	for _, m := range traces {
		aux, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := tr.take(nil, buildRecord{ID: "moby.buildkit.trace", Aux: aux}); err != nil {
			t.Fatalf("%x: %v", m, err)
		}
	}
	return lines
}

func TestTraceReadsAsTheClassicBuildersRecords(t *testing.T) {
	vertex := func(digest, name string, more ...[]byte) []byte {
		return message(1, slices.Concat(text(1, digest), text(3, name), slices.Concat(more...)))
	}
	log := func(digest, s string) []byte { return message(3, text(1, digest), text(4, s)) }
	got := told(t,
		vertex("a", "[1/2]\n RUN   make"),
		vertex("a", "[1/2] RUN make", at(5, 100)),
		log("a", "half "), log("b", "of another\n"), log("a", "a line\r\nnext\nno end"),
		vertex("b", "[2/2] COPY", count(4, 1), at(5, 100), at(6, 100)),
		message(2, text(1, "sha256:0123456789abcdef"), text(2, "a"), text(3, "downloading"), count(4, 5), count(5, 10)),
		message(2, text(1, "sha256:0123456789abcdef"), text(2, "a"), text(3, "downloading"), count(4, 5), count(5, 10)),
		message(2, text(1, "exporting layers"), text(2, "a")),
		message(4, text(1, "a"), text(3, "old syntax")),
		vertex("a", "", at(5, 100), at(6, 102)),
		vertex("a", "", at(5, 100), at(6, 103)),
		vertex("a", "", at(5, 100), at(6, 103), text(7, "exit code: 1")),
		vertex("a", "", at(5, 100), at(6, 103), text(7, "exit code: 1")),
	)
	want := []string{
		`{"stream":"#1 [1/2] RUN make\n"}`,
		`{"stream":"#2 of another\n"}`,
		`{"stream":"#1 half a line\n"}`,
		`{"stream":"#1 next\n"}`,
		`{"stream":"#2 [2/2] COPY\n"}`,
		`{"stream":"#2 CACHED\n"}`,
		`{"status":"Downloading","progressDetail":{"current":5,"total":10},"id":"0123456789ab"}`,
		`{"stream":"#1 WARN: old syntax\n"}`,
		`{"stream":"#1 no end\n"}`,
		`{"stream":"#1 DONE 2.0s\n"}`,
		`{"stream":"#1 ERROR: exit code: 1\n"}`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("told\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestEndlessLineOfAStepIsCut(t *testing.T) {
	piece := message(3, text(1, "a"), text(4, strings.Repeat("x", maxStepLine-10)))
	got := told(t, piece, piece, piece, message(3, text(1, "a"), text(4, "\nnext\n")))
	if len(got) != 2 || len(got[0]) > maxStepLine+30 || got[1] != `{"stream":"#1 next\n"}` {
		t.Errorf("%d lines, the first of %d bytes, want one that is cut and the next", len(got), len(got[0]))
	}
}

func TestBrokenTraceIsAnError(t *testing.T) {
	tr := newTrace(func([]byte) {})
	for _, aux := range []string{`7`, `"!"`, `"` + base64.StdEncoding.EncodeToString([]byte{0x0a, 0xff}) + `"`} {
		if err := tr.take(nil, buildRecord{ID: "moby.buildkit.trace", Aux: json.RawMessage(aux)}); err == nil {
			t.Errorf("%s is accepted", aux)
		}
	}
}

func FuzzTrace(f *testing.F) {
	f.Add(message(1, text(1, "a"), text(3, "RUN"), at(5, 1), at(6, 2)))
	f.Add(message(2, text(1, "x"), text(2, "a"), text(3, "done"), count(4, 1)))
	f.Add(message(3, text(1, "a"), text(4, "out\n")))
	f.Fuzz(func(t *testing.T, m []byte) {
		aux, _ := json.Marshal(m)
		tr := newTrace(func(line []byte) {
			if !json.Valid(line) {
				t.Errorf("%q is no JSON", line)
			}
		})
		_ = tr.take(nil, buildRecord{ID: "moby.buildkit.trace", Aux: aux})
	})
}

func TestLoginsAreFoundUnderAnyFormOfAHost(t *testing.T) {
	for given, want := range map[string]string{
		"registry.example/":             "registry.example",
		"https://Registry.example/v2/":  "registry.example",
		"127.0.0.1:5000":                "127.0.0.1:5000",
		"docker.io":                     "https://index.docker.io/v1/",
		"registry-1.docker.io":          "https://index.docker.io/v1/",
		"https://index.docker.io/v1/":   "https://index.docker.io/v1/",
		"http://localhost:5000/some/it": "localhost:5000",
	} {
		if got := loginHost(given); got != want {
			t.Errorf("loginHost(%q) = %q, want %q", given, got, want)
		}
	}
}

func TestErrorsOfABuildSayWhatMayHelp(t *testing.T) {
	for said, test := range map[string]struct{ api, want string }{
		"dockerfile parse error line 5: unknown instruction: ECHO":                                                                     {"1.41", "heredoc"},
		"failed to solve with frontend dockerfile.v0: failed to solve with frontend gateway.v0: docker.io/docker/dockerfile:1: no net": {"1.41", "first line"},
		"dockerfile parse error on line 5: unknown instruction: ECHO":                                                                  {"1.51", ""},
	} {
		err := (&peer{version: test.api}).buildError(said)
		if rest, found := strings.CutPrefix(err.Error(), said); !found || !strings.Contains(rest, test.want) || test.want == "" && rest != "" {
			t.Errorf("%s: %v, want %q after it", said, err, test.want)
		}
	}
}
