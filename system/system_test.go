package system

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"reagent/protocol"
)

// files makes a machine of these files and folders (a name that ends in a slash).
func files(t *testing.T, content map[string]string) *Host {
	t.Helper()
	root := t.TempDir()
	for name, text := range content {
		path := filepath.Join(root, filepath.FromSlash(name))
		dir := path
		if !strings.HasSuffix(name, "/") {
			dir = filepath.Dir(path)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if dir != path {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return at(root)
}

func TestOSNamesDistributionAndKernel(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reads Linux's files")
	}
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"debian with its point release": {map[string]string{
			"etc/os-release":     "PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nVERSION_ID=\"13\"\nID=debian\n",
			"etc/debian_version": "13.3\n", "proc/sys/kernel/osrelease": "6.1.0-28-amd64\n",
		}, "linux debian 13.3 6.1.0-28-amd64"},
		"ubuntu, which has debian's file too": {map[string]string{
			"etc/os-release":     "ID=ubuntu\nID_LIKE=debian\nVERSION_ID='24.04'\n",
			"etc/debian_version": "trixie/sid\n",
		}, "linux ubuntu 24.04"},
		"vendor's folder only": {map[string]string{"usr/lib/os-release": "# made by hand\nID=buildroot\nVERSION_ID=2024.02\n"}, "linux buildroot 2024.02"},
		"rubbish":              {map[string]string{"etc/os-release": "\x00=\n===\n\"\nID\n"}, "linux"},
		"nothing":              {nil, "linux"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := files(t, c.files).OS(); got != c.want {
				t.Errorf("OS() = %q, want %q", got, c.want)
			}
		})
	}
	if parts := strings.Fields(New().OS()); len(parts) < 2 || parts[0] != "linux" {
		t.Errorf("OS() of this machine = %q, want linux, a distribution and a kernel", parts)
	}
}

func TestGPUIsFoundInEachOfItsPlaces(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  bool
	}{
		"folder":        {map[string]string{"usr/lib/nvidia/": ""}, true},
		"linker cache":  {map[string]string{"etc/ld.so.cache": "ld.so-1.7.0\x00libc.so.6\x00libnvidia-ml.so.1\x00"}, true},
		"board":         {map[string]string{"proc/device-tree/model": "NVIDIA Jetson Nano\x00"}, true},
		"another board": {map[string]string{"proc/device-tree/model": "Raspberry Pi 4 Model B\x00", "etc/ld.so.cache": "libc.so.6"}, false},
		"nothing":       {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := files(t, c.files).GPU(); got != c.want {
				t.Errorf("GPU() = %v, want %v", got, c.want)
			}
		})
	}
}

func TestGPUIsLookedForAgain(t *testing.T) {
	h := files(t, nil)
	synctest.Test(t, func(t *testing.T) {
		if h.GPU() {
			t.Fatal("GPU() = true on an empty machine")
		}
		if err := os.MkdirAll(h.path("/usr/lib/nvidia"), 0o755); err != nil {
			t.Fatal(err)
		}
		time.Sleep(fresh) // the bubble's clock
		if !h.GPU() {
			t.Error("GPU() = false after its driver was installed")
		}
	})
}

func TestSharedPathsAreThoseThatExist(t *testing.T) {
	if got := files(t, nil).SharedPaths(); got == nil || len(got) != 0 {
		t.Errorf("SharedPaths() = %#v, want none", got)
	}
	got := files(t, map[string]string{"usr/local/cuda/": "", "sys/bus/w1/devices/": ""}).SharedPaths()
	if want := []string{"/sys/bus/w1/devices", "/usr/local/cuda"}; !slices.Equal(got, want) {
		t.Errorf("SharedPaths() = %q, want %q", got, want)
	}
}

func TestStatsOfThisMachineMakeSense(t *testing.T) {
	h := New()
	var all sync.WaitGroup
	for range 8 { // heartbeat and procedures ask at the same time
		all.Go(func() { h.Stats(t.Context()) })
	}
	all.Wait()
	s := h.Stats(t.Context())
	if s.CPUCount < 1 || s.CPUUsage < 0 || s.CPUUsage > 100 {
		t.Errorf("cpu = %d × %v %%", s.CPUCount, s.CPUUsage)
	}
	if s.MemoryTotal == 0 || s.MemoryUsed == 0 || s.MemoryUsed > s.MemoryTotal || s.MemoryAvailable > s.MemoryTotal {
		t.Errorf("memory = %+v", s)
	}
	if s.StorageTotal == 0 || s.StorageUsed+s.StorageFree > s.StorageTotal {
		t.Errorf("storage = %+v", s)
	}
}

