package cli

import (
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"reagent/protocol"
)

const appPushMore = `IMAGE is an image of the local Docker Engine, or an archive that "docker save"
or an OCI tool made. What it was built for is read from it; push the same version
again for another architecture. What the registry has already is not sent again,
so a push that broke off goes on where it was.

  docker build -t hello .
  $0 app push hello 1.0.0 hello --port 8080 --default COLOR=blue

With -f the app is made of the services of a compose file. A service with "build"
is pushed from the local Docker Engine, under the name that "docker compose build"
gave its image; --image names another, or an archive. The other services' images
are pulled by the devices from where they are.

  docker compose build
  $0 app push shop 1.0.0 -f compose.yaml
  $0 app push shop 1.0.0 -f compose.yaml --image web=web.tar`

func appPush() Command {
	var (
		in      protocol.CreateRelease
		file    string
		images  = map[string]string{} // of services
		replace bool
	)
	return Command{
		Words: "app push", Args: "NAME VERSION IMAGE|-f FILE [--port [NAME=]PORT[/udp]]… [--default NAME=VALUE]…", Min: 2, Max: 3,
		About: "Push an image into the registry of the studio, as a version of an app",
		More:  appPushMore,
		Flags: func(f *flag.FlagSet) {
			f.StringVar(&file, "f", "", "compose `FILE` of the app")
			f.Func("image", "image of a service: `SERVICE=IMAGE` (repeatable; with -f)", func(text string) error {
				service, image, ok := strings.Cut(text, "=")
				if !ok || service == "" || image == "" {
					return fmt.Errorf("%q is not SERVICE=IMAGE", text)
				}
				images[service] = image
				return nil
			})
			f.Func("arch", "architecture on which a compose app runs whose images are all pulled from elsewhere, such as `armv7` (repeatable; with -f)", func(arch string) error {
				in.Architectures = append(in.Architectures, arch)
				return nil
			})
			f.Func("port", "a port on which the app listens: `[NAME=]PORT[/udp]`; the first is the main one (repeatable; default: those of \"app ports\")", func(text string) error {
				rule, err := parsePort(text)
				rule.Main = len(in.Ports) == 0
				in.Ports = append(in.Ports, rule)
				return err
			})
			f.Func("default", "value of a variable where a device has no other: `NAME=VALUE` (repeatable; default: those of \"app env\")", func(text string) error {
				name, value, ok := strings.Cut(text, "=")
				if !ok || name == "" {
					return fmt.Errorf("%q is not NAME=VALUE", text)
				}
				if in.EnvironmentTemplate == nil {
					in.EnvironmentTemplate = map[string]any{}
				}
				in.EnvironmentTemplate[name] = map[string]any{"defaultValue": value}
				return nil
			})
			f.BoolVar(&replace, "replace", false, "put another image in the place of one that was pushed under this version; devices that have it do not notice")
		},
		Hints: map[protocol.Code]string{protocol.CodeNotFound: `make the app with "$0 app create $1"`},
		Run: func(ctx context.Context, c *Call) error {
			in.App, in.Version = c.Args[0], c.Args[1]
			if err := checkVersion(in.Version); err != nil {
				return err
			}
			var parts map[string]string // image by service
			switch {
			case (file != "") == (len(c.Args) == 3):
				return usage("it is either an IMAGE or a compose file with -f")
			case file == "" && len(images)+len(in.Architectures) > 0:
				return usage("--image and --arch go with -f")
			case file == "":
				parts = map[string]string{"": c.Args[2]}
			default:
				var err error
				if in.Compose, err = readCompose(file, in.App); err != nil {
					return err
				}
				if parts, err = takeImages(in.Compose, file, images); err != nil {
					return err
				}
			}
			return c.pushRelease(ctx, in, parts, replace)
		},
	}
}

