package system

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// upkeep makes one of a machine in a folder, which notes what it would run.
func upkeep(t *testing.T, files map[string]string) (u *Upkeep, ran *[]string, read func(string) string) {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ran = &[]string{}
	u = &Upkeep{root: root, run: func(_ context.Context, program string, args ...string) error {
		*ran = append(*ran, strings.Join(append([]string{program}, args...), " "))
		return nil
	}}
	return u, ran, func(name string) string {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return ""
		}
		return string(text)
	}
}

func TestEngineSettingsGetWhatIsMissingOnly(t *testing.T) {
	const settings = "etc/docker/daemon.json"
	for name, c := range map[string]struct{ before, after string }{
		"none":                    {"", `{"log-driver":"json-file","log-opts":{"max-size":"10m","max-file":"3"}}`},
		"others stay":             {`{"data-root": "/data", "n": 12345678901234567890}`, `{"data-root":"/data","log-driver":"json-file","log-opts":{"max-size":"10m","max-file":"3"},"n":12345678901234567890}`},
		"own options stay":        {`{"log-opts": {"max-size": "1g"}}`, `{"log-driver":"json-file","log-opts":{"max-size":"1g"}}`},
		"all there":               {`{"log-driver": "json-file", "log-opts": {}}`, `{"log-driver":"json-file","log-opts":{}}`},
		"another kind of log":     {`{"log-driver": "journald"}`, `{"log-driver":"journald"}`},
		"not JSON is left alone":  {`{"log-driver": `, `{"log-driver":`},
		"no object is left alone": {`[1]`, `[1]`},
		"null is left alone":      {`null`, `null`},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{}
			if c.before != "" {
				files[settings] = c.before
			}
			u, _, read := upkeep(t, files)
			err := u.BoundLogs(t.Context())
			if wrong := strings.Contains(name, "left alone"); (err != nil) != wrong {
				t.Errorf("BoundLogs = %v, want an error: %t", err, wrong)
			}
			once := read(settings)
			if got := strings.Join(strings.Fields(once), ""); got != strings.Join(strings.Fields(c.after), "") {
				t.Errorf("settings are %s, want %s", got, c.after)
			}
			_ = u.BoundLogs(t.Context())
			if got := read(settings); got != once {
				t.Errorf("the second time made %s of %s", got, once)
			}
		})
	}
}

func TestTheJournalIsBoundOnceAndRestartedOnce(t *testing.T) {
	u, ran, read := upkeep(t, map[string]string{"etc/systemd/journald.conf": ""})
	for range 2 {
		if err := u.BoundLogs(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := read("etc/systemd/journald.conf.d/10-ironflock.conf"); got != "[Journal]\nSystemMaxUse=200M\n" {
		t.Errorf("the drop-in is %q", got)
	}
	if want := []string{"systemctl restart systemd-journald"}; !slices.Equal(*ran, want) {
		t.Errorf("ran %q, want %q", *ran, want)
	}
	without, ran, _ := upkeep(t, nil)
	if err := without.BoundLogs(t.Context()); err != nil || len(*ran) != 0 {
		t.Errorf("without systemd: %v, ran %q", err, *ran)
	}
}

func TestWhatAProgramSaysIsInItsErrorAndAMissingOneIsNotMissed(t *testing.T) {
	if err := runProgram(t.Context(), "no-such-program-anywhere"); err != nil {
		t.Errorf("a program that is not installed: %v", err)
	}
	err := runProgram(t.Context(), "sh", "-c", "yes nonsense | head -n 5000; echo the end; exit 3")
	if err == nil || !strings.Contains(err.Error(), "the end") || len(err.Error()) > 2000 {
		t.Errorf("error %.200v, want the end of what it said", err)
	}
}
