package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"reagent/messenger"
	"reagent/protocol"
)

// A workbench is the DEV copy of an app on a device while a command works on it:
// its archive goes there, its log and its states come from there.
type workbench struct {
	c      *Call
	device protocol.DeviceRow
	app    protocol.AppRow
	view   *view
	log    chan []any    // events of its log
	news   chan struct{} // it was reported on; capacity 1
	shown  time.Time     // the newest state that was shown
}

// openWorkbench finds device and app and begins to follow what happens; an app
// that is not there is made. topic gives the log's name.
func openWorkbench(ctx context.Context, c *Call, device, app string, topic func(protocol.AppRow) string) (*workbench, error) {
	w := &workbench{c: c, view: c.view(), log: make(chan []any, 1024), news: make(chan struct{}, 1)}
	var err error
	if w.device, err = onlineDevice(ctx, c, device); err != nil {
		return nil, err
	}
	if w.app, err = appOrNew(ctx, c, app); err != nil {
		return nil, err
	}
	session, err := c.studio(ctx)
	if err != nil {
		return nil, err
	}
	err = session.Follow(ctx, protocol.LogTopic(w.device.SerialNumber, topic(w.app)), func(e messenger.Event) {
		select {
		case w.log <- e.Args:
		case <-ctx.Done():
		}
	})
	if err != nil {
		return nil, err
	}
	return w, session.Follow(ctx, protocol.StudioAppState, func(messenger.Event) {
		select {
		case w.news <- struct{}{}:
		default: // a look is due already
		}
	})
}

// onlineDevice finds a device that can take an archive.
func onlineDevice(ctx context.Context, c *Call, ref string) (protocol.DeviceRow, error) {
	row, err := findDevice(ctx, c, ref)
	if err == nil && !row.Online {
		err = fmt.Errorf("%s is not on-line: an archive goes to a device that is (see %q)", printable(row.Name), c.Name+" device ls")
	}
	return row, err
}

// findOwnApp finds an app in the studio's list; ok is false where there is none.
func findOwnApp(ctx context.Context, c *Call, ref string) (row protocol.AppRow, ok bool, err error) {
	list, err := ask[protocol.AppList](ctx, c, protocol.StudioListApps, nil)
	if err != nil {
		return row, false, err
	}
	for _, a := range list.Apps {
		if strings.EqualFold(a.Name, ref) {
			return a, true, nil
		}
		if strconv.FormatUint(a.AppKey, 10) == ref {
			row, ok = a, true // unless another has that for a name
		}
	}
	return row, ok, nil
}

func appOrNew(ctx context.Context, c *Call, ref string) (protocol.AppRow, error) {
	row, ok, err := findOwnApp(ctx, c, ref)
	if err != nil || ok {
		return row, err
	}
	if row, err = ask[protocol.AppRow](ctx, c, protocol.StudioCreateApp, protocol.CreateApp{Name: ref}); err == nil {
		c.say("app %s created", printable(row.Name))
	}
	return row, err
}

// send packs a project and brings it to the device.
func (w *workbench) send(ctx context.Context, p *project) error {
	archive, err := pack(ctx, p.dir, p.contexts, mostPacked)
	if err != nil {
		return err
	}
	defer archive.Close()
	for i, left := range archive.left {
		if i == 10 {
			w.c.say("left out: %d more", len(archive.left)-i)
			break
		}
		w.c.say("left out: %s", printable(left))
	}
	w.c.say("packed %s (%s): files: %d, size: %s", p.dir, p.what, archive.files, size(archive.size))
	up := &upload{
		c: w.c, serial: w.device.SerialNumber, device: printable(w.device.Name),
		file:      w.app.Name + ".tgz",
		container: protocol.ContainerName(protocol.Dev, w.app.AppKey, w.app.Name),
		content:   archive.file, size: archive.size,
	}
	return up.run(ctx)
}