// pushRelease sends the images and enters the version.
func (c *Call) pushRelease(ctx context.Context, in protocol.CreateRelease, parts map[string]string, replace bool) error {
	login, err := ask[protocol.RegistryLogin](ctx, c, protocol.StudioCreateRegistryToken, protocol.AppArgs{App: in.App})
	if err != nil {
		return err
	}
	in.App = strconv.FormatUint(login.AppKey, 10)
	services := slices.Sorted(maps.Keys(parts))
	sources := map[string]*source{} // by what a person named; all there before the first is sent
	for i, service := range services {
		src := sources[parts[service]]
		if src == nil {
			var err error
			if src, err = c.openImages(ctx, parts[service]); err != nil {
				return ofService(service, err)
			}
			defer src.Close()
			sources[parts[service]] = src
		}
		has := slices.Sorted(maps.Keys(src.images))
		if i > 0 && !slices.Equal(has, in.Architectures) {
			return fmt.Errorf("the image of %s is made for %s, that of %s for %s: a version needs all of them for the same", service, strings.Join(has, ", "), services[0], strings.Join(in.Architectures, ", "))
		}
		in.Architectures = has
	}
	if len(in.Architectures) == 0 {
		return usage("all images are pulled from elsewhere: say with --arch on which architectures they run")
	}
	to, err := c.registry(login, in.Version, replace)
	if err != nil {
		return err
	}
	defer to.Close()
	for _, service := range services {
		for _, arch := range in.Architectures {
			if err := to.push(ctx, service, arch, sources[parts[service]].images[arch]); err != nil {
				return err
			}
		}
	}
	row, err := ask[protocol.AppRow](ctx, c, protocol.StudioCreateRelease, in)
	if err != nil {
		return err
	}
	return c.show(row, func(out io.Writer) error { return released(out, c, "pushed", row, in.Version, in.Architectures) })
}

func ofService(service string, err error) error {
	if service == "" {
		return err
	}
	return fmt.Errorf("service %s: %w", service, err)
}

// takeImages finds out which image is pushed for which service, and takes their
// names out of the definition: the studio knows those that they get.
func takeImages(definition map[string]any, file string, chosen map[string]string) (map[string]string, error) {
	parts := map[string]string{}
	services, _ := protocol.AsDict(definition["services"])
	for name, s := range services {
		service, _ := protocol.AsDict(s)
		image, ok := chosen[name]
		switch {
		case ok:
		case service["build"] == nil:
			continue
		default:
			if image, _ = protocol.Text(service["image"]); image == "" {
				image = composeProject(definition, file) + "-" + name
			}
		}
		delete(service, "build")
		delete(service, "image")
		services[name], parts[name] = service, image
	}
	for name := range chosen {
		if parts[name] == "" {
			return nil, usage("--image %s: %s has no such service", name, file)
		}
	}
	return parts, nil
}

// composeProject is the name under which docker compose builds here: that of the
// definition, or of the folder, as far as compose takes it.
func composeProject(definition map[string]any, file string) string {
	if name, _ := protocol.Text(definition["name"]); name != "" {
		return name
	}
	full, err := filepath.Abs(file)
	if err != nil {
		full = file
	}
	return strings.TrimLeft(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return -1
	}, strings.ToLower(filepath.Base(filepath.Dir(full)))), "-_")
}

// released says what to do with a version that is there now.
func released(out io.Writer, c *Call, how string, app protocol.AppRow, version string, architectures []string) error {
	_, err := fmt.Fprintf(out, "%s %s %s for %s; run it with\n  %s deploy %s@%s DEVICE --wait\n",
		printable(app.Name), version, how, printable(strings.Join(architectures, ", ")), c.Name, printable(app.Name), version)
	return err
}

// parsePort reads [NAME=]PORT[/PROTOCOL].
func parsePort(text string) (rule protocol.PortRule, err error) {
	number := text
	if name, rest, ok := strings.Cut(text, "="); ok {
		rule.Name, number = name, rest
	}
	number, kind, _ := strings.Cut(number, "/")
	rule.Protocol = "http"
	if kind != "" {
		rule.Protocol = strings.ToLower(kind)
	}
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || n == 0 {
		return rule, fmt.Errorf("%q is not [NAME=]PORT[/udp]", text)
	}
	if !slices.Contains([]string{"http", "https", "tcp", "udp"}, rule.Protocol) {
		return rule, fmt.Errorf("%q: the protocol is one of http (taken where none is said), https, tcp, udp", text)
	}
	rule.Port = uint16(n)
	return rule, nil
}
