package fault

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-connections/nat"

	"reagent/internal/testenv"
	"reagent/protocol"
	"reagent/release"
	"reagent/test/rig"
)

// referenceTables is the database of the reference agent as it leaves it on a
// device (life §6), with the rows of apps that are given as
// name:key.
const referenceTables = `
import sqlite3, sys
path, apps = sys.argv[1], [a.split(":") for a in sys.argv[2:]]
db = sqlite3.connect(path)
db.executescript("""
CREATE TABLE IF NOT EXISTS "AppStates" (
 "id" INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, "app_name" TEXT NOT NULL, "app_key" INTEGER NOT NULL, "version" TEXT NOT NULL,
 "release_key" INTEGER NOT NULL, "stage" TEXT NOT NULL CHECK (stage IN ('DEV', 'PROD')), "state" TEXT NOT NULL, "timestamp" TEXT NOT NULL,
 UNIQUE (app_name, app_key, stage));
CREATE TABLE IF NOT EXISTS "RequestedAppStates" (
 "id" INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, "app_name" TEXT NOT NULL, "app_key" INTEGER NOT NULL, "stage" TEXT NOT NULL CHECK (stage IN ('DEV', 'PROD')),
 "version" TEXT, "present_version" TEXT, "newest_version" TEXT, "environment_variables" TEXT, "environment_template" TEXT, "ports" TEXT,
 "docker_compose" TEXT, "new_docker_compose" TEXT, "release_key" INTEGER NOT NULL, "new_release_key" INTEGER NOT NULL, "request_update" INTEGER NOT NULL,
 "current_state" TEXT NOT NULL, "manually_requested_state" TEXT NOT NULL, "requestor_account_key" INTEGER NOT NULL,
 "device_owner_account_key" INTEGER NOT NULL DEFAULT 0, "timestamp" TEXT NOT NULL, UNIQUE (app_name, app_key, stage));
CREATE TABLE IF NOT EXISTS "AppStateHistory" (
 "id" INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, "app_name" TEXT NOT NULL, "app_key" INTEGER NOT NULL, "release_key" INTEGER NOT NULL,
 "version" TEXT NOT NULL, "stage" TEXT NOT NULL, "state" TEXT NOT NULL, "timestamp" TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS "LogHistory" (
 "id" INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, "app_name" TEXT NOT NULL, "app_key" INTEGER NOT NULL, "stage" TEXT NOT NULL,
 "log_type" TEXT NOT NULL CHECK (log_type IN ('PULL', 'PUSH', 'BUILD', 'APP')), "log" TEXT NOT NULL, UNIQUE (app_name, app_key, stage, log_type));
CREATE TABLE IF NOT EXISTS "DeviceStates" (
 "id" INTEGER PRIMARY KEY NOT NULL, "interface_type" TEXT NOT NULL, "device_status" TEXT NOT NULL, "timestamp" TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS "DeviceStateHistory" (
 "id" INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, "interface_type" TEXT NOT NULL, "device_status" TEXT NOT NULL, "timestamp" TEXT NOT NULL);
INSERT INTO DeviceStates VALUES (1, 'NONE', 'DISCONNECTED', '1700000000');
""")
when = "2025-03-01T12:00:00+01:00"
for name, key in apps:
    db.execute("INSERT INTO AppStates (app_name, app_key, version, release_key, stage, state, timestamp) VALUES (?, ?, '1.0.0', 1, 'PROD', 'RUNNING', ?)", (name, int(key), when))
    db.execute("""INSERT INTO RequestedAppStates (app_name, app_key, stage, version, present_version, newest_version, environment_variables, environment_template, ports,
        docker_compose, new_docker_compose, release_key, new_release_key, request_update, current_state, manually_requested_state, requestor_account_key, timestamp)
        VALUES (?, ?, 'PROD', '', '1.0.0', '1.0.0', '{}', '{}', '[]', 'null', 'null', 1, 1, 0, 'RUNNING', 'RUNNING', 1, ?)""", (name, int(key), when))
    db.execute("INSERT INTO AppStateHistory (app_name, app_key, release_key, version, stage, state, timestamp) VALUES (?, ?, 1, '1.0.0', 'PROD', 'STARTING', ?)", (name, int(key), when))
    db.execute("INSERT INTO LogHistory (app_name, app_key, stage, log_type, log) VALUES (?, ?, 'PROD', 'APP', '[\"ready\"]')", (name, int(key)))
db.commit()
db.close()
`

