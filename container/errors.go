package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/client"
)

// What a caller can branch on. Every error of an Engine either wraps one of
// these, or is the caller's own context ending, or is something that no caller
// can mend and that is only worth being read.
var (
	ErrUnavailable  = errors.New("no container engine answers")
	ErrTimeout      = errors.New("the container engine did not answer in time")
	ErrNotFound     = errors.New("not found")
	ErrConflict     = errors.New("name is taken")
	ErrInUse        = errors.New("in use")
	ErrPortTaken    = errors.New("host port is taken")
	ErrUnauthorized = errors.New("registry refused the login")
	ErrNoSpace      = errors.New("no space left on the device")

	// ErrDemand means that a container asks for what the engine does not give it
	// (any more): rights, a device, a runtime. It will not start until that has
	// changed; Run makes one that asks for less.
	ErrDemand = errors.New("the engine does not give the container what it asks for")

	// ErrNetwork means that a registry could not be reached, or the link to it was
	// lost: nothing is wrong with what was asked, and asking again later helps.
	ErrNetwork = errors.New("the registry cannot be reached")

	// What a build can lack before it begins.
	ErrContext         = errors.New("the files of the build cannot be used")
	ErrNoDockerfile    = errors.New("there is no Dockerfile")
	ErrEmptyDockerfile = errors.New("the Dockerfile is empty")
)

// A PortError says which host ports a container could not get. It is an
// ErrPortTaken too.
type PortError struct {
	Ports []uint16 // empty when the engine did not say which
	Err   error
}

func (e *PortError) Error() string        { return e.Err.Error() }
func (e *PortError) Unwrap() error        { return e.Err }
func (e *PortError) Is(target error) bool { return target == ErrPortTaken }

// An engineError keeps the engine's words and adds what they mean.
type engineError struct {
	kind error
	err  error
}

func (e *engineError) Error() string        { return e.err.Error() }
func (e *engineError) Unwrap() error        { return e.err }
func (e *engineError) Is(target error) bool { return target == e.kind }

// meanings are the texts by which the engine's errors are told apart where its
// status codes do not: a pull answers 500 or, once it has begun, a record with
// nothing but text, and a start answers 500 for everything. First hit counts,
// so the narrow ones come first. Collected from engines 20.10 to 28.
var meanings = []struct {
	text string // lower case
	kind error
}{
	{"no space left on device", ErrNoSpace},
	{"port is already allocated", ErrPortTaken},
	{"address already in use", ErrPortTaken},
	{"manifest unknown", ErrNotFound},
	{"name unknown", ErrNotFound},
	{"no basic auth credentials", ErrUnauthorized},
	{"authentication required", ErrUnauthorized},
	{"unauthorized", ErrUnauthorized},
	{"pull access denied", ErrUnauthorized},
	{"requested access to the resource is denied", ErrUnauthorized},
	{"insufficient_scope", ErrUnauthorized},
	{"no matching manifest for", ErrNotFound}, // not for this architecture
	{"manifest for ", ErrNotFound},            // "… not found"
	{"no such image", ErrNotFound},
	{"no such container", ErrNotFound},
	{"is already in use by container", ErrConflict},
	{"daemon is shutting down", ErrUnavailable},
	{"cannot connect to the docker daemon", ErrUnavailable}, // compose, as it was said until 2025 …
	{"failed to connect to the docker api", ErrUnavailable}, // … and since
	{"/containerd.sock", ErrUnavailable},                    // the engine lives, its containerd does not
}

// linkMeanings are the texts by which the engine says that it did not get
// through to a registry, or got no sensible answer. They count only where a
// registry is spoken with. Collected from engines 20.10 to 28.
var linkMeanings = []string{ // lower case
	"dial tcp",
	"no such host",
	"server misbehaving", // of a name server
	"temporary failure in name resolution",
	"network is unreachable",
	"no route to host",
	"connection refused",
	"connection reset by peer",
	"broken pipe",
	"use of closed network connection",
	"i/o timeout",
	"tls handshake timeout",
	"client.timeout exceeded",
	"request canceled while waiting for connection",
	"context deadline exceeded",
	"unexpected eof",
	": eof",
	"server closed idle connection",
	"http2: client connection lost",
	"http2: server sent goaway",
	"proxyconnect tcp",
	"toomanyrequests",
	"received unexpected http status: 5",
	"unexpected status: 5",
	"unexpected status code: 5",
	"filesystem layer verification failed", // cut or changed on the way
	"failed precondition: commit size",     // the same, in containerd's words
	"failed size validation",
}

