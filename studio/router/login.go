package router

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gammazero/nexus/v3/wamp"

	"reagent/protocol"
)

// A login is what a session proved.
type login struct {
	realm  string
	authid string
	who    Principal
	local  bool // within this process: nothing was proved, nothing is rechecked
}

// errRefused is all that a stranger is told. The wording is not that of
// Crossbar.io, on which an older agent would end its process.
var errRefused = errors.New("authentication failed: there is no such name in this realm, or its secret is another one")

// login takes the client through HELLO, CHALLENGE and AUTHENTICATE. Where it is
// refused, it has been told so.
func (r *Router) login(w *websocketWire) (*wamp.Hello, login, error) {
	w.deadline(time.Now().Add(r.cfg.LoginTimeout))
	hello, err := readHello(w)
	if err != nil {
		var odd *unexpected
		if errors.As(err, &odd) {
			tell(w, wamp.ErrProtocolViolation, err.Error())
		}
		return nil, login{}, err
	}
	l := login{realm: string(hello.Realm)}
	l.authid, _ = wamp.AsString(hello.Details["authid"])
	if !offersCRA(hello) {
		err := errors.New(`this router knows the authentication method "wampcra" only`)
		tell(w, wamp.ErrNoAuthMethod, err.Error())
		return nil, l, fmt.Errorf("%s in %s: %w", clip(l.authid), clip(l.realm), err)
	}
	var known bool
	l.who, known = r.directory.Principal(l.realm, l.authid)
	if !known {
		// The same steps as for one who exists, and no answer that is right.
		l.who = Principal{Role: seemingRole(l.authid), Secret: rand.Text()}
	}
	if reason := challenge(w, l); reason != nil {
		if known {
			r.directory.Refused(l.realm, l.authid, reason.Error())
		}
		return nil, l, fmt.Errorf("%s in %s: %w", clip(l.authid), clip(l.realm), reason)
	}
	if !known { // unreachable but for a collision of 128 bits
		return nil, l, errRefused
	}
	w.deadline(time.Time{})
	return hello, l, nil
}

// unexpected is a message that does not belong there.
type unexpected struct{ got, want wamp.MessageType }

func (u *unexpected) Error() string { return fmt.Sprintf("expected %v, received %v", u.want, u.got) }

func readHello(w wire) (*wamp.Hello, error) {
	msg, err := w.read()
	if err != nil {
		return nil, fmt.Errorf("no HELLO: %w", err)
	}
	hello, ok := msg.(*wamp.Hello)
	if !ok {
		return nil, &unexpected{msg.MessageType(), wamp.HELLO}
	}
	return hello, nil
}

func offersCRA(hello *wamp.Hello) bool {
	methods, _ := wamp.AsList(hello.Details["authmethods"])
	for _, m := range methods {
		if s, _ := wamp.AsString(m); s == methodCRA {
			return true
		}
	}
	return false
}

// cleanHello is what nexus is shown of a HELLO: the roles are the client's, all
// else is what we know.
func cleanHello(hello *wamp.Hello, l login) *wamp.Hello {
	return &wamp.Hello{Realm: wamp.URI(l.realm), Details: wamp.Dict{
		"roles": hello.Details["roles"], "authid": l.authid, "authmethods": wamp.List{methodCRA},
	}}
}

// seemingRole is the role that an authid would have if it existed.
func seemingRole(authid string) string {
	if _, _, ok := protocol.ParseDeviceAuthID(authid); ok {
		return protocol.RoleDevice
	}
	if _, _, _, _, ok := protocol.ParseAppAuthID(authid); ok {
		return protocol.RoleApp
	}
	return protocol.RoleUser
}

// challenge asks for a signature and checks it. A challenge is good for one
// answer on its own connection, within the login's time limit. It returns why
// the login is refused, nil if it is not.
func challenge(w wire, l login) error {
	text, err := challengeText(l)
	if err != nil {
		tell(w, wamp.ErrAuthenticationFailed, "the router is out of randomness")
		return err
	}
	err = send(w, &wamp.Challenge{AuthMethod: methodCRA, Extra: wamp.Dict{"challenge": text}})
	if err != nil {
		return fmt.Errorf("challenge not sent: %w", err)
	}
	msg, err := w.read()
	if err != nil {
		return fmt.Errorf("no answer to the challenge: %w", err)
	}
	answer, ok := msg.(*wamp.Authenticate)
	if !ok {
		err := &unexpected{msg.MessageType(), wamp.AUTHENTICATE}
		tell(w, wamp.ErrProtocolViolation, err.Error())
		return err
	}
	mac := hmac.New(sha256.New, []byte(l.who.Secret))
	mac.Write([]byte(text))
	want := base64.StdEncoding.EncodeToString(mac.Sum(nil))
	if !hmac.Equal([]byte(answer.Signature), []byte(want)) {
		tell(w, wamp.ErrNotAuthorized, errRefused.Error())
		return errors.New("wrong secret")
	}
	return nil
}

func challengeText(l login) (string, error) {
	raw, err := json.Marshal(struct {
		Nonce        string `json:"nonce"`
		AuthProvider string `json:"authprovider"`
		AuthID       string `json:"authid"`
		Timestamp    string `json:"timestamp"`
		AuthRole     string `json:"authrole"`
		AuthMethod   string `json:"authmethod"`
	}{rand.Text(), authProvider, l.authid, time.Now().UTC().Format(time.RFC3339Nano), l.who.Role, methodCRA})
	return string(raw), err
}

// tell sends the last message of a login that is refused.
func tell(w wire, reason wamp.URI, text string) {
	_ = send(w, &wamp.Abort{Reason: reason, Details: wamp.Dict{wamp.OptMessage: text}})
}

func send(w wire, msg wamp.Message) error {
	raw, err := w.encode(msg)
	if err != nil {
		return err
	}
	return w.write(raw)
}

// clip keeps a stranger's text from filling the log.
func clip(text string) string {
	const most = 100
	if len(text) <= most {
		return fmt.Sprintf("%q", text)
	}
	return fmt.Sprintf("%q…", text[:most])
}
