package cli

import (
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"reagent/protocol"
)

func appPush() Command {
	var (
		rules    []protocol.PortRule
		template map[string]any
		replace  bool
	)
	return Command{
		Words: "app push", Args: "NAME VERSION IMAGE [--port [NAME=]PORT[/udp]]… [--default NAME=VALUE]…", Min: 3, Max: 3,
		About: "Push an image into the registry of the studio, as a version of an app",
		More: `IMAGE is an image of the local Docker Engine, or an archive that "docker save"
or an OCI tool made. What it was built for is read from it; push the same version
again for another architecture. What the registry has already is not sent again,
so a push that broke off goes on where it was.

  docker build -t hello .
  $0 app push hello 1.0.0 hello --port 8080 --default COLOR=blue`,
		Flags: func(f *flag.FlagSet) {
			f.Func("port", "a port on which the app listens: `[NAME=]PORT[/udp]`; the first is the main one (repeatable)", func(text string) error {
				rule, err := parsePort(text)
				rule.Main = len(rules) == 0
				rules = append(rules, rule)
				return err
			})
			f.Func("default", "value of a variable where a device has no other: `NAME=VALUE` (repeatable)", func(text string) error {
				name, value, ok := strings.Cut(text, "=")
				if !ok || name == "" {
					return fmt.Errorf("%q is not NAME=VALUE", text)
				}
				if template == nil {
					template = map[string]any{}
				}
				template[name] = map[string]any{"defaultValue": value}
				return nil
			})
			f.BoolVar(&replace, "replace", false, "put another image in the place of one that was pushed under this version; devices that have it do not notice")
		},
		Hints: map[protocol.Code]string{protocol.CodeNotFound: `make the app with "$0 app create $1"`},
		Run: func(ctx context.Context, c *Call) error {
			name, version, image := c.Args[0], c.Args[1], c.Args[2]
			if version == "" {
				return usage("the version is empty")
			}
			if err := protocol.CheckVersion(version); err != nil {
				return &UsageError{err.Error()}
			}
			login, err := ask[protocol.RegistryLogin](ctx, c, protocol.StudioCreateRegistryToken, protocol.AppArgs{App: name})
			if err != nil {
				return err
			}
			src, err := c.openImages(ctx, image)
			if err != nil {
				return err
			}
			defer src.Close()
			to, err := c.registry(login, version, replace)
			if err != nil {
				return err
			}
			defer to.Close()
			architectures := slices.Sorted(maps.Keys(src.images))
			for _, arch := range architectures {
				if err := to.push(ctx, arch, src.images[arch]); err != nil {
					return err
				}
			}
			row, err := ask[protocol.AppRow](ctx, c, protocol.StudioCreateRelease, protocol.CreateRelease{
				App: strconv.FormatUint(login.AppKey, 10), Version: version, Architectures: architectures, Ports: rules, EnvironmentTemplate: template,
			})
			if err != nil {
				return err
			}
			return c.show(row, func(out io.Writer) error {
				_, err := fmt.Fprintf(out, "%s %s pushed for %s; run it with\n  %s deploy %s@%s DEVICE --wait\n",
					printable(row.Name), version, strings.Join(architectures, ", "), c.Name, printable(row.Name), version)
				return err
			})
		},
	}
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
