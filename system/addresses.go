package system

import (
	"net"
	"strings"
	"time"

	"reagent/protocol"
)

// An iface is a network interface with its addresses.
type iface struct {
	name      string
	up, loops bool
	addrs     []*net.IPNet
}

func interfaces() ([]iface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	list := make([]iface, 0, len(all))
	for _, i := range all {
		addrs, err := i.Addrs()
		if err != nil { // gone since
			continue
		}
		f := iface{name: i.Name, up: i.Flags&net.FlagUp != 0, loops: i.Flags&net.FlagLoopback != 0}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok {
				f.addrs = append(f.addrs, n)
			}
		}
		list = append(list, f)
	}
	return list, nil
}

// Addresses lists every address of every interface, loopback included, in the
// form of get_network_metadata (wire §5.3). Never nil.
func (*Host) Addresses() ([]protocol.NetworkAddress, error) {
	list, err := interfaces()
	if err != nil {
		return nil, err
	}
	return addresses(list), nil
}

func addresses(list []iface) []protocol.NetworkAddress {
	out := []protocol.NetworkAddress{}
	for _, i := range list {
		for _, a := range i.addrs {
			out = append(out, protocol.NetworkAddress{IP: a.IP.String(), Mask: a.Mask})
		}
	}
	return out
}

// IPv4Addresses lists the machine's own IPv4 addresses with their interfaces, in
// the form of get_ipv4_addresses (wire §5.3): not loopback, not the engine's
// networks. Never nil.
func (*Host) IPv4Addresses() ([]protocol.InterfaceAddress, error) {
	list, err := interfaces()
	if err != nil {
		return nil, err
	}
	return ipv4Addresses(list), nil
}

func ipv4Addresses(list []iface) []protocol.InterfaceAddress {
	out := []protocol.InterfaceAddress{}
	for _, i := range list {
		if strings.Contains(i.name, "docker") {
			continue
		}
		for _, a := range i.addrs {
			ip := a.IP.To4()
			if ip == nil || ip.IsUnspecified() || ip.Equal(net.IPv4(127, 0, 0, 1)) {
				continue
			}
			out = append(out, protocol.InterfaceAddress{InterfaceName: i.name, IP: ip.String()})
		}
	}
	return out
}

// PrimaryLANIP is the address by which the local network reaches this machine
// (life §3.4): the IPv4 source of the default route, else the first address of a
// real interface; "" where there is none.
func (h *Host) PrimaryLANIP() string { return h.lanIP.get(findLANIP) }

func findLANIP() string {
	if ip := routeSource("8.8.8.8:80"); ip != "" {
		return ip
	}
	list, err := interfaces()
	if err != nil {
		return ""
	}
	return firstLANIP(list)
}

// routeSource asks the routing table which address packets to an address would
// come from. Connecting a UDP socket sends none.
func routeSource(to string) string {
	c, err := net.DialTimeout("udp4", to, time.Second)
	if err != nil {
		return ""
	}
	defer c.Close()
	a, ok := c.LocalAddr().(*net.UDPAddr)
	if !ok || a.IP.IsUnspecified() || a.IP.IsLoopback() {
		return ""
	}
	return a.IP.String()
}

func firstLANIP(list []iface) string {
	for _, i := range list {
		if !i.up || i.loops || isVirtual(i.name) {
			continue
		}
		for _, a := range i.addrs {
			if ip := a.IP.To4(); ip != nil && !ip.IsLoopback() && !ip.IsUnspecified() {
				return ip.String()
			}
		}
	}
	return ""
}

// isVirtual reports whether an interface is one of the engine's networks.
func isVirtual(name string) bool {
	return strings.Contains(name, "docker") || strings.HasPrefix(name, "veth") || strings.HasPrefix(name, "br-")
}
