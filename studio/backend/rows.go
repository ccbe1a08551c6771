package backend

import (
	"reagent/protocol"
	"reagent/studio/store"
)

// wishRow is a wish as devices get it: an element of the wish list (wire §6.2),
// and the keyword arguments of request_app_state (wire §5.4).
func (b *Backend) wishRow(d store.Device, o store.OnDevice) map[string]any {
	project, _, _ := b.store.Project(d.SwarmKey)
	present := o.Wanted
	update := false
	if o.State.Installed() && o.Present.Key != 0 {
		present = o.Present
		update = o.Present.Key != o.Wanted.Key && !o.Wish.Target.Gone()
	}
	current := o.State.State
	if current == "" {
		current = protocol.Removed
	}
	return map[string]any{
		"app_key": o.ID.Key, "app_name": o.App.Name, "stage": string(o.ID.Stage),
		"current_state": string(current), "target_state": string(o.Wish.Target),
		"requestor_account_key": o.Wish.Requestor, "device_owner_account_key": project.Owner,
		"release_key": present.Key, "new_release_key": o.Wanted.Key,
		"present_version": present.Version, "newest_version": o.Wanted.Version, "request_update": update,
		"environment": dict(o.Wish.Environment), "environment_template": dict(o.Wanted.Template),
		"ports": portRows(o), "app_cred_epoch": max(o.Wish.CredEpoch, 1),
		// What other backends say too, and agents do not read.
		"device_key": d.Key, "swarm_key": d.SwarmKey, "serial_number": d.SerialNumber,
		"container_name": protocol.ContainerName(o.ID.Stage, o.ID.Key, o.App.Name),
	}
}

// ports are the rules of the wanted version with the ports that the device
// assigned before.
func ports(o store.OnDevice) []protocol.PortRule {
	out := make([]protocol.PortRule, 0, len(o.Wanted.Ports))
	for _, rule := range o.Wanted.Ports {
		for _, said := range o.State.Ports {
			if said.Port == rule.Port && said.Wire() == rule.Wire() {
				rule.HostPort, rule.RemotePort, rule.CloudRemotePort = said.HostPort, said.RemotePort, said.CloudRemotePort
			}
		}
		out = append(out, rule)
	}
	return out
}

func portRows(o store.OnDevice) []any {
	rows := []any{}
	for _, rule := range ports(o) {
		rows = append(rows, protocol.Wire(rule))
	}
	return rows
}

func dict(d map[string]any) map[string]any {
	if d == nil {
		return map[string]any{}
	}
	return d
}

// appRowOn is an app on a device as people see it.
func (b *Backend) appRowOn(d store.Device, o store.OnDevice) protocol.AppOnDeviceRow {
	row := protocol.AppOnDeviceRow{
		DeviceKey: d.Key, DeviceName: d.Name, SerialNumber: d.SerialNumber, Online: b.store.Online(d.Key),
		AppKey: o.ID.Key, AppName: o.App.Name, Stage: o.ID.Stage,
		ContainerName: protocol.ContainerName(o.ID.Stage, o.ID.Key, o.App.Name),
		Target:        o.Wish.Target, State: o.State.State, TargetVersion: o.Wanted.Version,
		UpdateStatus: o.State.UpdateStatus, Error: o.State.Error, Ports: o.State.Ports,
		Wished: o.Wish.Wished, Reported: o.State.At,
	}
	if o.State.Installed() {
		row.Version, row.ReleaseKey = o.Present.Version, o.Present.Key
	}
	if len(row.Ports) == 0 { // the device has not said yet on which host ports
		row.Ports = ports(o)
	}
	return row
}
