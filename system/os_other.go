//go:build !linux

package system

import (
	"context"
	"time"

	"github.com/shirou/gopsutil/v4/host"
)

func (*Host) platform() (name, version string) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	name, _, version, _ = host.PlatformInformationWithContext(ctx)
	return name, version
}

func (*Host) kernel() string {
	version, _ := host.KernelVersion()
	return version
}
