package messenger

import (
	"testing"

	"github.com/gammazero/nexus/v3/wamp"
	"github.com/gammazero/nexus/v3/wamp/crsign"
)

const challengeText = `{"nonce":"LHRTC9zeOIrt_9U3","authprovider":"userdb","authid":"peter","timestamp":"2014-06-22T16:36:25.448Z","authrole":"user","authmethod":"wampcra","session":3251278072152162 }`

// The library's own signing is the other opinion.
func TestSignaturesAgreeWithTheLibrary(t *testing.T) {
	for name, extra := range map[string]wamp.Dict{
		"plain":            {"challenge": challengeText},
		"empty salt":       {"challenge": challengeText, "salt": ""},
		"salt, defaults":   {"challenge": challengeText, "salt": "salt123"},
		"salt, all":        {"challenge": challengeText, "salt": "salt123", "iterations": uint64(100), "keylen": uint64(16)},
		"numbers as float": {"challenge": challengeText, "salt": "salt123", "iterations": 100.0, "keylen": 32.0},
		"zero":             {"challenge": challengeText, "salt": "salt123", "iterations": 0, "keylen": 0},
		"nothing":          {},
	} {
		want := crsign.RespondChallenge("secret==", &wamp.Challenge{Extra: extra}, nil)
		if got := answerCRA("secret==", extra); got != want {
			t.Errorf("%s: signature %s, want %s", name, got, want)
		}
	}
	// The example of the protocol's text.
	const want = "NWktSrMd4ItBSAKYEwvu1bTY7G/sSyjKbz+pNP9c04A="
	const example = `{ "nonce":"LHRTC9zeOIrt_9U3", "authprovider":"userdb", "authid":"peter", "timestamp":"2014-06-22T16:36:25.448Z", "authrole":"user", "authmethod":"wampcra", "session":3251278072152162 }`
	if got := answerCRA("secret", wamp.Dict{"challenge": example}); got != want {
		t.Errorf("signature of the protocol's example %s, want %s", got, want)
	}
}

func TestChallengesThatCostTooMuchAreNotAnswered(t *testing.T) {
	for name, extra := range map[string]wamp.Dict{
		"iterations": {"challenge": "x", "salt": "s", "iterations": uint64(craMostIterations + 1)},
		"keylen":     {"challenge": "x", "salt": "s", "keylen": uint64(craMostKeyLength + 1)},
		"huge":       {"challenge": "x", "salt": "s", "iterations": uint64(1 << 63), "keylen": uint64(1 << 63)},
		"negative":   {"challenge": "x", "salt": "s", "iterations": int64(-1)},
		"odd":        {"challenge": "x", "salt": "s", "iterations": []any{}},
	} {
		if got := answerCRA("secret", extra); got != "" {
			t.Errorf("%s: signature %q, want none", name, got)
		}
	}
}
