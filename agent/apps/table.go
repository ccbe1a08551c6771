package apps

import "reagent/protocol"

// A step is what a worker does to take an app from one state to another.
type step string

const (
	none      step = "none"      // it is as wanted
	pull      step = "pull"      // get the image
	run       step = "run"       // get the image if need be, create and start the container
	stop      step = "stop"      // end and remove the container, keep image and data
	settle    step = "settle"    // clear what an interrupted step left, then be PRESENT
	remove    step = "remove"    // container and images go, data stays
	uninstall step = "uninstall" // remove, and the data goes too
	update    step = "update"    // replace the version as one transaction (design S16)
	build     step = "build"     // make the image from the uploaded archive
	publish   step = "publish"   // build, and push the image as a version
	cancel    step = "cancel"    // clear what was called off, then be REMOVED
	refused   step = "refused"   // not for this stage
)

// An edge is an app's state and the state that is wanted of it.
type edge struct {
	from   protocol.State
	wanted protocol.State // settled
}

// transitions are the life cycles, one for each stage: the step that takes an
// app from a state towards a wish. Every pair is listed, by rows that a reviewer
// can read; the golden file prints them all. A transient state on the left is
// what an interrupted step left behind: while the step runs, the yields table
// decides. No state is a dead end.
//
// An update is not in the table: it is due whatever the pair is (see plan).
var transitions = map[protocol.Stage]map[edge]step{
	protocol.Prod: rows{
		columns: []protocol.State{protocol.Present, protocol.Running, protocol.Removed, protocol.Uninstalled},
		// Building and publishing are for a developer's copy (DEV); nobody can
		// wish for a failure, and STOPPED is a word that no agent ever reached.
		never: []protocol.State{protocol.Built, protocol.Published, protocol.Failed, protocol.Stopped},
		steps: map[protocol.State][]step{
			protocol.Removed:     {pull, run, none, uninstall},
			protocol.Uninstalled: {pull, run, none, none},
			protocol.Present:     {none, run, remove, uninstall},
			protocol.Running:     {stop, none, remove, uninstall},
			protocol.Failed:      {settle, run, remove, uninstall},
			protocol.Stopped:     {settle, run, remove, uninstall},
			protocol.Built:       {none, run, remove, uninstall},
			protocol.Published:   {none, run, remove, uninstall},
			protocol.Downloading: {pull, run, remove, uninstall},
			protocol.Starting:    {stop, run, remove, uninstall},
			protocol.Stopping:    {stop, run, remove, uninstall},
			protocol.Deleting:    {settle, run, remove, uninstall},
			protocol.Updating:    {settle, run, remove, uninstall},
			protocol.Transfered:  {pull, run, remove, uninstall},
			protocol.Transfering: {pull, run, remove, uninstall},
			protocol.Building:    {settle, run, remove, uninstall},
			protocol.Publishing:  {settle, run, remove, uninstall},
		},
	}.all(),
	// Of a developer's copy only one thing is different: it is built here, not
	// pulled, each time that somebody asks for it, and not again by itself (see
	// plan).
	protocol.Dev: rows{
		columns: []protocol.State{protocol.Present, protocol.Running, protocol.Built, protocol.Published, protocol.Removed, protocol.Uninstalled},
		never:   []protocol.State{protocol.Failed, protocol.Stopped},
		steps: map[protocol.State][]step{
			protocol.Removed:     {none, run, build, publish, none, uninstall},
			protocol.Uninstalled: {none, run, build, publish, none, none},
			protocol.Present:     {none, run, build, publish, remove, uninstall},
			protocol.Running:     {stop, none, stop, publish, remove, uninstall},
			protocol.Failed:      {settle, run, build, publish, remove, uninstall},
			protocol.Stopped:     {settle, run, build, publish, remove, uninstall},
			protocol.Built:       {settle, run, build, publish, remove, uninstall},
			protocol.Published:   {settle, run, build, publish, remove, uninstall},
			protocol.Downloading: {settle, run, build, publish, remove, uninstall},
			protocol.Starting:    {stop, run, build, publish, remove, uninstall},
			protocol.Stopping:    {stop, run, build, publish, remove, uninstall},
			protocol.Deleting:    {settle, run, build, publish, remove, uninstall},
			protocol.Updating:    {settle, run, build, publish, remove, uninstall},
			protocol.Transfered:  {settle, run, build, publish, cancel, uninstall},
			protocol.Transfering: {settle, run, build, publish, cancel, uninstall},
			protocol.Building:    {settle, run, build, publish, cancel, uninstall},
			protocol.Publishing:  {settle, run, build, publish, cancel, uninstall},
		},
	}.all(),
}

// rows are a table of transitions as it is written down.
type rows struct {
	columns []protocol.State // what is wanted
	never   []protocol.State // what cannot be
	steps   map[protocol.State][]step
}

func (r rows) all() map[edge]step {
	all := make(map[edge]step)
	for from, steps := range r.steps {
		for i, wanted := range r.columns {
			all[edge{from, wanted}] = steps[i]
		}
		for _, wanted := range r.never {
			all[edge{from, wanted}] = refused
		}
	}
	return all
}

// yields tells for each step whether a newer wish ends it before its time
// (life §2.2: the rows of the transient states). The short steps are not worth
// interrupting: they end, and the newest wish is looked at right after.
var yields = map[step]func(doing, newer protocol.AppRequest) bool{
	pull: func(doing, newer protocol.AppRequest) bool {
		return goes(newer) || !sameImage(doing, newer)
	},
	run: func(doing, newer protocol.AppRequest) bool {
		return newer.Target.Settled() != protocol.Running || !sameImage(doing, newer)
	},
	// A build goes on whatever else is wanted (life §2.2: its row is empty but for
	// a removal): what is wanted then is done with what was built.
	build:   calledOffBy,
	publish: calledOffBy,
	update: func(doing, newer protocol.AppRequest) bool {
		return goes(newer) || !newer.RequestUpdate || !sameImage(doing, newer)
	},
}

func calledOffBy(_, newer protocol.AppRequest) bool { return goes(newer) || newer.CancelTransition }

func goes(r protocol.AppRequest) bool { return r.Target.Settled().Gone() }

func sameImage(a, b protocol.AppRequest) bool {
	return versionToRun(a) == versionToRun(b) && (!b.RequestUpdate || a.NewestVersion == b.NewestVersion)
}

// devVersion stands for what was built last of a developer's app: its image is
// the repository's latest (life §3.1).
const devVersion = "latest"

// versionToRun is the version that a wish means for an app of which nothing is
// installed: the one that the studio has as installed, else the newest.
func versionToRun(r protocol.AppRequest) string {
	if r.Stage == protocol.Dev {
		return devVersion
	}
	if r.RequestUpdate && r.NewestVersion != "" {
		return r.NewestVersion
	}
	for _, v := range []string{r.PresentVersion, r.NewestVersion, r.Version} {
		if v != "" {
			return v
		}
	}
	return ""
}
