package apps

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"reagent/container"
	"reagent/internal/backoff"
	"reagent/protocol"
)

// A download brings the images of one version onto the device, over whatever
// link there is. Once something has come, a link that is lost is no failure: the
// download goes on when it is back, and what is on the device already is not
// fetched again. It waits its turn, since all downloads share one link and one
// disk.
type download struct {
	w       *worker
	j       *job
	m       making
	state   protocol.State // entered when the engine has accepted a pull
	inState error          // of entering it
	begun   bool           // the engine has accepted one
	heard   time.Time      // when the last byte came
	pause   backoff.Backoff
}

var (
	errNoVersion = errors.New("the request names no version: set present_version or newest_version")
	errOffline   = errors.New("there is no connection to the studio")
)

// fetch pulls the images of one version: for an update all, as a tag may stand
// for another image now, else those that are missing. The app enters state when
// the engine has accepted the pull, unless it is in it already.
func (w *worker) fetch(ctx context.Context, j *job, m making, state protocol.State) error {
	if m.version == "" {
		return errNoVersion
	}
	refs, err := w.formOf(m.project()).images(m)
	if err != nil {
		return err
	}
	if m.project() && state != protocol.Updating {
		if refs, err = w.missing(ctx, refs); err != nil {
			return err
		}
	}
	w.a.cfg.AppLog.Agent(j.cn(), fmt.Sprintf("Initialising download for the app: %s...", j.have.AppName))
	first := w.a.cfg.Waits.PullRetry
	d := &download{w: w, j: j, m: m, state: state, pause: backoff.Backoff{Min: first, Max: 15 * first}}
	for _, ref := range refs {
		if err := d.image(ctx, ref); err != nil {
			return err
		}
	}
	return d.inState
}

// image pulls one image, over as many interruptions as it takes.
func (d *download) image(ctx context.Context, ref string) error {
	for {
		linked := d.w.a.nextLink() // before the attempt: what comes during it counts
		err := d.attempt(ctx, ref)
		if err == nil {
			return nil
		}
		interrupted := d.interrupted(err)
		if interrupted && context.Cause(ctx) == nil {
			if err = d.rest(ctx, linked, err); err == nil {
				continue
			}
		}
		if context.Cause(ctx) != nil {
			d.say("The app download was canceled")
			return context.Cause(ctx)
		}
		if !interrupted {
			d.say("Error occured while trying to pull the image: " + err.Error())
		}
		return fmt.Errorf("pull %s: %w", ref, err)
	}
}

// attempt pulls an image once, with a token of its own: those of an earlier
// attempt may have expired.
func (d *download) attempt(ctx context.Context, ref string) error {
	release, err := d.turn(ctx)
	if err != nil {
		return err
	}
	defer release()
	var cred *container.Credential
	if d.w.a.atOwnRegistry(ref) { // it is for nobody else's eyes
		if cred, err = d.w.credential(ctx, d.m.r); err != nil {
			if !d.w.a.cfg.Studio.Online() {
				err = fmt.Errorf("%w: %w", errOffline, err)
			}
			return err
		}
	}
	tell := func(p container.PullProgress) { d.w.a.cfg.AppLog.Record(d.j.cn(), p.Record) }
	if d.m.project() { // whose log has words only
		put := func(text string) { d.w.a.cfg.AppLog.Output(d.j.cn(), text) }
		put("Pulling " + ref)
		tell = inQuarters(func(percent int64) { put(fmt.Sprintf("Pulling %s: %d %%", ref, percent)) })
	}
	var most int64
	return d.w.pullFitting(ctx, ref, cred, func(p container.PullProgress) {
		if !d.begun {
			d.begun, d.heard = true, time.Now()
		}
		if d.j.have.State != d.state && d.inState == nil {
			d.inState = d.w.set(d.j, d.state, reporting{})
		}
		if p.Current > most {
			most, d.heard = p.Current, time.Now()
			d.pause.Reset()
		}
		tell(p)
	})
}

