package container

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/registry"
)

// maxRecord bounds a record of progress or an event; those of the engine have
// some hundred bytes, or some thousand with many labels.
const maxRecord = 1 << 20

// maxLayers bounds the parts of an image whose progress is summed; engines
// themselves allow some hundred.
const maxLayers = 10000

// Pull fetches an image and reports each record of progress, in order and from
// the calling goroutine; PullProgress.Record is valid until progress returns.
// An error that the engine reports in the midst of the stream is an error here.
// When ctx ends the engine stops pulling with the next byte that arrives. Layers
// that another image has are not fetched, nor those that came whole in an attempt
// which a lost link ended.
// progress may be nil.
func (e *Engine) Pull(ctx context.Context, ref string, cred *Credential, progress func(PullProgress)) error {
	auth, err := login(cred)
	if err != nil {
		return wrap("pull", ref, err)
	}
	err = e.streaming(ctx, e.cfg.PullIdle, func(ctx context.Context, p *peer, w *watchdog) error {
		body, err := p.ImagePull(ctx, ref, image.PullOptions{RegistryAuth: auth})
		if err != nil {
			return ofRegistry(err)
		}
		defer body.Close()
		keeper, end := e.keep(ctx, p, ref, cred)
		whole := 0
		err = readProgress("pull", body, func(at PullProgress) {
			w.touch()
			if at.Whole > whole {
				whole = at.Whole
				keeper.told(whole)
			}
			if progress != nil {
				progress(at)
			}
		})
		end(err)
		return err
	})
	return wrap("pull", ref, err)
}

// login is how a credential is sent along with a request; nil is none.
func login(cred *Credential) (string, error) {
	if cred == nil {
		return "", nil
	}
	return registry.EncodeAuthConfig(registry.AuthConfig{Username: cred.Username, Password: cred.Password})
}

// ofRegistry classifies an error with which an engine refused a pull or push
// before it began; most often it asked the registry first.
func ofRegistry(err error) error {
	if isDisconnect(err) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return registryMeaning(err)
}

// pullRecord is the part of a record that counts here.
type pullRecord struct {
	ID             string
	Status         string
	ProgressDetail struct{ Current, Total int64 }
	Error          string
	ErrorDetail    struct{ Message string }
}

// readProgress follows a pull or push to its end.
func readProgress(op string, stream io.Reader, progress func(PullProgress)) error {
	lines := bufio.NewReader(stream)
	layers := map[string]*layer{}
	var at PullProgress
	for {
		line, err := readRecord(lines)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if len(line) == 0 {
			continue
		}
		var r pullRecord
		if err := json.Unmarshal(line, &r); err != nil {
			return fmt.Errorf("the engine's progress is not readable: %w", err)
		}
		if at.Record = line; r.ID != "" {
			l := layers[r.ID]
			if l == nil && len(layers) >= maxLayers {
				l = &layer{} // no image has so many
			} else if l == nil {
				l = &layer{}
				layers[r.ID] = l
			}
			current, total := l.note(r)
			at.Current += current
			at.Total += total
			if !l.whole && (r.Status == "Pull complete" || r.Status == "Already exists") {
				l.whole = true
				at.Whole++
			}
		}
		progress(at)
		switch {
		case r.Error == "context canceled": // not by us: an engine that is told to end drops its pulls
			return &engineError{ErrUnavailable, fmt.Errorf("the engine ended the %s", op)}
		case r.Error != "":
			return registryMeaning(errors.New(r.Error))
		case r.ErrorDetail.Message != "":
			return registryMeaning(errors.New(r.ErrorDetail.Message))
		}
	}
}

// A layer is how far one of the parts of an image has come, in bytes to fetch.
type layer struct {
	current, total int64
	whole          bool
}

// note takes a record in and gives the change. Unpacking counts nothing: its
// figures are about the same bytes once more.
func (l *layer) note(r pullRecord) (current, total int64) {
	before := *l
	switch r.Status {
	case "Downloading":
		l.current, l.total = r.ProgressDetail.Current, max(r.ProgressDetail.Total, l.total)
	case "Verifying Checksum", "Download complete", "Extracting", "Pull complete":
		l.current = l.total
	}
	return l.current - before.current, l.total - before.total
}

// readRecord reads one line, without its end. It stays valid until the next.
func readRecord(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		line = bytes.Clone(line)
		for err == bufio.ErrBufferFull && len(line) <= maxRecord {
			var more []byte
			more, err = r.ReadSlice('\n')
			line = append(line, more...)
		}
		if len(line) > maxRecord {
			return nil, fmt.Errorf("the engine sent a record of more than %d bytes", maxRecord)
		}
	}
	if err == io.EOF && len(line) > 0 {
		err = nil
	}
	return bytes.TrimRight(line, "\r\n"), err
}
