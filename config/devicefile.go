package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"

	"reagent/filesystem"
)

// A DeviceFile is the identity of this device and the file that it lives in.
// All methods may be called from any goroutine.
type DeviceFile struct {
	path string
	id   atomic.Pointer[Identity]

	mu sync.Mutex // one change at a time; guards unsaved
	// unsaved are the keys that changed in memory and could not be written yet.
	unsaved map[string]json.RawMessage
}

func newDeviceFile(path string, id Identity) *DeviceFile {
	f := &DeviceFile{path: path, unsaved: map[string]json.RawMessage{}}
	f.id.Store(&id)
	return f
}

// Path is where the file is; it may be a symbolic link.
func (f *DeviceFile) Path() string { return f.path }

// Identity is the identity of this instant.
func (f *DeviceFile) Identity() Identity { return *f.id.Load() }

// learnedKeys are the keys that Update may write.
var learnedKeys = []struct {
	key  string
	read func(*Learned) any
}{
	{"name", func(l *Learned) any { return l.Name }},
	{"swarm_key", func(l *Learned) any { return l.SwarmKey }},
	{"swarm_name", func(l *Learned) any { return l.SwarmName }},
	{"swarm_owner_name", func(l *Learned) any { return l.SwarmOwnerName }},
}

// Update changes what the backend may change, and writes the file if any value
// is another one afterwards. A project key of 0 is none and changes nothing.
//
// The new values hold from now on even when the file cannot be written, or a
// device on a read-only disk would leave its project at every connect; the
// error says so, and the next Update tries again.
func (f *DeviceFile) Update(change func(*Learned)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.Identity()
	next := old
	change(&next.Learned)
	if next.SwarmKey == 0 {
		next.SwarmKey = old.SwarmKey
	}
	for _, k := range learnedKeys {
		if now := k.read(&next.Learned); now != k.read(&old.Learned) {
			f.unsaved[k.key] = plainJSON(now)
		}
	}
	f.id.Store(&next)
	if len(f.unsaved) == 0 {
		return nil
	}
	if err := f.save(); err != nil {
		return fmt.Errorf("save what the studio changed: %w", err)
	}
	clear(f.unsaved)
	return nil
}

// save puts the unsaved keys into what the file holds now: a maker who edits the
// Wi-Fi password beside a running agent must not lose it.
func (f *DeviceFile) save() error {
	content, err := readDeviceFile(f.path)
	if err != nil {
		return err
	}
	text, changed, err := content.with(f.unsaved)
	if err != nil || !changed {
		return err
	}
	return filesystem.Write(f.path, text, filesystem.PrivateFile)
}

// with is the text of the file with other values for some keys.
func (c *deviceContent) with(values map[string]json.RawMessage) (text []byte, changed bool, err error) {
	members := append(object(nil), c.members...)
	for _, k := range learnedKeys { // in a fixed order, so that new keys are, too
		raw, ok := values[k.key]
		if !ok {
			continue
		}
		if m, there, _ := members.find(k.key); there && bytes.Equal(m.raw, raw) {
			continue
		}
		members.set(k.key, raw)
		changed = true
	}
	text, err = members.encode()
	if bytes.HasSuffix(c.text, []byte("\n")) {
		text = append(text, '\n')
	}
	return text, changed, err
}
