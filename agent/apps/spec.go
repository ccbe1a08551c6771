package apps

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"reagent/container"
	"reagent/protocol"
)

// Labels that every container of ours carries (design D11): enough to find it
// again and to rebuild its record. labelReal is the contract's.
const (
	labelReal    = "real"
	labelSerial  = "reagent.serial"
	labelKey     = "reagent.app_key"
	labelName    = "reagent.app_name"
	labelStage   = "reagent.stage"
	labelVersion = "reagent.version"
	labelRelease = "reagent.release_key"
	labelHash    = "reagent.config"
)

// labelPrivileged is for the authors of images: "false" asks for no more rights
// than any container has (design S25).
const labelPrivileged = "reagent.privileged"

// asksForLess tells whether an image, or a container made from it, wants no
// privileges.
func asksForLess(labels map[string]string) bool { return labels[labelPrivileged] == "false" }

// parkedPrefix begins the name of an old container during an update (design
// S16). No version of the reference takes such a name for an app's.
const parkedPrefix = "reagent-parked-"

func parkedName(id string) string { return parkedPrefix + id[:min(12, len(id))] }

// A definition is an app as it should be made: everything that its container
// depends on and that somebody chose. What the agent derives by itself (host
// ports, addresses, credentials) is not part of it (design S11).
type definition struct {
	Image       string              `json:"image"`
	Environment map[string]any      `json:"environment"`
	Template    map[string]any      `json:"template"`
	Ports       []protocol.PortRule `json:"ports"`
	NetworkMode string              `json:"network_mode"`
	Privileged  bool                `json:"privileged"`
	Mounts      []container.Mount   `json:"mounts"`
	Compose     map[string]any      `json:"compose,omitempty"`
}

// hash is the fingerprint of the definition, the same for the same wish on
// every version of the agent.
func (d definition) hash() string {
	d.Ports = slices.Clone(d.Ports)
	for i := range d.Ports {
		d.Ports[i].RemotePort, d.Ports[i].CloudRemotePort, d.Ports[i].HostPort = 0, 0, 0
	}
	if len(d.Environment) == 0 {
		d.Environment = nil
	}
	if len(d.Template) == 0 {
		d.Template = nil
	}
	if len(d.Ports) == 0 {
		d.Ports = nil
	}
	raw, err := json.Marshal(d) // maps are written in the order of their keys
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(raw)
	return "1-" + hex.EncodeToString(sum[:12])
}

// image is the reference of an app's image.
func (a *Apps) image(r protocol.AppRequest, version string) string {
	return a.repository(r.ID(), r.AppName) + ":" + version
}

func (a *Apps) repository(id protocol.AppID, name string) string {
	f := a.cfg.Facts()
	return protocol.RegistryImage(f.Registry, f.Repository, id.Stage, a.cfg.Arch, id.Key, name)
}

func (a *Apps) dataFolder(r protocol.AppRequest) string {
	return filepath.Join(a.cfg.AppsDir, strings.ToLower(string(r.Stage)), strings.ToLower(r.AppName))
}

// projectFolder is where the files of a compose app are (life §3.7).
func (a *Apps) projectFolder(r protocol.AppRequest) string {
	if r.Stage == protocol.Dev {
		return filepath.Join(a.cfg.AppsDir, "build", r.AppName)
	}
	return filepath.Join(a.cfg.AppsDir, "compose", r.AppName)
}

func (a *Apps) project(r protocol.AppRequest) container.Project {
	dir := a.projectFolder(r)
	return container.Project{Name: projectName(r.ID(), r.AppName), Dir: dir, File: filepath.Join(dir, definitionFile)}
}

// projectName is the name of an app's compose project, with what compose does not
// take left out as the contract does (life §3.1).
func projectName(id protocol.AppID, name string) string {
	return strings.ReplaceAll(protocol.ComposeProject(id.Stage, id.Key, name), ".", "")
}

func (a *Apps) sharedFolder() string { return filepath.Join(a.cfg.AppsDir, "shared") }

// define is a single app as it should be made. less tells that its image asks for
// no privileges.
func (a *Apps) define(m making, less bool) definition {
	r := m.r
	return definition{
		Image:       a.image(r, m.version),
		Environment: r.Environment,
		Template:    r.EnvironmentTemplate,
		Ports:       r.Ports,
		NetworkMode: "bridge",
		Privileged:  a.cfg.Privileged && !less,
		Mounts: []container.Mount{
			{Source: a.sharedFolder(), Target: "/shared"},
			{Source: a.dataFolder(r), Target: "/data"},
		},
	}
}

// logLimit is what the engine may keep of a container's output, where nobody set
// another limit.
var logLimit = container.LogLimit{FileSize: 10 << 20, Files: 3}

