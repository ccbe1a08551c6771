package container

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/http/httptest"
	"slices"
	"testing"
	"testing/synctest"
)

// asked asks a session one thing, as gRPC does.
func asked(path string, body []byte) (status string, answer []byte) {
	w := httptest.NewRecorder()
	answers(map[string]Credential{"registry.example": {Username: "token", Password: "secret"}})(w, httptest.NewRequest("POST", path, bytes.NewReader(body)))
	status = w.Header().Get("Grpc-Status")
	if status == "" {
		status = w.Header().Get("Trailer:Grpc-Status")
	}
	if answer = w.Body.Bytes(); len(answer) >= 5 {
		answer = answer[5:]
	}
	return status, answer
}

func framed(message []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
}

func TestSessionAnswersWhatItOffersAndNothingElse(t *testing.T) {
	for _, test := range []struct {
		what, path string
		body       []byte
		status     string
		answer     []byte
	}{
		{"health", askHealth, framed(nil), "0", count(1, 1)},
		{"a known registry", askCredentials, framed(text(1, "registry.example")), "0", slices.Concat(text(1, "token"), text(2, "secret"))},
		{"another registry", askCredentials, framed(text(1, "evil.example")), "0", slices.Concat(text(1, ""), text(2, ""))},
		{"part of its name", askCredentials, framed(text(1, "registry.example.evil")), "0", slices.Concat(text(1, ""), text(2, ""))},
		{"no name", askCredentials, framed(nil), "0", slices.Concat(text(1, ""), text(2, ""))},
		{"nonsense", askCredentials, framed([]byte{0xff, 0xff}), "0", slices.Concat(text(1, ""), text(2, ""))},
		{"a file", "/moby.filesync.v1.FileSync/DiffCopy", framed(nil), "12", nil},
		{"no message", askCredentials, nil, "3", nil},
		{"a message cut off", askCredentials, framed(text(1, "registry.example"))[:9], "3", nil},
		{"an endless message", askCredentials, []byte{0, 0xff, 0xff, 0xff, 0xff}, "3", nil},
		{"a compressed message", askCredentials, []byte{1, 0, 0, 0, 0}, "3", nil},
	} {
		status, answer := asked(test.path, test.body)
		if status != test.status || !bytes.Equal(answer, test.answer) {
			t.Errorf("%s: status %s, %x, want %s, %x", test.what, status, answer, test.status, test.answer)
		}
	}
}

// A build that is refused at once closes its session before the goroutine that
// serves it has begun.
func TestSessionThatNobodyServedYetCanBeClosed(t *testing.T) {
	for _, served := range []bool{true, false} {
		synctest.Test(t, func(*testing.T) { // whoever waits for ever is a deadlock here
			ours, engines := net.Pipe()
			defer engines.Close()
			s := newSession("id", ours, nil)
			if served {
				go s.serve()
				synctest.Wait()
				s.close()
				return
			}
			closed := make(chan struct{})
			go func() { defer close(closed); s.close() }()
			synctest.Wait()
			go s.serve()
			<-closed
		})
	}
}
