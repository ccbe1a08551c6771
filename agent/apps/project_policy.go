package apps

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A projectPolicy says what the definition of a compose app may ask for. The
// definition comes over the wire from somebody who is not the device's owner.
//
// Never allowed, whatever the device's policy is: that compose itself reads a
// file outside the project's folder, or runs a program of the host, because the
// definition names it (design rule 9), and what would get around being looked at
// here.
//
// Allowed unless policy.privileged_apps is false (design S25): everything by
// which a container reaches beyond itself. Then a service may have what is
// listed below as harmless, and nothing that is not listed.
type projectPolicy struct {
	privileged bool
	folder     string   // of the project
	shown      []string // further folders that may be mounted without privileges, each as a whole
}

// A refusal says what of a definition is not allowed, "" if nothing.
type refusal = string

// A rule looks at the value of a key.
type rule func(p projectPolicy, v any) refusal

// always are the keys of a service that are looked at on every device.
var always = map[string]rule{
	"extends":         sameFile,
	"label_file":      insideFiles,
	"provider":        forbidden("runs a program of the host"),
	"credential_spec": forbidden("reads a file of the host"),
	"build":           buildInside,
}

// harmless are the keys that a service may have without privileges, each with
// what is looked at. A key that is not here is refused.
var harmless = map[string]rule{
	"annotations": nil, "attach": nil, "blkio_config": nil, "cap_drop": nil, "command": nil, "configs": nil,
	"container_name": nil, "cpu_count": nil, "cpu_percent": nil, "cpu_period": nil, "cpu_quota": nil, "cpu_shares": nil,
	"cpus": nil, "cpuset": nil, "depends_on": nil, "develop": nil, "dns": nil, "dns_opt": nil, "dns_search": nil,
	"domainname": nil, "entrypoint": nil, "env_file": nil, "environment": nil, "expose": nil, "external_links": nil,
	"extra_hosts": nil, "healthcheck": nil, "hostname": nil, "image": nil, "init": nil, "labels": nil, "links": nil,
	"mac_address": nil, "mem_limit": nil, "mem_reservation": nil, "mem_swappiness": nil, "memswap_limit": nil,
	"networks": nil, "pids_limit": nil, "platform": nil, "ports": nil, "profiles": nil, "pull_policy": nil,
	"read_only": nil, "restart": nil, "scale": nil, "secrets": nil, "shm_size": nil, "stdin_open": nil,
	"stop_grace_period": nil, "stop_signal": nil, "tmpfs": nil, "tty": nil, "ulimits": nil, "user": nil,
	"working_dir": nil, "group_add": nil, "sysctls": nil, "extends": nil, "label_file": nil, "build": nil,

	"privileged":   onlyFalse,
	"ipc":          ownNamespace("", "private", "shareable", "none"),
	"pid":          ownNamespace(""),
	"uts":          oneOf(""),
	"userns_mode":  oneOf(""),
	"cgroup":       oneOf("", "private"),
	"network_mode": ownNetwork,
	"security_opt": listOf(oneOf("no-new-privileges", "no-new-privileges:true", "no-new-privileges=true")),
	"volumes":      listOf(ownMount),
	"volumes_from": listOf(ownService),
	"logging":      ownLogging,
	"deploy":       ownDeploy,
	"post_start":   listOf(hook),
	"pre_stop":     listOf(hook),
}

// check refuses a definition that asks for more than it may have. The error
// names the service, the key, and the policy where that is the reason.
func (p projectPolicy) check(definition map[string]any) error {
	if at := mergeKey(definition, "the compose definition"); at != "" {
		return fmt.Errorf("%s uses the key \"<<\": write out what it stands for", at)
	}
	if definition["include"] != nil {
		return fmt.Errorf("the compose definition includes another file: a device gets the one definition only")
	}
	listed, err := services(definition)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(listed)) {
		for _, key := range slices.Sorted(maps.Keys(listed[name])) {
			v := listed[name][key]
			if rule := always[key]; rule != nil && v != nil {
				if why := rule(p, v); why != "" {
					return fmt.Errorf("service %s: %s: %s", name, key, why)
				}
			}
			if p.privileged || strings.HasPrefix(key, "x-") || v == nil {
				continue
			}
			rule, known := harmless[key]
			why := "it reaches beyond the app"
			if known && rule != nil {
				why = rule(p, v)
			} else if known {
				why = ""
			}
			if why != "" {
				return fmt.Errorf("service %s: %s: %s: not allowed on this device (policy.privileged_apps is false)", name, key, why)
			}
		}
	}
	return p.checkShared(definition)
}

