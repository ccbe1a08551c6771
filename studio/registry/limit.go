package registry

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"reagent/filesystem"
)

// limit keeps a transfer from holding a connection that stands still, and an
// upload from filling the disk that the studio's own state lies on.
func (r *Registry) limit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		begun := time.Now()
		rc := http.NewResponseController(w)
		answer := &slowAnswer{ResponseWriter: w, rc: rc, idle: r.cfg.Idle}
		// The connection is used again: its next request starts afresh.
		defer func() { _ = rc.SetWriteDeadline(time.Time{}) }()
		if req.Body != nil && req.Body != http.NoBody {
			if err := r.room(); err != nil {
				r.cfg.Log.Error().Err(err).Msg("upload refused")
				refuse(answer, http.StatusInsufficientStorage, "DENIED", err.Error())
				return
			}
			// Set now already: the server reads what a handler leaves of a body.
			_ = rc.SetReadDeadline(begun.Add(r.cfg.Idle)) // a test's recorder has none
			req.Body = &slowBody{ReadCloser: req.Body, rc: rc, idle: r.cfg.Idle, moved: begun, room: r.room}
		}
		next.ServeHTTP(answer, req)
		r.cfg.Log.Debug().Str("method", req.Method).Str("path", req.URL.Path).Int("status", answer.status).
			Dur("took", time.Since(begun)).Msg("registry request")
	})
}

// room is an error when the disk is nearly full.
func (r *Registry) room() error {
	space, err := filesystem.Free(r.cfg.Folder)
	if err != nil {
		return err
	}
	if space.Free < r.cfg.MinFree {
		return fmt.Errorf("the disk of the studio is nearly full: %d MiB are left, uploads keep %d MiB free", space.Free>>20, r.cfg.MinFree>>20)
	}
	return nil
}

// A slowBody is an upload. Its deadline moves on with what comes.
type slowBody struct {
	io.ReadCloser
	rc      *http.ResponseController
	idle    time.Duration
	moved   time.Time // when the deadline was set
	room    func() error
	checked int64 // bytes since the disk was looked at
}

func (b *slowBody) Read(p []byte) (int, error) {
	const look = 32 << 20
	if now := time.Now(); now.Sub(b.moved) > b.idle/8 {
		b.moved = now
		_ = b.rc.SetReadDeadline(now.Add(b.idle))
	}
	n, err := b.ReadCloser.Read(p)
	if b.checked += int64(n); b.checked > look && err == nil {
		b.checked = 0
		err = b.room()
	}
	if errors.Is(err, io.EOF) {
		// Or the server, which goes on reading to notice that the client left,
		// would run into the deadline.
		_ = b.rc.SetReadDeadline(time.Time{})
	}
	return n, err
}

// A slowAnswer is a download. Its deadline moves on with what is taken.
type slowAnswer struct {
	http.ResponseWriter
	rc     *http.ResponseController
	idle   time.Duration
	moved  time.Time
	status int
}

// WriteHeader takes the first status: distribution sends a second one after the
// client has left.
func (a *slowAnswer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
		a.ResponseWriter.WriteHeader(status)
	}
}

func (a *slowAnswer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	if now := time.Now(); now.Sub(a.moved) > a.idle/8 {
		a.moved = now
		_ = a.rc.SetWriteDeadline(now.Add(a.idle))
	}
	return a.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (a *slowAnswer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
