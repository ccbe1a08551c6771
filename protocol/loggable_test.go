package protocol

import "testing"

func TestALogHasNoSessionIDs(t *testing.T) {
	const id = "01234567-89ab-4cde-8f01-23456789abcd"
	names := ContainerTerminal("sn-1", "prod_6_web", id)
	for text, want := range map[string]string{
		"":                                    "",
		id:                                    "01234567…",
		names.ResizeTopic:                     "re.mgmt.sn-1.term_resize.prod_6_web.01234567…",
		"a " + id + " " + id:                  "a 01234567… 01234567…",
		"re.mgmt.0123-4567.request_app_state": "re.mgmt.0123-4567.request_app_state",
	} {
		if got := Loggable(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