// inQuarters passes on how far a pull came, four times.
func inQuarters(say func(percent int64)) func(container.PullProgress) {
	var said int64
	return func(p container.PullProgress) {
		if p.Total <= 0 {
			return
		}
		if quarter := min(p.Current*4/p.Total, 4); quarter > said {
			said = quarter
			say(quarter * 25)
		}
	}
}

// atOwnRegistry tells whether an image is at the registry that the studio's
// tokens are for.
func (a *Apps) atOwnRegistry(ref string) bool {
	return strings.HasPrefix(ref, strings.ToLower(a.cfg.Facts().Registry))
}

// interrupted tells whether the download goes on although an attempt failed: it
// has begun, the link is to blame, and it is not dead for good. What was refused
// fails, and what never began, so that whoever waits for it reads why. Nor does an
// installed version that is to run, to stop, or to be judged wait for a link: that
// is done before the download is tried again.
func (d *download) interrupted(err error) bool {
	waits := d.j.have.Swap != nil || d.j.installed() && d.j.seen.runs() != (d.j.req().Target.Settled() == protocol.Running)
	return !waits && d.begun && (errors.Is(err, container.ErrNetwork) || errors.Is(err, errOffline)) &&
		time.Since(d.heard) < d.w.a.cfg.Waits.PullPatience
}

// rest waits until another attempt may help: for a pause, and without the studio
// until it is back.
func (d *download) rest(ctx context.Context, linked <-chan struct{}, why error) error {
	pause := d.w.a.cfg.Waits.PullPatience - time.Since(d.heard)
	if errors.Is(why, errOffline) {
		d.say("The download was interrupted and goes on by itself when there is a connection again")
	} else {
		pause = min(pause, d.pause.Next())
		d.say(fmt.Sprintf("The download was interrupted (%v) and goes on by itself in %s", why, pause.Round(100*time.Millisecond)))
	}
	timer := time.NewTimer(max(pause, 0))
	defer timer.Stop()
	return d.await(ctx, linked, timer.C)
}

// turn waits until the device has room for one more pull.
func (d *download) turn(ctx context.Context) (release func(), err error) {
	turns := d.w.a.pulls
	select {
	case <-turns:
	default:
		d.say("Waiting for other downloads to end...")
		if err := d.await(ctx, turns, nil); err != nil {
			return nil, err
		}
	}
	return func() { turns <- struct{}{} }, nil
}

// await waits for either. The worker stands in a step meanwhile, and so the
// installed version is looked after here: one that ends while a link is down
// must not stay down with it.
func (d *download) await(ctx context.Context, ready <-chan struct{}, timer <-chan time.Time) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ready:
			return nil
		case <-timer:
			return nil
		case <-d.w.wake:
			if err := d.needed(ctx); err != nil {
				d.w.poke() // it was for the worker
				return err
			}
		}
	}
}

// needed is why the worker has to see to something else before it waits on.
func (d *download) needed(ctx context.Context) error {
	if d.w.forget.Load() == d.j.wish.Seq {
		return errors.New("the studio no longer knows the app")
	}
	if !d.j.seen.runs() {
		return nil
	}
	seen, err := d.w.form(d.j).look(ctx, d.j)
	if err != nil || seen.runs() {
		return nil // an engine that does not answer is found out by the next attempt
	}
	d.j.seen = seen
	return errors.New("the installed version ended meanwhile")
}

func (d *download) say(text string) { d.w.a.cfg.AppLog.Agent(d.j.cn(), text) }

// turns makes a limit of n: who takes one may do what is limited, and puts it
// back.
func turns(n int) chan struct{} {
	c := make(chan struct{}, n)
	for range n {
		c <- struct{}{}
	}
	return c
}

// nextLink is closed when the device comes on-line the next time.
func (a *Apps) nextLink() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.link
}
