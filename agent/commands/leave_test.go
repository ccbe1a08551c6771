package commands

import "testing"

func TestTheWishOfWhoCameLastCountsOnceNobodyWaits(t *testing.T) {
	type leaving struct {
		follower int
		end      bool
	}
	for name, c := range map[string]struct {
		order []leaving
		ends  bool
	}{
		"the newest, then a stale one":             {[]leaving{{1, true}, {0, false}}, true},
		"a stale one that is canceled late":        {[]leaving{{0, true}, {1, false}}, false},
		"the last one":                             {[]leaving{{1, false}, {0, true}}, true},
		"nobody wants it to end, and nobody waits": {[]leaving{{0, false}, {1, false}}, false},
		"the newest, while another waits":          {[]leaving{{1, true}}, false},
	} {
		r := &run{followers: 2, newest: 1, stop: make(chan struct{})}
		for _, l := range c.order {
			(&Commands{}).leave(r, l.follower, l.end)
		}
		ended := false
		select {
		case <-r.stop:
			ended = true
		default:
		}
		if ended != c.ends {
			t.Errorf("%s: ended %t, want %t", name, ended, c.ends)
		}
	}
}
