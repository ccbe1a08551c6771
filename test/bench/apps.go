package main

import (
	"os/exec"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"

	"reagent/protocol"
)

// ballast is what has to cross from the registry to the engine in a pull.
const ballast = 1 << 20

// transitions measures from the request for RUNNING to the engine's event that
// the container started and to the report that it runs. Each round of the agent
// is followed by one of docker run with an image of the same form, because an
// engine's mood changes within minutes.
func (l *lab) transitions(t *stage) []figure {
	docker, err := exec.LookPath("docker")
	if err != nil {
		t.Skip("there is no docker command to compare with")
	}
	y := l.openYard(t)
	d := l.newDevice(t, l.router.addr, y.registry.Host)
	a := l.connect(t, d)
	defer a.stop()

	var figures []figure
	for _, way := range []struct {
		name, about string
		own         int            // bytes of the image
		between     protocol.State // what the app is brought to between two rounds
	}{
		{"run", "image local", 0, protocol.Present},
		{"pull", "with pull of 1 MiB", ballast, protocol.Removed},
	} {
		ours, floors := y.newApp(t, way.own), y.newApp(t, way.own)
		var starts, reports, floor sample
		for i := range l.runs + 1 {
			l.progress.say("apps, RUNNING %s: %d of %d", way.about, i, l.runs)
			mark, begun := l.witness.mark(), time.Now()
			y.want(t, d, ours, protocol.Running)
			started := l.await(t, mark, ours.started()).Sub(begun)
			reported := l.await(t, mark, ours.reported(protocol.Running)).Sub(begun)
			mark = l.witness.mark()
			y.want(t, d, ours, way.between)
			l.await(t, mark, ours.reported(way.between))

			mark, begun = l.witness.mark(), time.Now()
			if said, err := exec.CommandContext(t.ctx, docker, "run", "-d", "--name", floors.container, floors.image).CombinedOutput(); err != nil {
				t.Fatalf("docker run: %v\n%s", err, said)
			}
			ran := l.await(t, mark, floors.started()).Sub(begun)
			y.discard(t, floors, way.between == protocol.Removed)
			if i == 0 {
				continue // brings the images here, and both sides into the caches
			}
			starts.add(started)
			reports.add(reported)
			floor.add(ran)
		}
		figures = append(figures,
			median("apps."+way.name+".floor", "docker run → container starts, "+way.about, "ms", floor),
			median("apps."+way.name+".started", "RUNNING asked → container starts, "+way.about, "ms", starts),
			median("apps."+way.name+".reported", "RUNNING asked → RUNNING reported, "+way.about, "ms", reports),
			median("apps."+way.name+".ratio", "container starts, to docker run's, "+way.about, "×", starts.over(floor)))
	}
	return figures
}

// discard takes away what docker run has made.
func (y *yard) discard(t *stage, a app, andImage bool) {
	err := y.engine.API.ContainerRemove(t.ctx, a.container, container.RemoveOptions{Force: true})
	if err == nil && andImage {
		_, err = y.engine.API.ImageRemove(t.ctx, a.image, image.RemoveOptions{})
	}
	if err != nil {
		t.Fatalf("clean up after docker run: %v", err)
	}
}
