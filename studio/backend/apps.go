package backend

import (
	"context"
	"fmt"
	"maps"
	"slices"

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
	row := protocol.AppRow{
		AppKey: a.Key, Name: a.Name, Owner: owner.Name, Created: a.Created,
		Ports: list(a.Ports), EnvironmentTemplate: dict(a.Template), Releases: []protocol.ReleaseRow{},
	}
	all, err := b.store.Releases(a.Key)
	for _, r := range all {
		row.Releases = append(row.Releases, releaseRow(a, r))
	}
	return row, err
}

func releaseRow(a store.App, r store.Release) protocol.ReleaseRow {
	row := protocol.ReleaseRow{
		ReleaseKey: r.Key, Version: r.Version, Kind: r.Kind(), Architectures: r.Architectures,
		Ports: list(r.Ports), EnvironmentTemplate: dict(r.Template), Created: r.Created,
	}
	if r.Compose != nil {
		services, _ := protocol.ComposeServices(a.Name, r.Compose) // was checked when it was entered
		row.Services = slices.Sorted(maps.Keys(services))
	}
	return row
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

// createRelease enters a version whose images were pushed.
func (b *Backend) createRelease(ctx context.Context, c caller, in protocol.CreateRelease) (protocol.AppRow, error) {
	a, err := b.ownApp(c, in.App)
	if err != nil {
		return protocol.AppRow{}, err
	}
	ports, err := checkPorts(in.Ports)
	if err != nil {
		return protocol.AppRow{}, err
	}
	if err := checkEnvironment(in.EnvironmentTemplate, "defaultValue"); err != nil {
		return protocol.AppRow{}, err
	}
	definition, err := released(a, in.Compose)
	if err != nil {
		return protocol.AppRow{}, err
	}
	if err := b.enter(ctx, a, store.Release{
		App: a.Key, Version: in.Version, Architectures: in.Architectures, Compose: definition,
		Ports: ports, Template: in.EnvironmentTemplate,
	}); err != nil {
		return protocol.AppRow{}, err
	}
	return b.appRow(a)
}

// enter adds a release whose images are in the registry.
func (b *Backend) enter(ctx context.Context, a store.App, r store.Release) error {
	if err := store.CheckRelease(r); err != nil {
		return err
	}
	for _, arch := range r.Architectures {
		for _, repository := range r.Images(a, arch) {
			switch there, err := b.cfg.Images.Has(ctx, repository, r.Version); {
			case err != nil:
				return fmt.Errorf("look for %s:%s: %w", repository, r.Version, err)
			case !there:
				return conflicts("the registry has no image %s:%s: push it first", repository, r.Version)
			}
		}
	}
	_, err := b.store.AddRelease(r)
	return err
}

// checkPorts reads port rules as the device does: what it would refuse is refused
// here. Nil stays nil.
func checkPorts(in []protocol.PortRule) ([]protocol.PortRule, error) {
	if in == nil {
		return nil, nil
	}
	if len(in) > mostPorts {
		return nil, invalid("ports: more than %d rules", mostPorts)
	}
	raw := make([]any, 0, len(in))
	for _, rule := range in {
		rule.HostPort, rule.CloudRemotePort = 0, 0 // the device's to assign
		raw = append(raw, protocol.Wire(rule))
	}
	rules, err := protocol.ParsePortRules(raw)
	if err != nil {
		return nil, invalid("ports: %v", err)
	}
	return rules, nil
}

func (b *Backend) setEnvironment(_ context.Context, c caller, in protocol.SetAppEnvironment) (protocol.AppRow, error) {
	return b.changeApp(c, in.App, func(a *store.App) error {
		template := dict(a.Template)
		for _, name := range in.Unset {
			delete(template, name)
		}
		for name, value := range in.Set {
			template[name] = map[string]any{"defaultValue": value}
		}
		a.Template = template
		return checkEnvironment(template, "defaultValue")
	})
}

func (b *Backend) setPorts(_ context.Context, c caller, in protocol.SetAppPorts) (protocol.AppRow, error) {
	return b.changeApp(c, in.App, func(a *store.App) (err error) {
		a.Ports, err = checkPorts(in.Ports)
		return err
	})
}

func (b *Backend) changeApp(c caller, app string, change func(*store.App) error) (protocol.AppRow, error) {
	a, err := b.ownApp(c, app)
	if err != nil {
		return protocol.AppRow{}, err
	}
	if a, err = b.store.ChangeApp(a.Key, change); err != nil {
		return protocol.AppRow{}, err
	}
	return b.appRow(a)
}

func (b *Backend) deleteRelease(_ context.Context, c caller, in protocol.DeleteRelease) (protocol.AppRow, error) {
	a, err := b.ownApp(c, in.App)
	if err != nil {
		return protocol.AppRow{}, err
	}
	if _, err := b.store.DeleteRelease(a.Key, in.Version); err != nil {
		return protocol.AppRow{}, err
	}
	return b.appRow(a)
}

func (b *Backend) deleteApp(_ context.Context, c caller, in protocol.AppArgs) (protocol.AppRow, error) {
	a, err := b.ownApp(c, in.App)
	if err != nil {
		return protocol.AppRow{}, err
	}
	row, err := b.appRow(a)
	if err != nil {
		return row, err
	}
	_, err = b.store.DeleteApp(a.Key)
	return row, err
}
