package backend

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"reagent/protocol"
	"reagent/studio/store"
)

func (b *Backend) createApp(_ context.Context, c caller, in protocol.CreateApp) (protocol.AppRow, error) {
	a, err := b.store.CreateApp(in.Name, c.account.Key)
	if err != nil {
		return protocol.AppRow{}, err
	}
	return b.appRow(a)
}

func (b *Backend) listApps(context.Context, caller, nothing) (protocol.AppList, error) {
	all, err := b.store.Apps()
	out := protocol.AppList{Apps: []protocol.AppRow{}}
	for _, a := range all {
		row, err := b.appRow(a)
		if err != nil {
			return out, err
		}
		out.Apps = append(out.Apps, row)
	}
	return out, err
}

func (b *Backend) appRow(a store.App) (protocol.AppRow, error) {
	owner, _ := b.store.Account(fmt.Sprint(a.Owner)) // may be gone
	row := protocol.AppRow{AppKey: a.Key, Name: a.Name, Owner: owner.Name, Created: a.Created, Releases: []protocol.ReleaseRow{}}
	all, err := b.store.Releases(a.Key)
	for _, r := range all {
		row.Releases = append(row.Releases, protocol.ReleaseRow{
			ReleaseKey: r.Key, Version: r.Version, Architectures: r.Architectures, Ports: r.Ports,
			EnvironmentTemplate: r.Template, Created: r.Created,
		})
	}
	return row, err
}

// ownApp finds an app that the caller may push into.
func (b *Backend) ownApp(c caller, ref string) (store.App, error) {
	a, err := b.store.App(ref)
	if err != nil {
		return a, err
	}
	if !c.administrator() && a.Owner != c.account.Key {
		return a, refused("the app %q is somebody else's", a.Name)
	}
	return a, nil
}

func (b *Backend) registryLogin(_ context.Context, c caller, in protocol.AppArgs) (protocol.RegistryLogin, error) {
	a, err := b.ownApp(c, in.App)
	if err != nil {
		return protocol.RegistryLogin{}, err
	}
	_, registry, insecure := b.outside()
	login := protocol.RegistryLogin{AppKey: a.Key, AppName: a.Name, Registry: registry, Repository: protocol.MainRepository, Insecure: insecure}
	login.Username, login.Password = b.cfg.Images.PushLogin(c.account.Key, a.Key)
	return login, nil
}

func (b *Backend) createRelease(_ context.Context, c caller, in protocol.CreateRelease) (protocol.AppRow, error) {
	a, err := b.ownApp(c, in.App)
	if err != nil {
		return protocol.AppRow{}, err
	}
	var ports []protocol.PortRule
	if in.Ports != nil {
		// Through the same reader that the device uses: what it would refuse is
		// refused here.
		raw := make([]any, 0, len(in.Ports))
		for _, rule := range in.Ports {
			rule.HostPort, rule.CloudRemotePort = 0, 0 // the device's to assign
			raw = append(raw, protocol.Wire(rule))
		}
		if ports, err = protocol.ParsePortRules(raw); err != nil {
			return protocol.AppRow{}, invalid("ports: %v", err)
		}
	}
	if err := checkEnvironment(in.EnvironmentTemplate, "defaultValue"); err != nil {
		return protocol.AppRow{}, err
	}
	if _, err := b.store.AddRelease(a.Key, in.Version, in.Architectures, ports, in.EnvironmentTemplate); err != nil {
		return protocol.AppRow{}, err
	}
	return b.appRow(a)
}

// mostEnvironment bounds the variables of one app, as JSON.
const mostEnvironment = 256 << 10

// checkEnvironment refuses variables that no container could get. Each value is
// an object that holds it under key.
func checkEnvironment(env map[string]any, key string) error {
	for name, v := range env {
		if err := checkVariable(name); err != nil {
			return err
		}
		d, ok := protocol.AsDict(v)
		if !ok {
			return invalid("the variable %s is not an object with %q", name, key)
		}
		switch value := d[key].(type) {
		case nil, bool, float64, int64, uint64:
		case string:
			if strings.ContainsRune(value, 0) {
				return invalid("the value of %s contains a NUL", name)
			}
		default:
			return invalid("the value of %s is not text, a number or a boolean", name)
		}
	}
	if raw, err := json.Marshal(env); err != nil || len(raw) > mostEnvironment {
		return invalid("the environment is larger than %d bytes", mostEnvironment)
	}
	return nil
}

func checkVariable(name string) error {
	valid := name != "" && len(name) <= 128
	for i, r := range name {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '_'
		valid = valid && (letter || i > 0 && r >= '0' && r <= '9')
	}
	if !valid {
		return invalid("%q is no name of a variable: letters, digits and '_', not beginning with a digit", name)
	}
	return nil
}
