//go:build linux

package testenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
)

// A PrivateEngine is a Docker Engine of one test: its own processes, socket,
// data, bridge and subnet. It may be stopped, hung, killed and pruned. It leaves
// the machine's packet filter alone, so its published ports are served by its
// proxies alone, and its containers reach nothing but this machine.
//
// Its methods are for the test's goroutine.
type PrivateEngine struct {
	*Engine
	Dir string // everything of it; DataRoot is Dir/data

	bridge     string
	containerd *process
	dockerd    *process // nil while stopped
}

// NewPrivateEngine starts an engine, in about a second. It needs root, dockerd,
// containerd and ip.
func NewPrivateEngine(t testing.TB) *PrivateEngine {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "an engine of one's own needs root")
	}
	for _, tool := range []string{"dockerd", "containerd", "ip"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing(t, "an engine of one's own needs %s: %v", tool, err)
		}
	}
	// Not t.TempDir: the path of a socket has at most 107 bytes.
	dir, err := os.MkdirTemp("", "engine")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeMounted(t, dir) })

	e := &PrivateEngine{Engine: connect(t, "unix://"+filepath.Join(dir, "docker.sock")), Dir: dir}
	e.bridge = makeBridge(t)

	// Files of its own: those of the machine's engine are not for this one.
	config := filepath.Join(dir, "containerd.toml")
	for name, text := range map[string]string{
		config:              "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n",
		e.dockerdSettings(): "{}\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e.containerd = start(t, "containerd", filepath.Join(dir, "containerd.log"),
		"--config", config,
		"--root", filepath.Join(dir, "containerd"),
		"--state", filepath.Join(dir, "run"),
		"--address", e.containerdSocket())
	t.Cleanup(func() { e.containerd.end(t) })
	WaitFor(t, "containerd listens", func() bool {
		_, err := os.Stat(e.containerdSocket())
		return err == nil || e.containerd.dead()
	})
	t.Cleanup(e.close)
	e.Start()
	return e
}

func (e *PrivateEngine) containerdSocket() string { return filepath.Join(e.Dir, "c.sock") }
func (e *PrivateEngine) dockerdSettings() string  { return filepath.Join(e.Dir, "daemon.json") }

// Start starts the engine and waits until it answers.
func (e *PrivateEngine) Start() {
	e.t.Helper()
	if e.dockerd != nil {
		return
	}
	pidfile := filepath.Join(e.Dir, "docker.pid")
	os.Remove(pidfile) // a killed engine leaves it
	e.dockerd = start(e.t, "dockerd", filepath.Join(e.Dir, "dockerd.log"),
		"--host", e.Host,
		"--config-file", e.dockerdSettings(),
		"--data-root", filepath.Join(e.Dir, "data"),
		"--exec-root", filepath.Join(e.Dir, "exec"),
		"--pidfile", pidfile,
		"--containerd", e.containerdSocket(),
		"--bridge", e.bridge,
		"--iptables=false", "--ip6tables=false", "--ip-masq=false", "--ip-forward=false",
		"--shutdown-timeout", "5")
	WaitFor(e.t, "engine answers", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := e.API.Ping(ctx)
		return err == nil || e.dockerd.dead()
	})
	if e.dockerd.dead() {
		e.t.Fatalf("dockerd ended:\n%s", e.dockerd.tail())
	}
}

// Stop ends the engine in order; its containers end with it.
func (e *PrivateEngine) Stop() { e.stop(syscall.SIGTERM) }

// Kill ends the engine at once; its containers run on until it starts again.
func (e *PrivateEngine) Kill() { e.stop(syscall.SIGKILL) }

func (e *PrivateEngine) stop(how syscall.Signal) {
	if e.dockerd == nil {
		return
	}
	e.Continue()
	e.dockerd.signal(how)
	e.dockerd.wait(e.t)
	e.dockerd = nil
}