// asReference makes a container as the reference agent does (life §3.3, §3.4),
// but for the privileges, which not every engine grants.
func (s *site) asReference(app string, key uint64, serial string, labels map[string]string) (cn string) {
	s.t.Helper()
	cn = protocol.ContainerName(protocol.Prod, key, app)
	ref := protocol.RegistryImage(s.file.DockerRegistryURL, s.file.DockerMainRepository, protocol.Prod, release.Arch(), key, app) + ":1.0.0"
	testenv.BuildImage(s.t, s.engine, ref, testenv.App{Version: "1.0.0"})
	folder := func(parts ...string) string {
		path := filepath.Join(append([]string{s.device.AppsDir()}, parts...)...)
		if err := os.MkdirAll(path, 0o755); err != nil {
			s.t.Fatal(err)
		}
		return path
	}
	made, err := s.engine.API.ContainerCreate(s.t.Context(), &container.Config{
		Image: ref, Labels: labels, Tty: true,
		Env: []string{
			"DEVICE_SERIAL_NUMBER=" + serial, "ENV=PROD", fmt.Sprintf("DEVICE_KEY=%d", s.file.DeviceKey), fmt.Sprintf("SWARM_KEY=%d", s.file.SwarmKey),
			fmt.Sprintf("APP_KEY=%d", key), "APP_NAME=" + app, "DEVICE_NAME=" + s.file.Name, "DEVICE_ENDPOINT_URL=" + s.file.DeviceEndpointURL,
			"TUNNEL_DOMAIN=app.example.test", "DEVICE_PORT_FOR_8080=0",
		},
	}, &container.HostConfig{
		NetworkMode: "bridge", ExtraHosts: []string{"host.docker.internal:host-gateway"},
		Binds:        []string{folder("shared") + ":/shared", folder("prod", app) + ":/data"},
		PortBindings: nat.PortMap{},
	}, nil, nil, cn)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.engine.API.ContainerStart(s.t.Context(), made.ID, container.StartOptions{}); err != nil {
		s.t.Fatal(err)
	}
	return cn
}

func TestTheReferenceAgentsAppsAreAdoptedAndItsFilesStayAsTheyAre(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Fatalf("the reference's database needs python3 with sqlite3: %v", err)
	}
	s := newSite(t, testenv.Docker(t))
	real := map[string]string{"real": "True"}

	// What the reference left: an app that runs, one that a power cut ended, …
	apps := map[string]uint64{}
	for _, name := range []string{"runs", "ended"} {
		app := s.app(name)
		apps[name] = s.Release(app, rig.Release{Version: "1.0.0"}).AppKey
		s.Deploy(app, s.device.Serial, "1.0.0", nil)
	}
	runs := s.asReference(s.app("runs"), apps["runs"], s.device.Serial, real)
	ended := s.asReference(s.app("ended"), apps["ended"], s.device.Serial, real)
	if err := s.engine.API.ContainerKill(t.Context(), ended, "KILL"); err != nil {
		t.Fatal(err)
	}
	// … and what is not its: another device's, and one that only looks like it.
	foreign := s.asReference(s.app("foreign"), 900001, "4cf1c0de-0000-4000-8000-000000000000", real)
	alike := s.asReference(s.app("alike"), 900002, s.device.Serial, nil)

	sqlite := filepath.Join(s.device.Dir, "reagent.db")
	args := []string{"-c", referenceTables, sqlite}
	for name, key := range apps {
		args = append(args, fmt.Sprintf("%s:%d", s.app(name), key))
	}
	if out, err := exec.CommandContext(t.Context(), python, args...).CombinedOutput(); err != nil {
		t.Fatalf("make the reference's database: %v\n%s", err, out)
	}
	left := map[string]string{sqlite: stamp(t, sqlite), s.device.File: stamp(t, s.device.File)}
	names := []string{runs, ended, foreign, alike}
	begun, made := map[string]life{}, map[string]string{}
	for _, cn := range names {
		begun[cn], made[cn] = lifeOf(t, s.engine, cn), inspect(t, s.engine, cn).ID
	}

	s.device.Flags = append(s.device.Flags, "-dbFileName", sqlite)
	for _, nth := range []string{"first", "second"} {
		agent := s.start(quick(t))
		s.wait(s.app("runs"), protocol.Running, "1.0.0")
		s.wait(s.app("ended"), protocol.Running, "1.0.0")
		for _, cn := range []string{runs, foreign, alike} {
			if got := lifeOf(t, s.engine, cn); got != begun[cn] {
				t.Errorf("%s start: %s is %v, was %v", nth, cn, got, begun[cn])
			}
		}
		for _, cn := range names {
			if got := inspect(t, s.engine, cn); got.ID != made[cn] || strings.TrimPrefix(got.Name, "/") != cn {
				t.Errorf("%s start: %s is %s %s, was %s", nth, cn, got.Name, got.ID, made[cn])
			}
		}
		if lifeOf(t, s.engine, ended) == lifeNone {
			t.Errorf("%s start: %s is reported RUNNING and does not run", nth, ended)
		}
		if _, err := os.Stat(sqlite + ".bolt"); err != nil {
			t.Errorf("our database beside the reference's: %v", err)
		}
		for path, before := range left {
			if after := stamp(t, path); after != before {
				t.Errorf("%s start: %s is %v, was %v", nth, path, after, before)
			}
		}
		agent.Kill()
		begun[ended] = lifeOf(t, s.engine, ended)
	}
	// The reference, put back, opens its file as if nothing had been.
	check := `import sqlite3, sys; print([r[0] for r in sqlite3.connect(sys.argv[1]).execute("SELECT state FROM AppStates ORDER BY app_key")])`
	out, err := exec.CommandContext(t.Context(), python, "-c", check, sqlite).CombinedOutput()
	if got := strings.TrimSpace(string(out)); err != nil || got != "['RUNNING', 'RUNNING']" {
		t.Errorf("the reference's states = %s (%v), want both RUNNING", got, err)
	}
	if journal, _ := filepath.Glob(sqlite + "-*"); len(journal) > 0 {
		t.Errorf("left beside the reference's database: %v", journal)
	}
}

// lifeNone is the life of a container that does not run.
var lifeNone = life{}
