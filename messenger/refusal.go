package messenger

import (
	"strings"

	"github.com/gammazero/nexus/v3/wamp"
)

// A refusal is an ABORT or GOODBYE of the router.
type refusal struct {
	uri, text string
	login     bool // it was the answer to our login
}

func (r *refusal) Error() string {
	what := "the router ended the session"
	if r.login {
		what = "the router refused the login"
	}
	what += ": " + clip(r.uri)
	if r.text != "" {
		what += ": " + clip(r.text)
	}
	return what
}

// credentials reports whether the router refused who we are, as against
// refusing everybody or something else. Routers word it differently, and a new
// wording that is missed here would only be retried faster than it should be.
func (r *refusal) credentials() bool {
	if !r.login {
		return false
	}
	reason := strings.ToLower(r.uri)
	if i := strings.LastIndexByte(reason, '.'); i >= 0 {
		reason = reason[i+1:]
	}
	for _, word := range refusedWords {
		if strings.Contains(reason, word) {
			return true
		}
	}
	text := strings.ToLower(r.text)
	for _, phrase := range refusedPhrases {
		if strings.Contains(text, phrase) {
			return true
		}
	}
	return false
}

var (
	// Parts of the last component of a reason: not_authorized,
	// authentication_failed, authorization_failed, authentication_required,
	// cannot_authenticate, no_auth_method, no_matching_auth_method,
	// no_such_principal, no_such_role, invalid_signature, access_denied…
	refusedWords = []string{"auth", "principal", "no_such_role", "signature", "credential", "access_denied"}
	// Crossbar.io says so in the message, whatever the reason.
	refusedPhrases = []string{"signature is invalid", "authentication failed"}
)

func refusalText(details wamp.Dict) string {
	text, _ := wamp.AsString(details[wamp.OptMessage])
	return text
}
