package apps

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"reagent/filesystem"
	"reagent/persistence/device"
	"reagent/protocol"
)

// Bounds of uploads.
const (
	maxArchive   = 2 << 30 // bytes of one, unless the configuration says so otherwise
	maxTransfers = 16      // at once
)

// uploads takes in the archives that apps are built from (wire §5.5): one
// transfer per container name, the last BEGIN wins. A transfer is a file that
// has no name until it is complete, so that half an archive is never built; one
// that ends in any other way leaves nothing behind. Its methods may be called
// from any goroutine; run is the clock that ends transfers of which nothing is
// heard.
type uploads struct {
	folder string
	most   int64
	idle   time.Duration
	room   func(bytes int64) error // refuses what does not fit on the disk
	said   AppLog
	log    zerolog.Logger
	failed func(app protocol.AppID, name string) // a transfer ended without its archive
	wake   chan struct{}                         // capacity 1

	mu     sync.Mutex
	active map[string]*transfer // by container name
}

// A transfer is an archive on its way.
type transfer struct {
	protocol.WriteDataArgs           // of BEGIN
	heard                  time.Time // uploads.mu guards it

	mu    sync.Mutex // one chunk at a time
	draft *filesystem.Draft
	got   int64
	over  bool
}

func newUploads(cfg Config, folder string, failed func(protocol.AppID, string)) *uploads {
	u := &uploads{
		folder: folder, most: cfg.MaxUpload, idle: cfg.Waits.Upload,
		said: cfg.AppLog, log: cfg.Log, failed: failed,
		wake: make(chan struct{}, 1), active: map[string]*transfer{},
	}
	if u.most == 0 {
		u.most = maxArchive
	}
	u.room = func(bytes int64) error { return cfg.Disk.AdmitFile(uint64(max(0, bytes))) }
	if err := filesystem.SweepDrafts(folder); err != nil {
		u.log.Warn().Err(err).Msg("leftovers of uploads stay")
	}
	return u
}

// take does what one call of write_data asks for.
func (u *uploads) take(c protocol.WriteDataArgs) error {
	switch c.Chunk {
	case protocol.TransferBegin:
		return u.begin(c)
	case protocol.TransferEnd:
		return u.end(c)
	}
	return u.data(c)
}

func (u *uploads) begin(c protocol.WriteDataArgs) error {
	u.cancel(c.Container)
	if c.Total > u.most {
		return u.refused(c, &protocol.Error{Code: protocol.CodeTooLarge, Text: fmt.Sprintf("an archive of %d bytes is too large: %d are allowed", c.Total, u.most)})
	}
	u.mu.Lock()
	full, due := len(u.active) >= maxTransfers, c.Total
	for _, t := range u.active {
		due += t.Total // what they have already counts twice; better than none
	}
	u.mu.Unlock()
	if full {
		return u.refused(c, &protocol.Error{Code: protocol.CodeConflict, Text: fmt.Sprintf("%d uploads are under way already; try again when one has ended", maxTransfers)})
	}
	if err := os.MkdirAll(u.folder, 0o755); err != nil {
		return u.refused(c, fmt.Errorf("make the build folder: %w", err))
	}
	if err := u.room(due); err != nil {
		return u.refused(c, err)
	}
	draft, err := filesystem.NewDraft(u.folder, c.File)
	if err != nil {
		return u.refused(c, err)
	}
	t := &transfer{WriteDataArgs: c, heard: time.Now(), draft: draft}
	u.mu.Lock()
	before := u.active[c.Container] // of a BEGIN in the same instant
	u.active[c.Container] = t
	u.mu.Unlock()
	before.drop()
	u.poke()
	u.said.ClearHistory(c.Container)
	u.said.Agent(c.Container, "Received first package on device!")
	return nil
}

// refused ends an upload before it began. Its sender has told the studio that
// the app is in transfer; the studio learns that it is not.
func (u *uploads) refused(c protocol.WriteDataArgs, err error) error {
	u.failed(c.App())
	return err
}

func (u *uploads) data(c protocol.WriteDataArgs) error {
	t, err := u.find(c)
	if t == nil || err != nil {
		return err
	}
	t.mu.Lock()
	if t.over {
		t.mu.Unlock()
		return errors.New("canceled")
	}
	switch size := int64(len(c.Chunk) / 2); {
	case t.got+size > t.Total:
		err = &protocol.Error{Code: protocol.CodeTooLarge, Text: fmt.Sprintf("more data than the %d bytes that were announced", t.Total)}
	default:
		var n int64
		n, err = io.Copy(t.draft, hex.NewDecoder(strings.NewReader(c.Chunk)))
		t.got += n
	}
	got := t.got
	t.mu.Unlock()
	if err != nil {
		return u.fail(t, err)
	}
	percent := 100.0
	if t.Total > 0 {
		percent = 100 * float64(got) / float64(t.Total)
	}
	u.said.Transfer(c.Container, t.File, percent)
	return nil
}

