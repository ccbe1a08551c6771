package backend

import (
	"context"
	"net/url"
	"strings"

	"reagent/protocol"
	"reagent/studio/store"
)

func (b *Backend) addDevice(_ context.Context, _ caller, in protocol.AddDevice) (protocol.DeviceAdded, error) {
	d, err := b.store.AddDevice(in.Name, in.SerialNumber, in.Architecture)
	if err != nil {
		return protocol.DeviceAdded{}, err
	}
	file, err := b.deviceFile(d)
	return protocol.DeviceAdded{Device: b.deviceRow(d), File: file}, err
}

// deviceFile makes the file with which a device comes to this studio.
func (b *Backend) deviceFile(d store.Device) (protocol.DeviceFileContent, error) {
	project, owner, err := b.store.Project(d.SwarmKey)
	if err != nil {
		return protocol.DeviceFileContent{}, err
	}
	endpoint, registry, _ := b.outside()
	return protocol.DeviceFileContent{
		Name: d.Name, Secret: d.Secret, Board: map[string]any{"model": ""}, Status: string(protocol.Disconnected),
		SwarmKey: d.SwarmKey, DeviceKey: d.Key, SwarmName: project.Name, SwarmOwnerName: owner,
		Architecture: d.Architecture, SerialNumber: d.SerialNumber, Authentication: map[string]string{"key": "", "certificate": ""},
		DeviceEndpointURL: endpoint, Environment: "production",
		DockerRegistryURL: registry, DockerMainRepository: protocol.MainRepository,
	}, nil
}

// outside is the studio's router and registry as devices reach them, and whether
// the registry speaks plain HTTP.
func (b *Backend) outside() (endpoint, registry string, insecure bool) {
	u, err := url.Parse(b.cfg.Address.URL)
	if err != nil {
		return "", "", false
	}
	insecure = u.Scheme == "http"
	return "ws" + strings.TrimPrefix(u.Scheme, "http") + "://" + u.Host + "/ws-re-dev", u.Host + "/", insecure
}

func (b *Backend) listDevices(_ context.Context, c caller, _ nothing) (protocol.DeviceList, error) {
	all, err := b.store.Devices()
	out := protocol.DeviceList{Devices: []protocol.DeviceRow{}}
	for _, d := range all {
		if c.system || b.store.May(c.account.Key, d.Key, protocol.Read) {
			out.Devices = append(out.Devices, b.deviceRow(d))
		}
	}
	return out, err
}

func (b *Backend) removeDevice(ctx context.Context, _ caller, in protocol.DeviceArgs) (protocol.DeviceRow, error) {
	d, err := b.store.Device(in.Device)
	if err != nil {
		return protocol.DeviceRow{}, err
	}
	row := b.deviceRow(d)
	if _, err := b.store.RemoveDevice(in.Device); err != nil {
		return row, err
	}
	b.mu.Lock()
	delete(b.undelivered, d.Key)
	b.mu.Unlock()
	b.expel(ctx, d.AuthID())
	row.Online, row.Status = false, protocol.Disconnected
	return row, nil
}

func (b *Backend) deviceRow(d store.Device) protocol.DeviceRow {
	row := protocol.DeviceRow{
		DeviceKey: d.Key, SwarmKey: d.SwarmKey, SerialNumber: d.SerialNumber, Name: d.Name,
		Online: b.store.Online(d.Key), Status: d.Status, Since: d.Since, LastSeen: d.LastSeen,
		AgentVersion: d.AgentVersion, Architecture: d.Architecture, OS: d.OS,
		RefusedLogins: d.Refused, Created: d.Created,
	}
	if !row.Online {
		row.Status = protocol.Disconnected
	}
	return row
}
