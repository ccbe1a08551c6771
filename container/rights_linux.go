package container

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// listener finds the process that listens on a socket. Under systemd's socket
// activation that is systemd, from which the engine inherited what we ask for.
// One that is not of our namespace, because the agent runs in a container, has
// no id.
func listener(ctx context.Context, socket string) (pid int, err error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var peer *syscall.Ucred
	var peerErr error
	if err := raw.Control(func(fd uintptr) {
		peer, peerErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil || peerErr != nil {
		return 0, errors.Join(err, peerErr)
	}
	if peer.Pid == 0 {
		return 0, fmt.Errorf("whoever listens on %s is out of sight", socket)
	}
	return int(peer.Pid), nil
}

// boundingSet reads the capability bounding set of the process that listens on
// a socket.
func boundingSet(ctx context.Context, socket string) (uint64, error) {
	pid, err := listener(ctx, socket)
	if err != nil {
		return 0, err
	}
	path := fmt.Sprintf("/proc/%d/status", pid)
	status, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "CapBnd:"); ok {
			return strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		}
	}
	return 0, fmt.Errorf("no CapBnd in %s", path)
}