// refusals are what meanings adds where a registry is spoken with.
var refusals = []struct {
	text string // lower case
	kind error
}{
	{"denied:", ErrUnauthorized},
	{"403 forbidden", ErrUnauthorized},
	{"does not exist", ErrNotFound}, // nothing to push
	{": not found", ErrNotFound},
}

// registryMeaning classifies what an engine says about its talk with a registry.
// A refusal comes first: it is told with the words of the network around it.
func registryMeaning(err error) error {
	if err == nil {
		return nil
	}
	classified := meaning(err)
	if kindOf(classified) != nil {
		return classified
	}
	text := strings.ToLower(err.Error())
	for _, r := range refusals {
		if strings.Contains(text, r.text) {
			return &engineError{r.kind, err}
		}
	}
	if text == "eof" || slices.ContainsFunc(linkMeanings, func(m string) bool { return strings.Contains(text, m) }) {
		return &engineError{ErrNetwork, err}
	}
	return classified
}

// kindOf is the meaning that an error was given; nil when none.
func kindOf(err error) error {
	if e := (*engineError)(nil); errors.As(err, &e) {
		return e.kind
	}
	return nil
}

// translate turns an error of the engine's client into one of ours. Its own
// deadline is ErrTimeout; an end of the caller's context stays what it is.
func translate(caller context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case caller.Err() != nil:
		return caller.Err()
	case isClassified(err):
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return ErrTimeout
	case isDisconnect(err):
		return &engineError{ErrUnavailable, err}
	}
	return meaning(err)
}

// isClassified reports whether what went wrong is known already.
func isClassified(err error) bool {
	var build *BuildError
	return kindOf(err) != nil || errors.As(err, &build)
}

// meaning classifies what an engine that answered has said.
func meaning(err error) error {
	text := strings.ToLower(err.Error())
	for _, m := range meanings {
		if !strings.Contains(text, m.text) {
			continue
		}
		if m.kind == ErrPortTaken {
			return &PortError{Ports: portsIn(text), Err: err}
		}
		return &engineError{m.kind, err}
	}
	switch {
	case errdefs.IsNotFound(err):
		return &engineError{ErrNotFound, err}
	case errdefs.IsUnauthorized(err):
		return &engineError{ErrUnauthorized, err}
	case errdefs.IsUnavailable(err):
		return &engineError{ErrUnavailable, err}
	}
	return err
}

// isDisconnect reports whether err means that there is no engine, or none any
// more: nobody listens, or the connection ended in the middle of an answer.
func isDisconnect(err error) bool {
	var op *net.OpError
	return client.IsErrConnectionFailed(err) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.As(err, &op)
}

// takenPort finds the host port in what engines say of a conflict:
//
//	Bind for 0.0.0.0:8080 failed: port is already allocated
//	Error starting userland proxy: listen tcp4 0.0.0.0:8080: bind: address already in use
//	failed to bind host port for 0.0.0.0:8080:172.17.0.2:80/tcp: address already in use
//	failed to bind host port 0.0.0.0:8080/tcp: address already in use
var takenPort = regexp.MustCompile(`(?:bind for|bind host port(?: for)?|listen (?:tcp|udp)[46]?|exposing port (?:tcp|udp)) \S*?:(\d+)\b`)

func portsIn(text string) []uint16 {
	var ports []uint16
	for _, m := range takenPort.FindAllStringSubmatch(text, -1) {
		if n, err := strconv.ParseUint(m[1], 10, 16); err == nil && !slices.Contains(ports, uint16(n)) {
			ports = append(ports, uint16(n))
		}
	}
	return ports
}

// wrap says which operation on what went wrong.
func wrap(op, what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", op, what, err)
}
