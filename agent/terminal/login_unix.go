//go:build unix

package terminal

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"reagent/protocol"
)

// A login is what a person gets who logs in at this machine.
type login struct {
	name, home, shell string
	uid, gid          uint32
	groups            []uint32
	foreign           bool // another user than the agent's own
}

// passwd is where users and their shells are.
const passwd = "/etc/passwd"

// fallbacks are the shells of somebody whose own is not there.
var fallbacks = []string{"/bin/bash", "/usr/bin/bash", "/bin/zsh", "/bin/sh", "/system/bin/sh"}

// findLogin looks a user up; "" is the agent's own.
func findLogin(name string) (login, error) {
	own := os.Geteuid()
	u, err := user.Current()
	if name != "" {
		u, err = user.Lookup(name)
	}
	switch {
	case err != nil && name != "":
		return login{}, noUser(fmt.Sprintf("the user %q of the device's terminals is unknown here (policy.terminal_user): %v", name, err))
	case err != nil: // a user without an entry, as in a small container
		u = &user.User{Uid: strconv.Itoa(own), Gid: strconv.Itoa(os.Getegid()), HomeDir: os.Getenv("HOME"), Username: os.Getenv("USER")}
	}
	l := login{name: u.Username, home: u.HomeDir}
	for _, id := range []struct {
		text string
		to   *uint32
	}{{u.Uid, &l.uid}, {u.Gid, &l.gid}} {
		n, err := strconv.ParseUint(id.text, 10, 32)
		if err != nil {
			return login{}, fmt.Errorf("user %s: %w", u.Username, err)
		}
		*id.to = uint32(n)
	}
	l.foreign = int(l.uid) != own
	if l.foreign && own != 0 {
		return login{}, noUser(fmt.Sprintf("the device's terminals are for the user %q (policy.terminal_user), which the agent may not become: it does not run as root", name))
	}
	groups, _ := u.GroupIds() // a user without an entry is in its own group only
	for _, text := range groups {
		if n, err := strconv.ParseUint(text, 10, 32); err == nil {
			l.groups = append(l.groups, uint32(n))
		}
	}
	if l.shell, err = findShell(u.Username, u.Uid); err != nil {
		return login{}, err
	}
	if info, err := os.Stat(l.home); err != nil || !info.IsDir() {
		l.home = "/"
	}
	return l, nil
}

func noUser(text string) error { return &protocol.Error{Code: protocol.CodeNotFound, Text: text} }

// findShell finds a user's login shell, or the best there is.
func findShell(name, uid string) (string, error) {
	own := ""
	if f, err := os.Open(passwd); err == nil {
		own = shellOf(f, name, uid)
		f.Close()
	}
	for _, shell := range append([]string{own}, fallbacks...) {
		if info, err := os.Stat(shell); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return shell, nil
		}
	}
	return "", &protocol.Error{Code: protocol.CodeNotFound, Text: "there is no shell on this device"}
}

// shellOf reads the last field of a user's line: name:password:uid:gid:comment:home:shell.
func shellOf(passwd io.Reader, name, uid string) string {
	lines := bufio.NewScanner(passwd)
	for lines.Scan() {
		fields := strings.Split(lines.Text(), ":")
		if len(fields) == 7 && fields[0] == name && fields[2] == uid {
			return fields[6]
		}
	}
	return ""
}

// Paths of programs where the environment says none.
const (
	rootPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	userPath = "/usr/local/bin:/usr/bin:/bin"
)

// environment is what the shell begins with; getenv is the agent's own.
func (l login) environment(getenv func(string) string) []string {
	path := getenv("PATH")
	switch {
	case l.uid != 0 && (l.foreign || path == ""):
		path = userPath
	case path == "":
		path = rootPath
	}
	lang := getenv("LANG")
	if lang == "" {
		lang = "C.UTF-8"
	}
	env := []string{
		"HOME=" + l.home, "USER=" + l.name, "LOGNAME=" + l.name, "SHELL=" + l.shell,
		"PATH=" + path, "TERM=" + terminalType, "LANG=" + lang,
	}
	if zone := getenv("TZ"); zone != "" {
		env = append(env, "TZ="+zone)
	}
	return env
}

// credential is whom the shell runs as; nil for the agent's own user.
func (l login) credential() *syscall.Credential {
	if !l.foreign {
		return nil
	}
	return &syscall.Credential{Uid: l.uid, Gid: l.gid, Groups: l.groups}
}

// mayNotStart says in words for people why a shell does not start.
func (l login) mayNotStart(err error) error {
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("start %s as %s (policy.terminal_user): %w", l.shell, l.name, err)
	}
	return fmt.Errorf("start %s: %w", l.shell, err)
}