// wish asks for a state. A device that does not take it now would build later,
// when nobody looks.
func (w *workbench) wish(ctx context.Context, procedure string, in any) (protocol.AppOnDeviceRow, error) {
	wished, err := ask[protocol.Wished](ctx, w.c, procedure, in)
	if err != nil {
		return wished.App, err
	}
	if !wished.Delivered {
		return wished.App, fmt.Errorf("%s on %s: %s; the wish stands, see %q", printable(w.app.Name), printable(w.device.Name), orUnknown(printable(wished.Reason)), w.c.Name+" states")
	}
	return wished.App, nil
}

// A judge tells from the states that were reported since a wish, oldest first,
// whether it came to its end.
type judge func(since []protocol.PastState) (end bool, err error)

// follow prints log and states until judge says that it is the end.
func (w *workbench) follow(ctx context.Context, wished protocol.AppOnDeviceRow, over judge) (protocol.AppOnDeviceRow, error) {
	look := time.NewTicker(w.c.poll())
	defer look.Stop()
	for {
		row, known := w.look(ctx, wished)
		if known {
			since := reportedSince(row, wished.Wished)
			if err := w.show(since); err != nil {
				return row, err
			}
			if end, err := over(since); end || err != nil {
				return row, errors.Join(err, w.drain(ctx))
			}
			if row.Wished.After(wished.Wished) {
				return row, fmt.Errorf("somebody else wants %s %s on %s now", printable(row.AppName), row.Target, printable(row.DeviceName))
			}
		}
		for waiting := true; waiting; {
			select {
			case args := <-w.log:
				if err := w.view.event(args); err != nil {
					return row, err
				}
			case <-w.news:
				waiting = false
			case <-look.C:
				waiting = false
			case <-ctx.Done():
				w.view.wipe()
				return row, context.Cause(ctx)
			}
		}
	}
}

// look asks for the states. A studio that does not answer now is asked again.
func (w *workbench) look(ctx context.Context, wished protocol.AppOnDeviceRow) (protocol.AppOnDeviceRow, bool) {
	const far = 50 // states back; a build has six
	list, err := ask[protocol.StateList](ctx, w.c, protocol.StudioListStates, protocol.ListStates{
		Device: fmt.Sprint(wished.DeviceKey), App: fmt.Sprint(wished.AppKey), History: far,
	})
	if err != nil {
		return wished, false
	}
	for _, row := range list.States {
		if row.DeviceKey == wished.DeviceKey && row.AppKey == wished.AppKey && row.Stage == wished.Stage {
			return row, true
		}
	}
	return wished, false
}

func reportedSince(row protocol.AppOnDeviceRow, begin time.Time) (since []protocol.PastState) {
	for _, s := range row.History {
		if !s.Time.Before(begin) {
			since = append(since, s)
		}
	}
	return since
}

// show prints the states that were not shown yet.
func (w *workbench) show(states []protocol.PastState) error {
	for _, s := range states {
		if !s.Time.After(w.shown) {
			continue
		}
		w.shown = s.Time
		w.view.wipe()
		if w.c.JSON {
			if err := w.c.record("state", s); err != nil {
				return err
			}
			continue
		}
		w.c.say("%s  %s", s.Time.Local().Format(time.TimeOnly), s.State)
	}
	return nil
}

// awaitPorts gives a device that runs the app the time to say on which ports.
func (w *workbench) awaitPorts(ctx context.Context, row protocol.AppOnDeviceRow) (protocol.AppOnDeviceRow, error) {
	late := time.NewTimer(w.c.portsGrace())
	defer late.Stop()
	for !portsAssigned(row) {
		select {
		case args := <-w.log:
			if err := w.view.event(args); err != nil {
				return row, err
			}
		case <-w.news:
			row, _ = w.look(ctx, row)
		case <-late.C:
			return row, nil
		case <-ctx.Done():
			return row, nil // what follows sees it
		}
	}
	return row, nil
}