// spec is the container to create for a wish (life §3.3). ports are the managed
// host ports by "tcp/8080".
func (a *Apps) spec(m making, less bool, ports map[string]uint16, vars []variable) container.Spec {
	r, d := m.r, a.define(m, less)
	s := container.Spec{
		Name:        protocol.ContainerName(r.Stage, r.AppKey, r.AppName),
		Image:       d.Image,
		Labels:      a.labels(m, d.hash()),
		TTY:         true,
		OpenStdin:   r.Stage == protocol.Dev,
		Privileged:  d.Privileged,
		NetworkMode: d.NetworkMode,
		ExtraHosts:  []string{"host.docker.internal:host-gateway"},
		Mounts:      d.Mounts,
		Log:         logLimit, // no part of the definition either
	}
	// What the host happens to have is no part of the definition: a module that
	// is loaded late must not cost an app its container.
	for _, path := range a.cfg.HostPaths() {
		s.Mounts = append(s.Mounts, container.Mount{Source: path, Target: path})
	}
	if d.Privileged {
		s.Devices = []string{"/dev"}
	}
	if a.cfg.GPU() {
		s.Runtime = "nvidia"
	}
	for _, v := range vars {
		if len(v.line()) <= longestVariable {
			s.Env = append(s.Env, v.line())
		}
	}
	for _, p := range r.Ports {
		host, ok := ports[portKey(p.Wire(), p.Port)]
		port := container.Port{Container: p.Port, Host: host, Protocol: p.Wire()}
		if p.LocalIP == "" && ok && !slices.Contains(s.Ports, port) {
			s.Ports = append(s.Ports, port)
		}
	}
	return s
}

// labels are those of a container that is made for an app.
func (a *Apps) labels(m making, hash string) map[string]string {
	return map[string]string{
		labelReal:    "True",
		labelSerial:  a.cfg.Facts().Serial,
		labelKey:     strconv.FormatUint(m.r.AppKey, 10),
		labelName:    m.r.AppName,
		labelStage:   string(m.r.Stage),
		labelVersion: m.version,
		labelRelease: strconv.FormatUint(m.release, 10),
		labelHash:    hash,
	}
}

// Labels are what every container that was made for this device carries.
func (a *Apps) Labels() map[string]string {
	return map[string]string{labelSerial: a.cfg.Facts().Serial}
}

// Owns tells whether a container is one of this device's apps, or one of its
// services.
func (a *Apps) Owns(c container.Container) bool {
	serial := a.cfg.Facts().Serial
	_, ours := owner(c.Labels, serial)
	_, _, single := adoptable(c, serial)
	_, _, service := adoptableService(c, serial)
	return ours || single || service
}

// owner tells by its labels whose container this is. ok is false for one that
// is not this device's.
func owner(labels map[string]string, serial string) (id protocol.AppID, ok bool) {
	if serial == "" || labels[labelSerial] != serial {
		return id, false
	}
	key, err := strconv.ParseUint(labels[labelKey], 10, 64)
	id = protocol.AppID{Key: key, Stage: protocol.Stage(labels[labelStage])}
	return id, err == nil && key != 0 && id.Stage.Valid()
}

// adoptable tells whether a container without our labels was made for this
// device by an agent of the contract (design S7): its name is exactly the one
// that its own variables make, it carries the contract's label, and its serial
// number is ours.
func adoptable(c container.Container, serial string) (id protocol.AppID, name string, ok bool) {
	id, name, ok = byVariables(c, serial)
	return id, name, ok && c.Labels[labelReal] == "True" && c.Name == protocol.ContainerName(id.Stage, id.Key, name)
}

// adoptableService is adoptable for the container of a compose app, which such an
// agent gave no label: its project's name has to be the one.
func adoptableService(c container.Container, serial string) (id protocol.AppID, name string, ok bool) {
	id, name, ok = byVariables(c, serial)
	return id, name, ok && c.Labels[labelProject] == projectName(id, name)
}

// byVariables tells by its environment whose a container says it is. The app's
// name comes from there, as containers' names have lost its capitals.
func byVariables(c container.Container, serial string) (id protocol.AppID, name string, ok bool) {
	env := map[string]string{}
	for _, line := range c.Env {
		k, v, _ := strings.Cut(line, "=")
		env[k] = v
	}
	key, err := strconv.ParseUint(env["APP_KEY"], 10, 64)
	id = protocol.AppID{Key: key, Stage: protocol.Stage(env["ENV"])}
	name = env["APP_NAME"]
	ok = err == nil && key != 0 && id.Stage.Valid() && serial != "" &&
		env["DEVICE_SERIAL_NUMBER"] == serial && protocol.CheckAppName(name) == nil
	return id, name, ok
}

// versionOf is the tag of an image reference.
func versionOf(image string) string {
	slash := strings.LastIndexByte(image, '/')
	if colon := strings.LastIndexByte(image, ':'); colon > slash {
		return image[colon+1:]
	}
	return ""
}

func (d definition) String() string { return fmt.Sprintf("%s %s", d.Image, d.hash()) }
