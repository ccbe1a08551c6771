package backend

import (
	"maps"

	"reagent/protocol"
	"reagent/studio/store"
)

// wishRow is a wish as devices get it: an element of the wish list (wire §6.2),
// and the keyword arguments of request_app_state (wire §5.4).
func (b *Backend) wishRow(d store.Device, o store.OnDevice) map[string]any {
	project, _, _ := b.store.Project(d.SwarmKey)
	current := o.State.State
	if current == "" {
		current = protocol.Removed
	}
	row := map[string]any{
		"app_key": o.ID.Key, "app_name": o.App.Name, "stage": string(o.ID.Stage),
		"current_state": string(current), "target_state": string(o.Wish.Target),
		"requestor_account_key": o.Wish.Requestor, "device_owner_account_key": project.Owner,
		"environment": dict(o.Wish.Environment), "environment_template": template(o),
		"ports": portRows(o), "app_cred_epoch": max(o.Wish.CredEpoch, 1),
		// What other backends say too, and agents do not read.
		"device_key": d.Key, "swarm_key": d.SwarmKey, "serial_number": d.SerialNumber,
		"container_name": protocol.ContainerName(o.ID.Stage, o.ID.Key, o.App.Name),
	}
	if o.ID.Stage == protocol.Dev {
		maps.Copy(row, b.copyOf(d, o))
	} else {
		maps.Copy(row, b.versionsOf(d, o))
	}
	return row
}

// versionsOf says which version is there, and which is to come.
func (b *Backend) versionsOf(d store.Device, o store.OnDevice) map[string]any {
	present, update := o.Wanted, false
	if o.State.Installed() && o.Present.Key != 0 {
		present = o.Present
		update = o.Present.Key != o.Wanted.Key && !o.Wish.Target.Gone()
	}
	row := map[string]any{
		"release_key": present.Key, "new_release_key": o.Wanted.Key,
		"present_version": present.Version, "newest_version": o.Wanted.Version, "request_update": update,
		"docker_compose": b.ofRelease(d, o.App, present), "new_docker_compose": any(nil),
	}
	switch {
	case update && o.Wanted.Compose == nil:
		// A definition says that a compose app is wanted; what is there the device
		// knows by itself.
		row["docker_compose"] = nil
	case update:
		row["new_docker_compose"] = b.ofRelease(d, o.App, o.Wanted)
	}
	return row
}

// copyOf says what a DEV copy is made of. It has no release; a version is what it
// is to be published as.
func (b *Backend) copyOf(d store.Device, o store.OnDevice) map[string]any {
	row := map[string]any{
		"release_key": 0, "new_release_key": 0, "present_version": "", "newest_version": "", "request_update": false,
		"docker_compose": b.ofCopy(d, o.App, o.Wish.Compose), "new_docker_compose": any(nil),
	}
	if p := o.Wish.Publication; p != nil && o.Wish.Target == protocol.Published {
		// In a list, present_version is where a device reads the version.
		row["version"], row["present_version"] = p.Version, p.Version
		row["docker_compose"] = b.ofPublication(d, o.App, *p)
	}
	return row
}

// template is what the variables of an app are where nothing else is said. A DEV
// copy reads nothing else (life §3.4), so that what was set for the device is put
// in there.
func template(o store.OnDevice) map[string]any {
	if o.ID.Stage == protocol.Prod {
		return dict(o.Wanted.Template)
	}
	all := dict(maps.Clone(o.App.Template))
	for name, v := range o.Wish.Environment {
		if d, ok := protocol.AsDict(v); ok {
			all[name] = map[string]any{"defaultValue": d["value"]}
		}
	}
	return all
}

// ports are the rules of the wanted version, or of the app for its DEV copies,
// with the ports that the device assigned before. Where nobody wrote any, they
// are those that the services of a compose app publish: a device reports the
// host ports of rules only.
func ports(o store.OnDevice) []protocol.PortRule {
	rules, compose := o.Wanted.Ports, o.Wanted.Compose
	if o.ID.Stage == protocol.Dev {
		rules, compose = o.App.Ports, o.Wish.Compose
	}
	if len(rules) == 0 {
		rules = protocol.ComposePortRules(compose)
	}
	out := make([]protocol.PortRule, 0, len(rules))
	for _, rule := range rules {
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

func list[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}

// appRowOn is an app on a device as people see it.
func (b *Backend) appRowOn(d store.Device, o store.OnDevice) protocol.AppOnDeviceRow {
	row := protocol.AppOnDeviceRow{
		DeviceKey: d.Key, DeviceName: d.Name, SerialNumber: d.SerialNumber, Online: b.store.Online(d.Key),
		AppKey: o.ID.Key, AppName: o.App.Name, Stage: o.ID.Stage, Kind: kind(o),
		ContainerName: protocol.ContainerName(o.ID.Stage, o.ID.Key, o.App.Name),
		Target:        o.Wish.Target, State: o.State.State, TargetVersion: o.Wanted.Version,
		UpdateStatus: o.State.UpdateStatus, Error: o.State.Error, Ports: o.State.Ports,
		Wished: o.Wish.Wished, Reported: o.State.At,
	}
	if o.State.Installed() {
		row.Version, row.ReleaseKey = o.Present.Version, o.Present.Key
	}
	if p := o.Wish.Publication; p != nil {
		row.Publishing = p.Version
	}
	if u := o.State.Update; u != nil {
		row.LastUpdate = &protocol.UpdateRow{From: o.From.Version, To: o.To.Version, Outcome: u.Outcome, Reason: u.Reason, Time: u.At}
	}
	if len(row.Ports) == 0 { // the device has not said yet on which host ports
		row.Ports = ports(o)
	}
	return row
}

// kind is what the app on the device is made of, or is to be.
func kind(o store.OnDevice) protocol.Kind {
	switch {
	case o.ID.Stage == protocol.Dev && o.Wish.Compose != nil:
		return protocol.KindCompose
	case o.ID.Stage == protocol.Dev:
		return protocol.KindSingle
	case o.State.Installed() && o.Present.Key != 0:
		return o.Present.Kind()
	}
	return o.Wanted.Kind()
}
