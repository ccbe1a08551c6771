package terminal

import (
	"errors"
	"sync"
	"testing"
)

func TestTheBestShellOfWindowsIsTaken(t *testing.T) {
	const program = `C:\Program Files\PowerShell\7\pwsh.exe`
	for _, c := range []struct {
		there map[string]string
		want  string
	}{
		{map[string]string{"pwsh.exe": program, "cmd.exe": `C:\Windows\cmd.exe`}, `"` + program + `" -NoLogo`},
		{map[string]string{"powershell.exe": `C:\Windows\powershell.exe`, "cmd.exe": `C:\Windows\cmd.exe`}, `"C:\Windows\powershell.exe" -NoLogo`},
		{map[string]string{"cmd.exe": `\\share\cmd.exe`}, `"\\share\cmd.exe"`},
		{map[string]string{"pwsh.exe": `pwsh.exe`, "cmd.exe": `C:/Windows/cmd.exe`}, `"C:/Windows/cmd.exe"`},
		{map[string]string{"pwsh.exe": `C:\a" & calc "\pwsh.exe`}, ``},
		{nil, ``},
	} {
		got, ok := windowsCommand(func(name string) (string, error) {
			if path, ok := c.there[name]; ok {
				return path, nil
			}
			return "", errors.New("not found")
		})
		if got != c.want || ok != (c.want != "") {
			t.Errorf("%v: %s, %v, want %s", c.there, got, ok, c.want)
		}
	}
}

func TestHandlesAreFreedOnceAndByTheLast(t *testing.T) {
	freed := 0
	u := &users{free: func() { freed++ }}
	for range 2 {
		if !u.enter() {
			t.Fatal("nobody gets in")
		}
	}
	u.leave()
	u.close()
	u.close()
	if freed != 0 || u.enter() {
		t.Errorf("freed %d times while somebody is inside, or let in after the end", freed)
	}
	u.leave()
	u.close()
	if freed != 1 {
		t.Errorf("freed %d times, want once", freed)
	}

	freed = 0
	u = &users{free: func() { freed++ }}
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if u.enter() {
				u.leave()
			}
		})
		all.Go(u.close)
	}
	if all.Wait(); freed != 1 {
		t.Errorf("freed %d times, want once", freed)
	}
}
