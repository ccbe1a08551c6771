package apps

import (
	"slices"
	"testing"
)

func TestComposeAppsTellTheirProgressInWords(t *testing.T) {
	for record, want := range map[string]string{
		`{"status":"Pulling from apps/web","id":"1.0.0"}`:                                                        "1.0.0: Pulling from apps/web",
		`{"status":"Downloading","progressDetail":{"current":5,"total":9},"progress":"[=> ] 5B/9B","id":"141d"}`: "",
		`{"status":"Pull complete","progressDetail":{},"id":"141d"}`:                                             "141d: Pull complete",
		`{"status":"Digest: sha256:d4a4"}`:                                                                       "Digest: sha256:d4a4",
		`{"stream":"Step 1/2 : FROM scratch\n"}`:                                                                 "Step 1/2 : FROM scratch",
		`{"error":"manifest unknown","errorDetail":{"message":"manifest unknown"}}`:                              "manifest unknown",
		`{"aux":{"ID":"sha256:1"}}`:                                                                              "",
		"no record\n":                                                                                            "no record",
	} {
		if got := words([]byte(record)); got != want {
			t.Errorf("%s: %q, want %q", record, got, want)
		}
	}
	log := &logDouble{}
	for _, project := range []bool{false, true} {
		to := topicOf("pub_6_web", log, project)
		to.record([]byte(`{"status":"Pushed","id":"a"}`))
		to.record([]byte(`{"aux":{}}`))
	}
	want := []string{`pub_6_web: {"status":"Pushed","id":"a"}`, `pub_6_web: {"aux":{}}`, "pub_6_web: a: Pushed"}
	if !slices.Equal(log.records, want) {
		t.Errorf("records %q, want %q", log.records, want)
	}
}
