package studio

import (
	stdlog "log"
	"strings"

	"github.com/rs/zerolog"

	"reagent/protocol"
	"reagent/studio/router"
	"reagent/studio/store"
)

// directory is the store as the router sees it.
type directory struct{ store *store.Store }

func (d directory) Principal(realm, authid string) (router.Principal, bool) {
	p, ok := d.store.Principal(realm, authid)
	return router.Principal(p), ok
}

func (d directory) Refused(realm, authid, reason string) {
	if realm == protocol.RealmDevices {
		d.store.RefusedLogin(authid, reason)
	}
}

func (d directory) May(account uint64, serial string, privileges ...protocol.Privilege) bool {
	return d.store.MaySerial(account, serial, privileges...)
}

// libraryLog is what the HTTP server has to say: mostly that strangers hang up.
func libraryLog(log zerolog.Logger) *stdlog.Logger { return stdlog.New(httpLog{log}, "", 0) }

type httpLog struct{ to zerolog.Logger }

func (l httpLog) Write(p []byte) (int, error) {
	l.to.Debug().Str("part", "http").Msg(strings.TrimSpace(string(p)))
	return len(p), nil
}