func TestDockerAppsAreZeroWhereThereIsNoSuchFolder(t *testing.T) {
	s := files(t, nil).Stats(t.Context())
	if s.DockerAppsTotal != 0 || s.DockerAppsFree != 0 || s.DockerAppsUsed != 0 || s.DockerAppsMounted {
		t.Errorf("docker apps = %+v, want zeros", s)
	}
	s = files(t, map[string]string{"opt/reagent/docker-apps/": ""}).Stats(t.Context())
	if s.DockerAppsTotal == 0 || s.DockerAppsMounted {
		t.Errorf("docker apps on the same file system: total %d, mounted %v", s.DockerAppsTotal, s.DockerAppsMounted)
	}
}

func TestCPUUsageIsTheDifferenceBetweenTwoLooks(t *testing.T) {
	var m meter
	now := time.Unix(1000, 0)
	for _, c := range []struct {
		claim string
		t     cpuTime
		want  float64
	}{
		{"first look: since the start of the machine", cpuTime{20, 100}, 20},
		{"half busy since", cpuTime{25, 110}, 50},
		{"idle since", cpuTime{25, 120}, 0},
		{"no time passed", cpuTime{25, 120}, 0},
		{"counters began anew", cpuTime{3, 10}, 30},
	} {
		now = now.Add(time.Minute)
		m.look(now, c.t)
		if m.value != c.want {
			t.Errorf("%s: %v %%, want %v %%", c.claim, m.value, c.want)
		}
	}
}

func network(t *testing.T, cidr string) *net.IPNet {
	t.Helper()
	p := netip.MustParsePrefix(cidr)
	bits := 32
	ip := net.IP(p.Addr().AsSlice())
	if p.Addr().Is6() {
		bits = 128
	}
	return &net.IPNet{IP: ip, Mask: net.CIDRMask(p.Bits(), bits)}
}

func TestAddressesAreListedAsTheContractHas(t *testing.T) {
	list := []iface{
		{name: "lo", up: true, loops: true, addrs: []*net.IPNet{network(t, "127.0.0.1/8"), network(t, "::1/128")}},
		{name: "docker0", up: true, addrs: []*net.IPNet{network(t, "172.17.0.1/16")}},
		{name: "br-1a2b", up: true, addrs: []*net.IPNet{network(t, "172.18.0.1/16")}},
		{name: "veth77", up: true, addrs: []*net.IPNet{network(t, "169.254.3.4/16")}},
		{name: "wlan0", addrs: []*net.IPNet{network(t, "10.9.9.9/24")}}, // down
		{name: "eth0", up: true, addrs: []*net.IPNet{network(t, "fe80::1/64"), network(t, "192.168.1.7/24")}},
	}
	want := []protocol.InterfaceAddress{
		{InterfaceName: "br-1a2b", IP: "172.18.0.1"}, {InterfaceName: "veth77", IP: "169.254.3.4"},
		{InterfaceName: "wlan0", IP: "10.9.9.9"}, {InterfaceName: "eth0", IP: "192.168.1.7"},
	}
	if got := ipv4Addresses(list); !slices.Equal(got, want) {
		t.Errorf("ipv4Addresses = %v, want %v", got, want)
	}
	all := addresses(list)
	if len(all) != 8 {
		t.Fatalf("addresses: %d, want all 8", len(all))
	}
	if last := all[7]; last.IP != "192.168.1.7" || !slices.Equal(last.Mask, []byte{255, 255, 255, 0}) {
		t.Errorf("addresses: last is %v", last)
	}
	if got := firstLANIP(list); got != "192.168.1.7" {
		t.Errorf("firstLANIP = %q, want the one of a real interface that is up", got)
	}
	for name, got := range map[string]int{
		"addresses": len(addresses(nil)), "ipv4Addresses": len(ipv4Addresses(nil)), "firstLANIP": len(firstLANIP(nil)),
	} {
		if got != 0 {
			t.Errorf("%s of no interfaces is not empty", name)
		}
	}
	if addresses(nil) == nil || ipv4Addresses(nil) == nil {
		t.Error("no addresses are nil, want an empty list")
	}
}

func TestThisMachineHasAddresses(t *testing.T) {
	h := New()
	all, err := h.Addresses()
	if err != nil || len(all) == 0 {
		t.Fatalf("Addresses() = %v, %v; want at least loopback", all, err)
	}
	own, err := h.IPv4Addresses()
	if err != nil {
		t.Fatal(err)
	}
	if ip := h.PrimaryLANIP(); ip != "" {
		if a, err := netip.ParseAddr(ip); err != nil || !a.Is4() || a.IsLoopback() {
			t.Errorf("PrimaryLANIP() = %q, want an IPv4 address of the network", ip)
		}
		if !slices.ContainsFunc(own, func(a protocol.InterfaceAddress) bool { return a.IP == ip }) {
			t.Errorf("PrimaryLANIP() = %q is none of %v", ip, own)
		}
	}
	if got := routeSource("127.0.0.1:9"); got != "" {
		t.Errorf("routeSource(loopback) = %q, want none", got)
	}
}
