//go:build linux

package terminal

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"reagent/internal/proctree"
	"reagent/internal/testenv"
	"reagent/protocol"
)

func TestTheShellOfAUserIsItsLoginShell(t *testing.T) {
	const file = `root:x:0:0:root:/root:/bin/zsh
# comment
broken:x:1
maker:x:1000:1000:A Maker,,,:/home/maker:/usr/bin/fish
maker:x:2000:1000:another:/home/maker:/bin/false
empty:x:3:3::/:
`
	for _, c := range []struct{ name, uid, want string }{
		{"root", "0", "/bin/zsh"}, {"maker", "1000", "/usr/bin/fish"}, {"maker", "2000", "/bin/false"},
		{"empty", "3", ""}, {"broken", "1", ""}, {"nobody", "9", ""}, {"root", "1", ""},
	} {
		if got := shellOf(strings.NewReader(file), c.name, c.uid); got != c.want {
			t.Errorf("%s (%s): %q, want %q", c.name, c.uid, got, c.want)
		}
	}
	if got, err := findShell("somebody-without-an-entry", "1"); err != nil || !slices.Contains(fallbacks, got) {
		t.Errorf("without an entry: %q, %v", got, err)
	}
}

func TestTheEnvironmentIsALogins(t *testing.T) {
	getenv := func(set map[string]string) func(string) string { return func(k string) string { return set[k] } }
	for _, c := range []struct {
		l    login
		own  map[string]string
		want []string
	}{
		{login{name: "root", home: "/root", shell: "/bin/sh"}, nil, []string{"HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/sh", "PATH=" + rootPath, "TERM=xterm-256color", "LANG=C.UTF-8"}},
		{login{name: "root", home: "/root"}, map[string]string{"PATH": "/opt/bin", "LANG": "de_DE.UTF-8", "TZ": "Europe/Berlin", "SECRET": "x"}, []string{"PATH=/opt/bin", "LANG=de_DE.UTF-8", "TZ=Europe/Berlin"}},
		{login{name: "maker", uid: 1000, foreign: true}, map[string]string{"PATH": "/root/bin"}, []string{"PATH=" + userPath}},
		{login{name: "maker", uid: 1000}, map[string]string{"PATH": "/home/maker/bin"}, []string{"PATH=/home/maker/bin"}},
		{login{name: "maker", uid: 1000}, nil, []string{"PATH=" + userPath}},
	} {
		got := c.l.environment(getenv(c.own))
		for _, want := range c.want {
			if !slices.Contains(got, want) {
				t.Errorf("%+v: %q is missing in %q", c.l, want, got)
			}
		}
		if slices.ContainsFunc(got, func(v string) bool { return strings.HasPrefix(v, "SECRET") }) {
			t.Errorf("the agent's own variables are there: %q", got)
		}
	}
}

func TestAnUnknownUserIsNamed(t *testing.T) {
	_, err := findLogin("nobody-of-that-name")
	var told *protocol.Error
	if !errors.As(err, &told) || !strings.Contains(told.Text, `"nobody-of-that-name"`) || !strings.Contains(told.Text, "policy.terminal_user") {
		t.Errorf("%v, want the user and the policy's key", err)
	}
}

// asUser is this machine whose terminals are somebody's who has a shell.
type asUser struct{ system }

func (s asUser) device(context.Context) (shell, error) {
	l, err := findLogin(s.user)
	if err != nil {
		return nil, err
	}
	l.shell = "/bin/sh"
	return startLogin(l)
}

func TestAShellRunsAsTheUserOfThePolicy(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root becomes somebody else")
	}
	url, _ := testenv.Router(t, logins)
	m, _ := startDevice(t, url, "json", func(c *Config) { c.User = "daemon" })
	m.shells = asUser{system{user: "daemon"}}
	user := join(t, url, "3", "json", nil, nil)
	s := onDevice(t, m, user, "3")
	s.write("echo $(id -un):$(id -gn):$(id -G):$HOME; echo x > $(tty) && echo ow''ner\n")
	s.wait("daemon:daemon:1:/usr/sbin")
	s.wait("owner")
}

// Neither does the terminal wait for ever, nor is its session there for ever.
func TestAShellThatCannotBeEndedIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nobody := &ptyShell{root: proctree.Root{PID: 1 << 30}, exited: make(chan struct{})}
		if err := nobody.End(t.Context()); !errors.Is(err, proctree.ErrLeft) {
			t.Errorf("%v, want %v", err, proctree.ErrLeft)
		}
	})
}
