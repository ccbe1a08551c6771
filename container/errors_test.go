package container

import (
	"errors"
	"slices"
	"testing"
)

func TestTakenPortsAreReadFromAllEngines(t *testing.T) {
	for _, test := range []struct {
		text string
		want []uint16
	}{
		{"driver failed programming external connectivity on endpoint web (0a1b): Bind for 0.0.0.0:8080 failed: port is already allocated", []uint16{8080}},
		{"driver failed programming external connectivity on endpoint web (0a1b): Bind for :::8080 failed: port is already allocated", []uint16{8080}},
		{"driver failed programming external connectivity on endpoint web (0a1b): Error starting userland proxy: listen tcp4 0.0.0.0:40000: bind: address already in use", []uint16{40000}},
		{"Error starting userland proxy: listen udp [::]:53: bind: address already in use", []uint16{53}},
		{"failed to set up container networking: driver failed programming external connectivity on endpoint web (0a1b): failed to bind host port for 0.0.0.0:80:172.17.0.2:8080/tcp: address already in use", []uint16{80}},
		{"failed to set up container networking: driver failed programming external connectivity on endpoint web: failed to bind host port 0.0.0.0:80/tcp: address already in use", []uint16{80}},
		{"Ports are not available: exposing port TCP 0.0.0.0:80 -> 127.0.0.1:0: listen tcp 0.0.0.0:80: bind: address already in use", []uint16{80}},
		{"address already in use", nil},
		{"Bind for 0.0.0.0:99999 failed: port is already allocated", nil},
	} {
		err := meaning(errors.New(test.text))
		var taken *PortError
		if !errors.Is(err, ErrPortTaken) || !errors.As(err, &taken) {
			t.Errorf("%s: %v, want a PortError", test.text, err)
			continue
		}
		if !slices.Equal(taken.Ports, test.want) {
			t.Errorf("%s: ports %v, want %v", test.text, taken.Ports, test.want)
		}
	}
}

func TestErrorsMeanWhatTheEngineSays(t *testing.T) {
	for text, want := range map[string]error{
		"Get \"https://r/v2/x/manifests/1\": no basic auth credentials":                                                                                            ErrUnauthorized,
		"pull access denied for x, repository does not exist or may require 'docker login': denied: requested access to the resource is denied":                    ErrUnauthorized,
		"no matching manifest for linux/arm/v7 in the manifest list entries":                                                                                       ErrNotFound,
		"manifest for 127.0.0.1:5000/x:2 not found":                                                                                                                ErrNotFound,
		"repository 127.0.0.1:5000/x not found: name unknown: repository name not known to registry":                                                               ErrNotFound,
		"write /data: no space left on device":                                                                                                                     ErrNoSpace,
		"connection error: desc = \"transport: Error while dialing dial unix /run/containerd/containerd.sock: connect: connection refused\": unavailable: unknown": ErrUnavailable,
	} {
		if err := meaning(errors.New(text)); !errors.Is(err, want) || err.Error() != text {
			t.Errorf("%s: %v, want %v with the engine's words", text, err, want)
		}
	}
	plain := errors.New("something else")
	if got := meaning(plain); got != plain {
		t.Errorf("%v became %v", plain, got)
	}
}

// What engines say of a talk with a registry: an answer, or no way to get one.
func TestALostLinkIsToldFromARefusal(t *testing.T) {
	for text, want := range map[string]error{
		`Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused`:                                                       ErrNetwork,
		`Get "https://r.example/v2/": dial tcp: lookup r.example on 10.0.0.1:53: no such host`:                                                  ErrNetwork,
		`Get "https://r.example/v2/": net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)`: ErrNetwork,
		`Get "https://r.example/v2/": context deadline exceeded`:                                                                                ErrNetwork,
		`Get "https://r.example/v2/": net/http: TLS handshake timeout`:                                                                          ErrNetwork,
		`Get "https://r.example/v2/a/manifests/1": EOF`:                                                                                         ErrNetwork,
		"unexpected EOF": ErrNetwork,
		"read tcp 10.0.0.2:1->10.0.0.1:443: read: connection reset by peer":                                                                   ErrNetwork,
		"error parsing HTTP 429 response body: toomanyrequests: too many":                                                                     ErrNetwork,
		"received unexpected HTTP status: 502 Bad Gateway":                                                                                    ErrNetwork,
		"filesystem layer verification failed for digest sha256:0":                                                                            ErrNetwork,
		`failed to solve: r.example/x:1: failed to do request: Head "https://r.example/v2/x/manifests/1": dial tcp 10.0.0.1:443: i/o timeout`: ErrNetwork,

		"unauthorized: authentication required": ErrUnauthorized,
		"denied: you may not":                   ErrUnauthorized,
		`failed to resolve reference "r.example/x:1": unexpected status from HEAD request to https://r.example/v2/x/manifests/1: 403 Forbidden`: ErrUnauthorized,
		"manifest unknown: manifest unknown":                          ErrNotFound,
		"r.example/x:2: not found":                                    ErrNotFound,
		"An image does not exist locally with the tag: r.example/x":   ErrNotFound,
		"failed to register layer: write /x: no space left on device": ErrNoSpace,
	} {
		err := registryMeaning(errors.New(text))
		if !errors.Is(err, want) || err.Error() != text {
			t.Errorf("%s: %v, want %v with the engine's words", text, err, want)
		}
		if again := translate(t.Context(), err); again != err {
			t.Errorf("%s: became %v on its way", text, again)
		}
	}
	plain := errors.New("invalid tar header")
	if got := registryMeaning(plain); got != plain {
		t.Errorf("%v became %v", plain, got)
	}
}

func TestOnlyRefusedRightsAreRefused(t *testing.T) {
	for text, want := range map[string]bool{
		"OCI runtime create failed: unable to apply caps: operation not permitted: unknown":                                    true,
		"privileged mode is incompatible with user namespaces":                                                                 true,
		"error gathering device information while adding custom device \"/dev\": permission denied":                            true,
		`OCI runtime create failed: runc create failed: unable to start container process: exec: "/etc": permission denied`:    false,
		`OCI runtime create failed: unable to start container process: exec: "/no": stat /no: no such file or directory`:       false,
		"driver failed programming external connectivity on endpoint x: Bind for 0.0.0.0:80 failed: port is already allocated": false,
		"Conflict. The container name \"/x\" is already in use by container \"y\"":                                             false,
	} {
		if got := refused(errors.New(text)); got != want {
			t.Errorf("refused(%s) = %t, want %t", text, got, want)
		}
	}
}

func TestLastOfEachNameCounts(t *testing.T) {
	got := lastOfEach([]string{"A=1", "B=1", "A=2", "C", "A=3=x", "B="})
	if want := []string{"C", "A=3=x", "B="}; !slices.Equal(got, want) {
		t.Errorf("lastOfEach = %q, want %q", got, want)
	}
}

func TestFreedIsSummedUp(t *testing.T) {
	var sum Freed
	if got := sum.Summary(); got != "Total reclaimed space: 0B\n" {
		t.Errorf("nothing freed = %q", got)
	}
	sum.Add(Freed{Untagged: []string{"a:1"}, Deleted: []string{"sha256:1"}, Bytes: 1_200_000})
	sum.Add(Freed{Deleted: []string{"sha256:2"}, Bytes: 300_000})
	want := "Deleted Images:\nuntagged: a:1\ndeleted: sha256:1\ndeleted: sha256:2\n\nTotal reclaimed space: 1.5MB\n"
	if got := sum.Summary(); got != want {
		t.Errorf("summary = %q, want %q", got, want)
	}
}
