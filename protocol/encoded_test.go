package protocol

import (
	"encoding/json"
	"testing"
)

func FuzzEncodedTextIsNeverTooSmall(f *testing.F) {
	for _, s := range []string{"", "plain", "<b>&\"\\", "\x00\x1b[31m\x7f\n\t", "é€😀", "\u2028\u2029", "bad \xff\xe2\x82 bytes"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		raw, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		got := EncodedText(s)
		if got < len(raw) || got > 6*len(s)+2 {
			t.Errorf("EncodedText(%q) = %d, want at least the %d bytes of %s and at most six a byte", s, got, len(raw), raw)
		}
	})
}
