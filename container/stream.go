package container

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/docker/docker/client"
)

// errIdle ends a stream on which nothing came for too long.
var errIdle = errors.New("the engine was silent for too long")

// A watchdog ends a context when it was not touched for its span of time. It
// bounds what has no deadline as a whole: the wait for the beginning of a stream,
// or each pause of a pull.
type watchdog struct {
	timer *time.Timer
	span  time.Duration
}

// guard gives a context with a watchdog; end frees both.
func guard(ctx context.Context, span time.Duration) (_ context.Context, w *watchdog, end func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	w = &watchdog{span: span}
	w.timer = time.AfterFunc(span, func() { cancel(errIdle) })
	return ctx, w, func() {
		w.timer.Stop()
		cancel(nil)
	}
}

func (w *watchdog) touch() { w.timer.Reset(w.span) }

// rest sends the watchdog to sleep: from now on silence is fine.
func (w *watchdog) rest() { w.timer.Stop() }

// stream performs do on one container; do puts the watchdog to rest as soon as
// the answer has begun.
func (e *Engine) stream(ctx context.Context, op, id string, do func(context.Context, *peer, *watchdog) error) error {
	if err := checkContainer(id); err != nil {
		return wrap(op, id, err)
	}
	return wrap(op, id, e.streaming(ctx, e.cfg.Timeout, do))
}

func (e *Engine) streaming(ctx context.Context, span time.Duration, do func(context.Context, *peer, *watchdog) error) error {
	guarded, w, end := guard(ctx, span)
	defer end()
	err := e.attempt(guarded, func(ctx context.Context, p *peer) error { return do(ctx, p, w) })
	if err != nil && ctx.Err() == nil && context.Cause(guarded) == errIdle {
		return fmt.Errorf("%w (%s)", ErrTimeout, span)
	}
	return translate(ctx, err)
}

// get begins a request whose answer is read as it is, where the client library
// would take it apart too far or too soon.
func (p *peer) get(ctx context.Context, path string, query url.Values) (*http.Response, error) {
	request, err := p.request(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return nil, err
	}
	answer, err := p.http.Do(request)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode < 300 {
		return answer, nil
	}
	defer answer.Body.Close()
	return nil, refusal(answer)
}

func (p *peer) request(ctx context.Context, method, path string, query url.Values, body io.Reader) (*http.Request, error) {
	host, err := client.ParseHostURL(p.DaemonHost())
	if err != nil {
		return nil, err
	}
	u := url.URL{Scheme: p.scheme, Host: host.Host, Path: host.Path + "/v" + p.version + path, RawQuery: query.Encode()}
	if isLocal(p.DaemonHost()) {
		u.Host, u.Path = client.DummyHost, "/v"+p.version+path
	}
	return http.NewRequestWithContext(ctx, method, u.String(), body)
}

// refusal is what the engine answered instead of what it was asked for.
func refusal(answer *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	if err != nil {
		return err
	}
	var said struct{ Message string }
	if json.Unmarshal(text, &said) != nil || said.Message == "" {
		said.Message = strings.TrimSpace(string(text))
	}
	err = fmt.Errorf("%s: %s", answer.Status, said.Message)
	if answer.StatusCode == http.StatusNotFound {
		err = &engineError{ErrNotFound, err}
	}
	return err
}

// hijack makes a connection of a request: after the engine has agreed, both
// sides send what they like. Unlike the client library's, it does not outlast ctx
// while it waits for the engine; what comes after that is the caller's.
func (p *peer) hijack(ctx context.Context, path string, body any) (_ net.Conn, _ *bufio.Reader, err error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, nil, err
	}
	request, err := p.request(ctx, http.MethodPost, path, nil, bytes.NewReader(text))
	if err != nil {
		return nil, nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", "tcp")
	conn, err := p.Dialer()(ctx)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer func() {
		if !stop() && err == nil {
			err = ctx.Err()
		}
		if err != nil {
			conn.Close()
		}
	}()
	if err := request.Write(conn); err != nil {
		return nil, nil, err
	}
	in := bufio.NewReaderSize(conn, 32<<10)
	answer, err := http.ReadResponse(in, request)
	if err != nil {
		return nil, nil, err
	}
	if answer.StatusCode != http.StatusSwitchingProtocols {
		defer answer.Body.Close()
		return nil, nil, refusal(answer)
	}
	return conn, in, nil
}
