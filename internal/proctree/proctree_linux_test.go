package proctree

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// program starts a shell that leads its session, and reads the numbers that it
// prints: one a line, so many.
func program(t *testing.T, script string, numbers int) (Root, []int) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	root, err := Of(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	pids := []int{}
	lines := bufio.NewScanner(out)
	for len(pids) < numbers && lines.Scan() {
		pid, err := strconv.Atoi(strings.TrimSpace(lines.Text()))
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	t.Cleanup(func() {
		for _, pid := range append(pids, root.PID) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		_ = cmd.Wait()
	})
	return root, pids
}

func running(pid int) bool {
	p, err := look(pid)
	return err == nil && !p.ended
}

func TestEverythingThatAProgramStartedEnds(t *testing.T) {
	for what, script := range map[string]string{
		"in the background":     `sleep 300 & echo $!; sleep 300 & echo $!; wait`,
		"behind its parent":     `sh -c 'sleep 300 & echo $!'; sleep 300 & echo $!; exit 0`,
		"in another session":    `setsid sh -c 'echo $$; sleep 300 & echo $!; wait' & wait`,
		"deaf to SIGTERM":       `trap "" TERM; sh -c 'echo $$; while :; do sleep 300; done' & sleep 300 & echo $!; wait`,
		"stopped":               `sleep 300 & echo $!; kill -STOP $!; sleep 300 & echo $!; wait`,
		"an orphan by SIGTERM":  `setsid sleep 300 & echo $!; trap "exit 0" TERM; sleep 300 & echo $!; wait`,
		"more of them than one": `i=0; while [ $i -lt 20 ]; do sleep 300 & i=$((i+1)); done; echo $!; echo $!; wait`,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			root, pids := program(t, script, 2)
			if !root.Alive(nil) || what != "behind its parent" && !root.Runs() {
				t.Fatal("it does not run")
			}
			if err := root.End(t.Context(), 300*time.Millisecond, nil); err != nil {
				t.Errorf("End = %v", err)
			}
			for _, pid := range append(pids, root.PID) {
				if running(pid) {
					t.Errorf("process %d runs", pid)
				}
			}
			if root.Alive(nil) || root.Runs() {
				t.Error("Alive after its end")
			}
		})
	}
}

func TestAMarkFindsThoseWhoBelongToNobody(t *testing.T) {
	const mark = "PROCTREE_TEST=a mark"
	_, pids := program(t, `PROCTREE_TEST="a mark" setsid sh -c 'sleep 300 & echo $!'; PROCTREE_TEST="a marker" sleep 300 & echo $!; wait`, 2)
	if err := EndMarked(t.Context(), mark, time.Second); err != nil || running(pids[0]) || !running(pids[1]) {
		t.Errorf("EndMarked = %v; run: %t and %t, want only the second", err, running(pids[0]), running(pids[1]))
	}
}

func TestAnEndOfAllFindsDaemonsByTheirMark(t *testing.T) {
	const mark = "PROCTREE_TEST=of a program"
	script := `export PROCTREE_TEST="of a program"
(setsid sh -c 'trap "" TERM; echo $$; env -u PROCTREE_TEST sleep 300 & echo $!; wait' &)
(PROCTREE_TEST=anothers setsid sh -c 'echo $$; exec sleep 300' &)
sleep 300`
	root, pids := program(t, script, 3)
	daemon, child, stranger := 0, 0, 0
	for _, pid := range pids { // they start at once
		p, err := look(pid)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case hasEntry(pid, "PROCTREE_TEST=anothers"):
			stranger = pid
		case p.session == pid:
			daemon = pid
		default:
			child = pid
		}
	}
	if daemon == 0 || child == 0 || stranger == 0 {
		t.Fatalf("processes %v are not those of the script", pids)
	}
	if err := root.EndAll(t.Context(), mark, time.Second, func(pid int) bool { return pid == root.PID }); err != nil || running(root.PID) || !running(daemon) {
		t.Errorf("EndAll = %v; run: root %t, daemon %t, want the one for which it does not hold only", err, running(root.PID), running(daemon))
	}
	if err := root.EndAll(t.Context(), mark, 300*time.Millisecond, nil); err != nil {
		t.Errorf("EndAll = %v", err)
	}
	if running(daemon) || running(child) || running(root.PID) || !running(stranger) {
		t.Errorf("run: daemon %t, its child %t, root %t, another's %t, want the last only",
			running(daemon), running(child), running(root.PID), running(stranger))
	}
}