// checkShared looks at what services share.
func (p projectPolicy) checkShared(definition map[string]any) error {
	for _, kind := range []string{"secrets", "configs", "volumes", "networks"} {
		listed, ok := definition[kind].(map[string]any)
		if !ok && definition[kind] != nil {
			return fmt.Errorf("%s of the compose definition is no object", kind)
		}
		for _, name := range slices.Sorted(maps.Keys(listed)) {
			entry, ok := listed[name].(map[string]any)
			if !ok && listed[name] != nil {
				return fmt.Errorf("%s.%s of the compose definition is no object", kind, name)
			}
			if file := entry["file"]; file != nil {
				if why := insideFiles(p, file); why != "" {
					return fmt.Errorf("%s.%s: file: %s", kind, name, why)
				}
			}
			if p.privileged || kind != "volumes" && kind != "networks" {
				continue
			}
			if why := ownShared(kind, entry); why != "" {
				return fmt.Errorf("%s.%s: %s: not allowed on this device (policy.privileged_apps is false)", kind, name, why)
			}
		}
	}
	return nil
}

// ownShared looks at a volume or a network.
func ownShared(kind string, entry map[string]any) refusal {
	driver, _ := entry["driver"].(string)
	options, _ := entry["driver_opts"].(map[string]any)
	switch {
	case entry["external"] != nil && entry["external"] != false:
		return "it is not the app's own"
	case entry["name"] != nil:
		return "it may be another app's by its name"
	case kind == "volumes" && driver != "" && driver != "local", kind == "networks" && driver != "" && driver != "bridge":
		return "its driver reaches beyond the app"
	case kind == "volumes" && len(options) > 0:
		return "its driver_opts can mount what is not the app's"
	}
	return ""
}

// mergeKey finds a key by which YAML merges another object into one; compose
// reads JSON as YAML.
func mergeKey(v any, at string) string {
	switch t := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(t)) {
			if key == "<<" {
				return at
			}
			if found := mergeKey(t[key], at+"."+key); found != "" {
				return found
			}
		}
	case []any:
		for i, e := range t {
			if found := mergeKey(e, fmt.Sprintf("%s[%d]", at, i)); found != "" {
				return found
			}
		}
	}
	return ""
}

// inside refuses a path that leads out of the project's folder.
func (p projectPolicy) inside(name string) refusal { return p.within(p.folder, name) }

// within refuses a path, relative to from, that leads out of the project's
// folder, or that cannot be told to stay in it: a variable may be set, and an app
// may have laid a link there.
func (p projectPolicy) within(from, name string) refusal {
	if strings.Contains(name, "$") || strings.HasPrefix(name, "~") {
		return fmt.Sprintf("%.100q depends on the host", name)
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(from, name)
	}
	rel, err := filepath.Rel(p.folder, filepath.Clean(name))
	if err != nil || !filepath.IsLocal(rel) {
		return fmt.Sprintf("%.100q is outside the app's folder", name)
	}
	at := p.folder
	for _, part := range strings.Split(rel, string(filepath.Separator)) {
		at = filepath.Join(at, part)
		if info, err := os.Lstat(at); err == nil && info.Mode()&os.ModeSymlink != 0 {
			return fmt.Sprintf("%.100q leads through a link", name)
		}
	}
	return ""
}

func forbidden(why string) rule { return func(projectPolicy, any) refusal { return why } }

// insideFiles is a path or several, all inside the project's folder.
func insideFiles(p projectPolicy, v any) refusal {
	switch t := v.(type) {
	case string:
		return p.inside(t)
	case []any:
		for _, e := range t {
			if why := insideFiles(p, e); why != "" {
				return why
			}
		}
		return ""
	case map[string]any:
		return insideFiles(p, t["path"])
	}
	return "it is no path"
}

func sameFile(_ projectPolicy, v any) refusal {
	if from, ok := v.(map[string]any); ok && from["file"] != nil {
		return "it reads another file: a device gets the one definition only"
	}
	return ""
}

// buildInside keeps a build inside the project's folder. What comes over the
// network is no file of this host.
func buildInside(p projectPolicy, v any) refusal {
	if context, ok := v.(string); ok {
		return p.buildContext(context)
	}
	b, ok := v.(map[string]any)
	if !ok {
		return "it is neither a path nor an object"
	}
	context, ok := b["context"].(string)
	if !ok && b["context"] != nil {
		return "its context is no path"
	}
	if why := p.buildContext(context); why != "" {
		return why
	}
	if file, ok := b["dockerfile"].(string); ok && !remote(context) {
		if why := p.within(filepath.Join(p.folder, context), file); why != "" {
			return why
		}
	} else if b["dockerfile"] != nil && !ok {
		return "its dockerfile is no path"
	}
	if b["ssh"] != nil {
		return "ssh lends it the host's keys"
	}
	for _, context := range contexts(b["additional_contexts"]) {
		if why := p.buildContext(context); why != "" {
			return why
		}
	}
	if !p.privileged {
		network, _ := b["network"].(string)
		if b["entitlements"] != nil || b["privileged"] != nil || network != "" && network != "none" && network != "default" {
			return "its build reaches beyond the app: not allowed on this device (policy.privileged_apps is false)"
		}
	}
	return ""
}

