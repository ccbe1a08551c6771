package testenv

import (
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"reagent/protocol"
	"reagent/studio/router"
)

// Router starts the studio's router behind a relay and returns its URL, and a
// function that cuts all links to it. Who may log in says secrets, by authid;
// the form of an authid gives the role:
//
//	system          role system
//	3               role user, with every privilege on every device
//	7-42            role device, with the serial number 7-42
//	7-42/abc        role device, authid 7-42, with the serial number abc
//	app-…@serial    role app, in the realm of its app in project 7
func Router(t testing.TB, secrets map[string]string) (url string, cut func()) {
	t.Helper()
	directory := principals{}
	for name, secret := range secrets {
		directory.add(name, secret)
	}
	r, err := router.New(router.Config{Log: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.InfoLevel)}, directory)
	if err != nil {
		t.Fatalf("start the router: %v", err)
	}
	server := httptest.NewServer(r)
	t.Cleanup(func() { r.Close(); server.Close() })
	relay := NewRelay(t, strings.TrimPrefix(server.URL, "http://"))
	return "ws://" + relay.Addr() + "/ws", relay.Cut
}

// principals is a directory that does not change.
type principals map[string]router.Principal

func (p principals) add(name, secret string) {
	authid, serial, named := strings.Cut(name, "/")
	realm := protocol.RealmDevices
	who := router.Principal{Secret: secret}
	stage, appKey, _, host, isApp := protocol.ParseAppAuthID(name)
	_, _, isDevice := protocol.ParseDeviceAuthID(authid)
	switch {
	case isApp:
		authid, realm = name, protocol.AppRealm(7, appKey, stage)
		who.Role, who.Serial = protocol.RoleApp, host
	case isDevice:
		who.Role, who.Serial = protocol.RoleDevice, authid
		if named {
			who.Serial = serial
		}
	case name == protocol.AuthIDSystem:
		who.Role = protocol.RoleSystem
	default:
		who.Role = protocol.RoleUser
		who.Account, _ = strconv.ParseUint(name, 10, 64)
	}
	p[realm+" "+authid] = who
}

func (p principals) Principal(realm, authid string) (router.Principal, bool) {
	who, ok := p[realm+" "+authid]
	return who, ok
}

func (p principals) Refused(string, string, string)                 {}
func (p principals) May(uint64, string, ...protocol.Privilege) bool { return true }