// drain prints what of the log is still on its way: it is sent by parts, and a
// state does not wait for it.
func (w *workbench) drain(ctx context.Context) error {
	defer w.view.wipe()
	quiet := time.NewTimer(w.c.tail())
	defer quiet.Stop()
	for {
		select {
		case args := <-w.log:
			if err := w.view.event(args); err != nil {
				return err
			}
		case <-quiet.C:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// record prints one line of the JSON that a following command writes.
func (c *Call) record(kind string, what any) error {
	return json.NewEncoder(c.Stdout).Encode(map[string]any{kind: what})
}

// finish prints the answer of a following command.
func (w *workbench) finish(kind string, answer any, people func(out io.Writer) error) error {
	if w.c.JSON {
		return w.c.record(kind, answer)
	}
	return people(w.c.Stdout)
}

// untilState judges a build, a publication or a start: goal ends it well.
func (w *workbench) untilState(goal protocol.State) judge {
	app, device := printable(w.app.Name), printable(w.device.Name)
	return func(since []protocol.PastState) (bool, error) {
		begun, building := false, true
		for _, s := range since {
			switch s.State {
			case goal:
				if s.Error != "" { // the studio could not make of it what was wished
					return true, fmt.Errorf("%s on %s: %s", app, device, printable(s.Error))
				}
				return true, nil
			case protocol.Failed:
				hint := ""
				if building {
					hint = loginHint(s.Error)
				}
				return true, fmt.Errorf("%s failed on %s: %s%s", app, device, orUnknown(printable(s.Error)), hint)
			case protocol.Building, protocol.Publishing, protocol.Starting:
				begun, building = true, s.State == protocol.Building
			case protocol.Removed, protocol.Present, protocol.Uninstalled:
				// Before it began these are on the way from what was there.
				if begun {
					return true, fmt.Errorf("%s on %s: somebody canceled it", app, device)
				}
			}
		}
		return false, nil
	}
}

// loginHint is the way out of a build whose base image is private.
func loginHint(text string) string {
	for _, word := range []string{"unauthorized", "authentication required", "access denied", "access to the resource is denied", "no basic auth"} {
		if strings.Contains(strings.ToLower(text), word) {
			return "; for images of a private registry say --login HOST"
		}
	}
	return ""
}

// cancelAfter ends on the device what a command that was interrupted began there.
func (w *workbench) cancelAfter(ctx context.Context, err error) error {
	if !errors.Is(err, context.Canceled) || ctx.Err() == nil {
		return err
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_, failed := ask[protocol.Wished](last, w.c, protocol.StudioDevelopApp, protocol.DevelopApp{App: w.ref(), Device: w.device.SerialNumber, Cancel: true})
	if failed != nil {
		w.c.say("%s goes on with %s; end that with %q", printable(w.device.Name), printable(w.app.Name), w.c.Name+" dev stop "+w.app.Name+" "+w.device.Name)
		return err
	}
	w.c.say("canceled on %s", printable(w.device.Name))
	return err
}

func (w *workbench) ref() string { return strconv.FormatUint(w.app.AppKey, 10) }

// registryLogins are the logins that "docker login" keeps for these hosts.
func registryLogins(hosts []string) (map[string]protocol.RegistryCredential, error) {
	logins := map[string]protocol.RegistryCredential{}
	for _, host := range hosts {
		registry, err := name.NewRegistry(host)
		if err != nil {
			return nil, usage("--login %s: %v", host, err)
		}
		auth, err := authn.DefaultKeychain.Resolve(registry)
		if err != nil {
			return nil, fmt.Errorf("the login of %s: %w", host, err)
		}
		login, err := auth.Authorization()
		if err != nil {
			return nil, fmt.Errorf("the login of %s: %w", host, err)
		}
		if login.Username == "" || login.Password == "" {
			return nil, fmt.Errorf("there is no login of %s on this machine: log in with %q first", host, "docker login "+host)
		}
		logins[host] = protocol.RegistryCredential{Username: login.Username, Password: login.Password}
	}
	return logins, nil
}