func (u *uploads) end(c protocol.WriteDataArgs) error {
	t, err := u.find(c)
	if t == nil || err != nil {
		return err
	}
	t.mu.Lock()
	switch {
	case t.over:
		t.mu.Unlock()
		return errors.New("canceled")
	case t.got != t.Total:
		err = &protocol.Error{Code: protocol.CodeInvalid, Text: fmt.Sprintf("the archive is incomplete: %d of %d bytes arrived", t.got, t.Total)}
	default:
		t.over = true
		err = t.draft.Commit()
	}
	t.mu.Unlock()
	if err != nil {
		return u.fail(t, err)
	}
	u.forget(t)
	u.said.Agent(c.Container, "File transfer has finished, starting build...")
	return nil
}

// find gives the transfer that a chunk belongs to: nil for a chunk of one that
// another took the place of.
func (u *uploads) find(c protocol.WriteDataArgs) (*transfer, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	t := u.active[c.Container]
	switch {
	case t == nil:
		return nil, &protocol.Error{Code: protocol.CodeNotFound, Text: "We received a chunk without an active transfer"}
	case t.ID != c.ID:
		return nil, nil
	}
	t.heard = time.Now()
	return t, nil
}

// fail gives a transfer up because of an error, which it returns.
func (u *uploads) fail(t *transfer, err error) error {
	t.drop()
	if u.forget(t) {
		u.log.Warn().Err(err).Str("container", t.Container).Msg("upload given up")
		u.failed(t.App())
	}
	return err
}

// forget takes a transfer off the list, and tells whether it was there.
func (u *uploads) forget(t *transfer) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.active[t.Container] != t {
		return false
	}
	delete(u.active, t.Container)
	return true
}

// cancel gives up the transfer for a container, if there is one.
func (u *uploads) cancel(container string) {
	u.mu.Lock()
	t := u.active[container]
	delete(u.active, container)
	u.mu.Unlock()
	t.drop()
}

// drop discards what has arrived. It waits for a chunk that is being written.
func (t *transfer) drop() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over {
		t.over = true
		t.draft.Discard()
	}
}

func (u *uploads) poke() {
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// run gives up transfers of which nothing was heard for too long, until ctx
// ends; then the others go too.
func (u *uploads) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			u.mu.Lock()
			left := u.active
			u.active = map[string]*transfer{}
			u.mu.Unlock()
			for _, t := range left {
				t.drop()
			}
			return
		case <-u.wake:
		case <-timer.C:
		}
		if wait := u.expire(time.Now()); wait > 0 {
			timer.Reset(wait)
		}
	}
}

// expire gives up what is too old and returns when to look again, 0 for never.
func (u *uploads) expire(now time.Time) (wait time.Duration) {
	var old []*transfer
	u.mu.Lock()
	for _, t := range u.active {
		left := u.idle - now.Sub(t.heard)
		switch {
		case left <= 0:
			old = append(old, t)
		case wait == 0 || left < wait:
			wait = left
		}
	}
	u.mu.Unlock()
	for _, t := range old {
		_ = u.fail(t, fmt.Errorf("nothing was heard of it for %s", u.idle))
		u.said.Agent(t.Container, "The file transfer was interrupted; please begin it anew")
	}
	return wait
}

// Upload takes one chunk of an archive that a DEV app is built from. It returns
// when the chunk is written; the archive has its name, and is on the disk, when
// the call with END has returned.
func (a *Apps) Upload(_ context.Context, c protocol.WriteDataArgs) error { return a.uploads.take(c) }

// uploadFailed tells the studio where the app really is, which it has seen in
// TRANSFERING since the upload began.
func (a *Apps) uploadFailed(id protocol.AppID, name string) {
	a.wishes.Lock()
	defer a.wishes.Unlock()
	known, err := a.known(id)
	if err == nil && known {
		w := a.worker(id)
		w.untold.Store(true)
		w.poke()
		return
	}
	if err == nil {
		err = a.tellGone(id)
	}
	if err != nil {
		a.cfg.Log.Error().Err(err).Stringer("app", id).Str("name", name).Msg("failed upload not reported")
	}
}

// tellGone reports an app that this device does not have as REMOVED.
func (a *Apps) tellGone(id protocol.AppID) error {
	f := a.cfg.Facts()
	_, err := a.cfg.Store.Drop(id, 0, device.Outgoing{
		Report: protocol.StateReport{
			AppKey: id.Key, DeviceKey: f.DeviceKey, SwarmKey: f.SwarmKey, SerialNumber: f.Serial,
			Stage: id.Stage, State: protocol.Removed,
		},
		Coalesce: true,
	})
	a.reporter.poke()
	return err
}