func (p projectPolicy) buildContext(context string) refusal {
	if remote(context) {
		return ""
	}
	return p.inside(context)
}

// remote tells whether a build's context is no path.
func remote(context string) bool {
	for _, scheme := range []string{"https://", "http://", "git://", "git@", "ssh://", "docker-image://", "service:"} {
		if strings.HasPrefix(context, scheme) {
			return true
		}
	}
	return false
}

func contexts(v any) []string {
	var out []string
	switch t := v.(type) {
	case map[string]any:
		for _, e := range t {
			out = append(out, asText(e))
		}
	case []any:
		for _, e := range t {
			_, context, _ := strings.Cut(asText(e), "=")
			out = append(out, context)
		}
	}
	return out
}

func onlyFalse(_ projectPolicy, v any) refusal {
	if v == false || v == "false" {
		return ""
	}
	return "it makes the container the host's equal"
}

func oneOf(allowed ...string) rule {
	return func(_ projectPolicy, v any) refusal {
		if s, ok := v.(string); ok && slices.Contains(allowed, s) {
			return ""
		}
		return fmt.Sprintf("%.60q reaches beyond the app", asText(v))
	}
}

// ownNamespace also allows that of another service.
func ownNamespace(allowed ...string) rule {
	return func(p projectPolicy, v any) refusal {
		if s, ok := v.(string); ok && strings.HasPrefix(s, "service:") && !strings.Contains(s, "$") {
			return ""
		}
		return oneOf(allowed...)(p, v)
	}
}

func listOf(each rule) rule {
	return func(p projectPolicy, v any) refusal {
		list, ok := v.([]any)
		if !ok {
			return "it is no list"
		}
		for _, e := range list {
			if why := each(p, e); why != "" {
				return why
			}
		}
		return ""
	}
}

func ownNetwork(_ projectPolicy, v any) refusal {
	mode, _ := v.(string)
	if mode == "bridge" || mode == "none" || strings.HasPrefix(mode, "service:") && !strings.Contains(mode, "$") {
		return ""
	}
	return fmt.Sprintf("%.60q is not the app's own network", asText(v))
}

func ownService(_ projectPolicy, v any) refusal {
	if from, ok := v.(string); ok && !strings.HasPrefix(from, "container:") && !strings.Contains(from, "$") {
		return ""
	}
	return "they may be another app's"
}

// ownMount allows what is the app's: named volumes, its data folder, the folder
// that all apps share, and what lies in the project's folder. What looks like a
// path for compose is one here.
func ownMount(p projectPolicy, v any) refusal {
	switch m := v.(type) {
	case string:
		if strings.Contains(m, "$") {
			return fmt.Sprintf("%q depends on the host", m)
		}
		source, _, mapped := strings.Cut(m, ":")
		if !mapped || !strings.ContainsAny(source, "./~\\") {
			return "" // an anonymous volume, or a named one
		}
		return p.ownPath(source)
	case map[string]any:
		source, _ := m["source"].(string)
		switch m["type"] {
		case "tmpfs":
			return ""
		case "volume":
			if !strings.ContainsAny(source, "./~\\$") {
				return ""
			}
		case "bind":
			return p.ownPath(source)
		}
	}
	return "it mounts what may not be the app's"
}

func (p projectPolicy) ownPath(source string) refusal {
	if slices.Contains(p.shown, filepath.Clean(source)) {
		return ""
	}
	if filepath.Clean(filepath.Join(p.folder, source)) == p.folder || filepath.Clean(source) == p.folder {
		return "the project's folder itself cannot be mounted"
	}
	return p.inside(source)
}

func ownLogging(_ projectPolicy, v any) refusal {
	logging, ok := v.(map[string]any)
	switch logging["driver"] {
	case nil, "json-file", "local", "none", "journald":
		if ok {
			return ""
		}
	}
	return "its driver reaches beyond the app"
}

func ownDeploy(_ projectPolicy, v any) refusal {
	deploy, ok := v.(map[string]any)
	resources, _ := deploy["resources"].(map[string]any)
	reservations, _ := resources["reservations"].(map[string]any)
	if !ok || reservations["devices"] != nil {
		return "it asks for devices"
	}
	return ""
}

func hook(_ projectPolicy, v any) refusal {
	h, ok := v.(map[string]any)
	if !ok || h["privileged"] != nil && h["privileged"] != false {
		return "it makes the container the host's equal"
	}
	return ""
}