// Hang stops the engine in its tracks (SIGSTOP): it accepts connections and
// says nothing. It returns when the last thread stands still.
func (e *PrivateEngine) Hang() {
	e.t.Helper()
	e.dockerd.signal(syscall.SIGSTOP)
	tasks := filepath.Join("/proc", strconv.Itoa(e.dockerd.cmd.Process.Pid), "task", "*", "stat")
	WaitFor(e.t, "the engine stands still", func() bool {
		files, err := filepath.Glob(tasks)
		if err != nil || len(files) == 0 {
			return false
		}
		return !slices.ContainsFunc(files, func(file string) bool {
			stat, err := os.ReadFile(file) // "123 (dockerd) T …"
			_, rest, _ := bytes.Cut(stat, []byte(") "))
			return err != nil || !bytes.HasPrefix(rest, []byte("T"))
		})
	})
}

// Continue ends a Hang.
func (e *PrivateEngine) Continue() { e.dockerd.signal(syscall.SIGCONT) }

// close removes all containers while there is an engine that can.
func (e *PrivateEngine) close() {
	if e.containerd.dead() {
		e.t.Errorf("containerd ended:\n%s", e.containerd.tail())
		return
	}
	if e.dockerd != nil {
		e.Continue()
	}
	e.Start()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	containers, err := e.API.ContainerList(ctx, container.ListOptions{All: true})
	for _, c := range containers {
		err = errors.Join(err, e.API.ContainerRemove(ctx, c.ID, container.RemoveOptions{Force: true}))
	}
	if err != nil {
		e.t.Errorf("clean up the private engine: %v\n%s", err, e.dockerd.tail())
	}
	e.Stop()
}

// A process is one that a test started, with its output in a file.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
}

// start runs a program that dies with the test's process.
func start(t testing.TB, name, log string, args ...string) *process {
	t.Helper()
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(name, args...), log: log, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	started := make(chan error)
	go func() {
		// The signal comes when the *thread* ends that started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer out.Close()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	return p
}

func (p *process) signal(s syscall.Signal) {
	if !p.dead() {
		p.cmd.Process.Signal(s)
	}
}

func (p *process) dead() bool { return isDone(p.done) }

// wait waits for the end, and enforces it after half a minute.
func (p *process) wait(t testing.TB) {
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		t.Errorf("%s does not end:\n%s", p.cmd.Path, p.tail())
		p.cmd.Process.Kill()
		<-p.done
	}
}

func (p *process) end(t testing.TB) {
	p.signal(syscall.SIGTERM)
	p.wait(t)
}

// tail is the end of what it printed.
func (p *process) tail() string {
	text, _ := os.ReadFile(p.log)
	lines := strings.Split(string(bytes.TrimSpace(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// makeBridge makes a bridge with a subnet that nobody uses.
func makeBridge(t testing.TB) (name string) {
	t.Helper()
	subnet := freeSubnet(t)
	name = fmt.Sprintf("rt%08x", rand.Uint32())
	ip := func(args ...string) {
		t.Helper()
		if text, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, text)
		}
	}
	ip("link", "add", name, "type", "bridge")
	t.Cleanup(func() { ip("link", "del", name) })
	ip("addr", "add", netip.PrefixFrom(subnet.Addr().Next(), subnet.Bits()).String(), "dev", name)
	ip("link", "set", name, "up")
	return name
}

func freeSubnet(t testing.TB) netip.Prefix {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(200 + rand.N(50)), byte(rand.N(256)), 0}), 24)
		free := true
		for _, a := range addrs {
			used, err := netip.ParsePrefix(a.String())
			free = free && (err != nil || !used.Overlaps(subnet))
		}
		if free {
			return subnet
		}
	}
	t.Fatal("no free subnet in 10.200.0.0/10")
	return netip.Prefix{}
}

// removeMounted removes a folder in which an engine may have left mounts.
func removeMounted(t testing.TB, dir string) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Error(err)
	}
	var inside []string
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[1], dir+"/") {
			inside = append(inside, fields[1])
		}
	}
	for i := len(inside) - 1; i >= 0; i-- { // the inner ones first
		if err := syscall.Unmount(inside[i], syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", inside[i], err)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Error(err)
	}
}
