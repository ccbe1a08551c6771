package messenger

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"

	"github.com/gammazero/nexus/v3/client"
	"github.com/gammazero/nexus/v3/wamp"

	"reagent/protocol"
)

// Salted challenges: what holds where the router does not say, and what is the
// most a router may ask for. Without a bound, a router could keep a processor
// busy for ever with one message.
const (
	craIterations     = 1000
	craKeyLength      = 32
	craMostIterations = 1_000_000
	craMostKeyLength  = 64
)

// authHandlers offers the login methods. A challenge by another method is
// answered with an empty signature, by the client.
func authHandlers(secret string) map[string]client.AuthFunc {
	return map[string]client.AuthFunc{
		"wampcra": func(c *wamp.Challenge) (string, wamp.Dict) { return answerCRA(secret, c.Extra), wamp.Dict{} },
	}
}

// answerCRA signs a WAMP-CRA challenge. The key is the secret's text as it is or,
// where the router names a salt, the base64 of what PBKDF2 makes of it. A
// challenge that cannot be answered gets an empty signature, and so a refusal.
func answerCRA(secret string, extra map[string]any) string {
	challenge, _ := wamp.AsString(extra["challenge"])
	key := []byte(secret)
	if salt, _ := wamp.AsString(extra["salt"]); salt != "" {
		iterations, okI := bounded(extra["iterations"], craIterations, craMostIterations)
		length, okL := bounded(extra["keylen"], craKeyLength, craMostKeyLength)
		if !okI || !okL {
			return ""
		}
		derived, err := pbkdf2.Key(sha256.New, secret, []byte(salt), iterations, length)
		if err != nil {
			return ""
		}
		key = []byte(base64.StdEncoding.EncodeToString(derived))
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(challenge))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// bounded reads a number of the router; absent or 0 means def.
func bounded(v any, def, most uint64) (int, bool) {
	n, ok := protocol.Uint(v)
	switch {
	case v == nil || ok && n == 0:
		n, ok = def, true
	case n > most:
		ok = false
	}
	return int(n), ok
}
