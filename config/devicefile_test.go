package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestNothingIsWrittenAtTheStartOrWithoutAChange(t *testing.T) {
	path := writeFile(t, sample)
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := load([]string{"-config", path}, env(), machine(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	if err := cfg.DeviceFile.Update(func(l *Learned) { l.Name, l.SwarmKey = "press-07", 41 }); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(path)
	if err != nil || !os.SameFile(before, after) || !before.ModTime().Equal(after.ModTime()) {
		t.Errorf("the file was written: %v, %v", after, err)
	}
}

func TestUnknownKeysAndTheirOrderSurviveARewrite(t *testing.T) {
	path := writeFile(t, sample)
	cfg, err := load([]string{"-config", path}, env(), machine(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	err = cfg.DeviceFile.Update(func(l *Learned) {
		l.Name, l.SwarmKey, l.SwarmName, l.SwarmOwnerName = "Presse <8> \"ü\"", 42, "hall_c", "acme"
	})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, filepath.Join("testdata", "rewritten.reswarm"), read(t, path))
	again, err := load([]string{"-config", path}, env(), machine(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := again.DeviceFile.Identity(), cfg.DeviceFile.Identity(); got != want {
		t.Errorf("read again: %#v, want %#v", got, want)
	}
	if got := cfg.DeviceFile.Identity().AuthID(); got != "42-1207" {
		t.Errorf("authid after the move = %s", got)
	}
}

func TestMovedAddressesStayAsTheyAreInTheFile(t *testing.T) {
	old := strings.NewReplacer("registry.example.test/", "registry.reswarm.io/", "wss://router.example.test/ws-re-dev", "wss://cbw.record-evolution.com/ws-re-dev").Replace(sample)
	path := writeFile(t, old)
	cfg, err := load([]string{"-config", path}, env(), machine(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	if err := cfg.DeviceFile.Update(func(l *Learned) { l.Name = "other" }); err != nil {
		t.Fatal(err)
	}
	if got := read(t, path); !strings.Contains(got, "registry.reswarm.io/") || !strings.Contains(got, "cbw.record-evolution.com") {
		t.Errorf("an address was rewritten in the file:\n%s", got)
	}
}

func TestEditsBesideARunningAgentSurvive(t *testing.T) {
	path := writeFile(t, sample)
	cfg, err := load([]string{"-config", path}, env(), machine(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	edited := strings.Replace(strings.Replace(sample, `"hall b"`, `"hall c"`, 1), `"press-07"`, `"edited"`, 1)
	if err := os.WriteFile(path, []byte(edited), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := cfg.DeviceFile.Update(func(l *Learned) { l.SwarmName = "new" }); err != nil {
		t.Fatal(err)
	}
	if got := read(t, path); !strings.Contains(got, `"wlanssid": "hall c"`) || !strings.Contains(got, `"name": "edited"`) || !strings.Contains(got, `"swarm_name": "new"`) {
		t.Errorf("after the update:\n%s", got)
	}
}

func TestWriteGoesThroughTheLinkOfAFlashedImage(t *testing.T) {
	base := t.TempDir()
	boot, opt := filepath.Join(base, "boot"), filepath.Join(base, "opt")
	for _, dir := range []string{boot, opt} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	target, link := filepath.Join(boot, "press.reswarm"), filepath.Join(opt, "device-config.reswarm")
	if err := os.WriteFile(target, []byte("\xef\xbb\xbf"+sample), 0o755); err != nil { // vfat shows such modes
		t.Fatal(err)
	}
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	cfg, err := load([]string{"-config", link}, env(), machine(base))
	if err != nil {
		t.Fatal(err)
	}
	// A power cut in an earlier write left its temporary file.
	if err := os.WriteFile(filepath.Join(boot, ".press.reswarm.tmp"), []byte(`{"name": "ha`), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := cfg.DeviceFile.Update(func(l *Learned) { l.Name = "other" }); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link is %v, %v", info, err)
	}
	info, err := os.Stat(target)
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("the target has mode %v, %v, want it kept", info.Mode(), err)
	}
	if got := read(t, target); !strings.HasPrefix(got, "{\n \"name\": \"other\",\n") {
		t.Errorf("the target begins with %.40q", got)
	}
	if entries, err := os.ReadDir(boot); err != nil || len(entries) != 1 {
		t.Errorf("beside the target lies %v, %v", entries, err)
	}
	if err := os.Remove(target); err != nil {
		t.Fatal(err)
	}
	if _, err := load([]string{"-config", link}, env(), machine(base)); err == nil || !strings.Contains(err.Error(), "is its partition mounted?") {
		t.Errorf("a link to nothing: %v", err)
	}
}

func TestDamagedFileIsNamedWithItsPlaceAndLeftAlone(t *testing.T) {
	for _, row := range []struct{ about, text, want string }{
		{"cut off", sample[:200], "device.reswarm:6:2: the file ends in the middle of a value"},
		{"comma missing", "{\n \"a\": 1\n \"b\": 2\n}", ":3:2: invalid character '\"'"},
		{"letters count, not bytes", "{\"ä\": ü}", ":1:7: invalid character"},
		{"something behind it", sample + "}", ":14:1: invalid character '}' after top-level value"},
		{"a list", " [1]", ":1:2: a list where an object is needed"},
		{"a text", `"x"`, ":1:1: a string where an object"},
		{"null", "null", ":1:1: null where"},
		{"empty", "", "it is empty"},
		{"white space", " \n", "it is empty"},
		{"zeros", strings.Repeat("\x00", 512), "only zero bytes"},
		{"zeros inside", sample[:60] + strings.Repeat("\x00", 512), ":3:"},
		{"UTF-16", "\xff\xfe{\x00}\x00", "UTF-16"},
		{"huge", "{\"a\": \"" + strings.Repeat("x", maxDeviceFile) + "\"}", "larger than 1 MB"},
		{"deep", strings.Repeat("[", 20000), "exceeded max depth"},
	} {
		t.Run(row.about, func(t *testing.T) {
			path := writeFile(t, row.text)
			_, err := load([]string{"-config", path}, env(), machine(t.TempDir()))
			var wrong *Error
			if !errors.As(err, &wrong) || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("load = %v, want %q", err, row.want)
			}
			if read(t, path) != row.text {
				t.Error("the file was changed")
			}

			// The same at run time: the agent has its identity, the file is left alone.
			f := newDeviceFile(path, Identity{Learned: Learned{Name: "a", SwarmKey: 1}})
			if err := f.Update(func(l *Learned) { l.Name = "b" }); err == nil {
				t.Error("Update of a damaged file succeeded")
			}
			if read(t, path) != row.text || f.Identity().Name != "b" {
				t.Errorf("after Update: name %q", f.Identity().Name)
			}
		})
	}
	for _, path := range []string{"/nonexistent/x.reswarm", t.TempDir()} {
		var wrong *Error
		if _, err := load([]string{"-config", path}, env(), machine(t.TempDir())); !errors.As(err, &wrong) || !strings.Contains(err.Error(), path) {
			t.Errorf("-config %s: %v", path, err)
		}
	}
}

func TestAChangeThatCouldNotBeSavedHoldsAndIsTriedAgain(t *testing.T) {
	path := writeFile(t, sample)
	cfg, err := load([]string{"-config", path}, env(), machine(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	away := path + ".away"
	if err := os.Rename(path, away); err != nil {
		t.Fatal(err)
	}
	if err := cfg.DeviceFile.Update(func(l *Learned) { l.SwarmKey = 99 }); err == nil {
		t.Error("Update without a file succeeded")
	}
	if got := cfg.DeviceFile.Identity().SwarmKey; got != 99 {
		t.Errorf("swarm key = %d, want the new one to hold", got)
	}
	if err := os.Rename(away, path); err != nil {
		t.Fatal(err)
	}
	if err := cfg.DeviceFile.Update(func(*Learned) {}); err != nil {
		t.Fatal(err)
	}
	if got := read(t, path); !strings.Contains(got, `"swarm_key": 99`) {
		t.Errorf("the file was not caught up:\n%s", got)
	}
}

func TestAProjectKeyOfZeroChangesNothing(t *testing.T) {
	cfg := mustLoad(t, sample, env())
	if err := cfg.DeviceFile.Update(func(l *Learned) { l.SwarmKey = 0 }); err != nil {
		t.Fatal(err)
	}
	if got := cfg.DeviceFile.Identity().SwarmKey; got != 41 {
		t.Errorf("swarm key = %d, want 41", got)
	}
}

func TestIdentityIsReadWhileItChanges(t *testing.T) {
	cfg := mustLoad(t, sample, env())
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 10 {
				if err := cfg.DeviceFile.Update(func(l *Learned) { l.Name = fmt.Sprint(i, n); l.SwarmName = l.Name }); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range 1000 {
				if id := cfg.DeviceFile.Identity(); id.Name != id.SwarmName && id.Name != "press-07" {
					t.Errorf("half a change: %q and %q", id.Name, id.SwarmName)
				}
			}
		})
	}
	wg.Wait()
	if _, err := readDeviceFile(cfg.DeviceFile.Path()); err != nil {
		t.Error(err)
	}
}

func TestAnIdentityPrintsWithoutItsSecrets(t *testing.T) {
	id := Identity{Secret: "s3cret", ClientKey: "s3cret", SerialNumber: "sn"}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(verb, id); strings.Contains(got, "s3cret") || !strings.Contains(got, "sn") {
			t.Errorf("%s prints %s", verb, got)
		}
	}
}

func TestOfARepeatedKeyTheLastCounts(t *testing.T) {
	c, err := parseDeviceFile([]byte(`{"name": "a", "x": 1, "name": "b"}`))
	if err != nil {
		t.Fatal(err)
	}
	if m, _, _ := c.members.find("name"); string(m.raw) != `"b"` {
		t.Errorf("name = %s", m.raw)
	}
	text, _, err := c.with(map[string]json.RawMessage{"name": []byte(`"c"`)})
	if want := "{\n \"name\": \"a\",\n \"x\": 1,\n \"name\": \"c\"\n}"; err != nil || string(text) != want {
		t.Errorf("rewritten: %s, %v", text, err)
	}
}

// Whatever a stranger's file holds: no panic, and a rewrite keeps every member
// that it was not asked to change, in its place.
func FuzzDeviceFile(f *testing.F) {
	for _, seed := range []string{sample, "\xef\xbb\xbf{}", `{"name":null,"name":{"a":[]}}`, `{"policy":{"tunnel_ports":[1,"2",null]}}`, `{"board":[],"swarm_key":1e400}`, "{\"\xff\":\"\xff\\ud800\"}", "[]", ""} {
		f.Add([]byte(seed))
	}
	dir := f.TempDir()
	path := filepath.Join(dir, "device.reswarm")
	m := machine(dir)
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := load([]string{"-config", path}, env(), m); err != nil {
			var wrong *Error
			if !errors.As(err, &wrong) {
				t.Fatalf("load = %v, want an *Error", err)
			}
		}
		before, err := parseDeviceFile(text)
		if err != nil {
			return
		}
		out, changed, err := before.with(map[string]json.RawMessage{"name": []byte(`"fuzz"`)})
		if err != nil {
			t.Fatalf("rewrite: %v", err)
		}
		after, err := parseDeviceFile(out)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, out)
		}
		if name, there, _ := after.members.find("name"); !there || string(name.raw) != `"fuzz"` {
			t.Fatalf("name = %s after the rewrite (changed: %v)", name.raw, changed)
		}
		same := 0
		for i, old := range before.members {
			now := after.members[i]
			if now.key != old.key {
				t.Fatalf("member %d is %q, was %q", i, now.key, old.key)
			}
			if bytes.Equal(flat(t, now.raw), flat(t, old.raw)) {
				same++
			} else if old.key != "name" {
				t.Fatalf("%q was changed from %s to %s", old.key, old.raw, now.raw)
			}
		}
		if same < len(before.members)-1 {
			t.Fatalf("%d of %d members survived", same, len(before.members))
		}
	})
}

func flat(t *testing.T, raw json.RawMessage) []byte {
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