// asMarked is in the environment of this test's binary when it is a program that was
// started with a mark, and ends the others that were.
const asMarked = "PROCTREE_TEST_ENDS"

func TestMain(m *testing.M) {
	if mark := os.Getenv(asMarked); mark != "" {
		child := exec.Command("sleep", "300")
		err := child.Start()
		if err == nil {
			err = errors.Join(EndMarked(context.Background(), mark, time.Second), child.Process.Signal(syscall.Signal(0)))
			if !running(child.Process.Pid) {
				err = errors.Join(err, errors.New("its child has ended"))
			}
			_ = child.Process.Kill()
			_ = child.Wait()
		}
		fmt.Println(err)
		return
	}
	os.Exit(m.Run())
}

func TestAMarkSparesWhoLooksForItAndWhatBelongsToIt(t *testing.T) {
	const mark = "PROCTREE_TEST=inherited"
	parent := exec.Command("/bin/sh", "-c", `sleep 300 >/dev/null & echo $!; "$0"; echo its parent lives`, os.Args[0])
	parent.Env = append(os.Environ(), mark, asMarked+"="+mark)
	out, err := parent.Output()
	first, rest, _ := strings.Cut(string(out), "\n")
	sleeper, _ := strconv.Atoi(first)
	if err != nil || rest != "<nil>\nits parent lives\n" {
		t.Errorf("%q, %v, want that all live that belong to it", out, err)
	}
	if sleeper <= 1 || running(sleeper) {
		t.Errorf("process %d runs, want only those who belong to it to live", sleeper)
	}
}

func TestOnlyThoseForWhichItHoldsAreTouched(t *testing.T) {
	root, pids := program(t, `sleep 300 & echo $!; sleep 300 & echo $!; wait`, 2)
	spared := pids[1]
	if err := root.End(t.Context(), time.Second, func(pid int) bool { return pid != spared }); err != nil {
		t.Errorf("End = %v", err)
	}
	if running(pids[0]) || !running(spared) {
		t.Errorf("runs: %t and %t, want only the second", running(pids[0]), running(spared))
	}
}

func TestANumberThatIsSomebodyElsesByNowIsLeftAlone(t *testing.T) {
	root, _ := program(t, `echo $$; exec sleep 300`, 1)
	stranger := Root{PID: root.PID, Start: root.Start - 1}
	if stranger.Alive(nil) || stranger.Runs() {
		t.Error("a process that started later is taken for it")
	}
	if err := stranger.End(t.Context(), time.Second, nil); err != nil || !running(root.PID) {
		t.Errorf("End = %v, and it runs: %t", err, running(root.PID))
	}
}

func TestNobodyBelongsToNoProgram(t *testing.T) {
	for _, pid := range []int{-1, 0, 1} {
		if root := (Root{PID: pid}); root.Alive(nil) {
			t.Errorf("process %d is taken for a program's", pid)
		}
	}
}

func TestAnEndThatIsCutShortKills(t *testing.T) {
	root, _ := program(t, `trap "" TERM; echo $$; while :; do sleep 300; done`, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := root.End(ctx, time.Hour, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("End = %v, want its context's end", err)
	}
	late := time.After(20 * time.Second)
	for running(root.PID) {
		select {
		case <-time.After(time.Millisecond):
		case <-late:
			t.Fatal("it runs")
		}
	}
}

func TestNamesOfProcessesCannotMisleadTheReader(t *testing.T) {
	for stat, want := range map[string]process{
		"7 (x) S 1 2 3 0 -1 4 5 6 7 8 9 10 11 12 20 0 1 0 99 1\n":               {parent: 1, session: 3, start: 99},
		"7 (a) Z 9 9 9 (b) Z 1 2 3 0 -1 4 5 6 7 8 9 10 11 12 20 0 1 0 99 1 2 3": {parent: 1, session: 3, start: 99, ended: true},
	} {
		if got, err := parse([]byte(stat)); err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", stat, got, err, want)
		}
	}
	for _, stat := range []string{"", "7", "7 (x", "7 (x) S 1 2", "7 (x) S a 2 3 0 -1 4 5 6 7 8 9 10 11 12 20 0 1 0 99"} {
		if got, err := parse([]byte(stat)); err == nil {
			t.Errorf("%q is read as %+v", stat, got)
		}
	}
	if self, err := Of(os.Getpid()); err != nil || self.Start == 0 {
		t.Errorf("of ourselves: %+v, %v", self, err)
	}
}
