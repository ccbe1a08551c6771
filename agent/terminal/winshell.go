package terminal

import (
	"path/filepath"
	"strings"
	"sync"
)

// What is decided about shells of Windows is here, where it is tested on every
// system; conpty_windows.go only carries it out.

// windowsShells are what is looked for, the best first, with the arguments that
// keep them from greeting.
var windowsShells = []struct{ name, args string }{
	{"pwsh.exe", "-NoLogo"},
	{"powershell.exe", "-NoLogo"},
	{"cmd.exe", ""},
}

// windowsCommand is the command line of the best shell that find finds.
func windowsCommand(find func(name string) (path string, err error)) (line string, ok bool) {
	for _, s := range windowsShells {
		path, err := find(s.name)
		if err != nil || strings.ContainsRune(path, '"') {
			continue
		}
		if !filepath.IsAbs(path) && !windowsAbs(path) { // never one of the folder that it begins in
			continue
		}
		return strings.TrimSpace(`"` + path + `" ` + s.args), true
	}
	return "", false
}

// windowsAbs reports whether a path begins at a drive or a share.
func windowsAbs(path string) bool {
	return len(path) > 2 && path[1] == ':' && (path[2] == '\\' || path[2] == '/') || strings.HasPrefix(path, `\\`)
}

// users guards a console whose handles may only be closed when nobody uses them
// any more: Windows gives their numbers to others at once.
type users struct {
	mu     sync.Mutex
	inside int
	closed bool
	free   func() // closes the handles
}

// enter reports whether the console is still open; then leave has to follow.
func (u *users) enter() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return false
	}
	u.inside++
	return true
}

func (u *users) leave() {
	u.mu.Lock()
	u.inside--
	last := u.closed && u.inside == 0
	u.mu.Unlock()
	if last {
		u.free()
	}
}

// close lets nobody in any more; the last one to leave frees the handles.
func (u *users) close() {
	u.mu.Lock()
	first := !u.closed
	u.closed = true
	last := first && u.inside == 0
	u.mu.Unlock()
	if last {
		u.free()
	}
}
