package protocol

import (
	"encoding/json"
	"strings"
	"testing"
)

func FuzzArgumentsOfLogQueriesOfAnyForm(f *testing.F) {
	for _, s := range []string{
		`{"containerName":"prod_6_web","tail":200,"offset":"7","since":"30m","until":"1700000000","timestamps":false}`,
		`{"containerName":"/dev_0_a","tail":1e99,"offset":-1,"level":"WARN"}`, `{"containerName":"prod_6_web/../x","tail":[]}`,
		`{"containerName":{},"since":1}`, `{"tail":99999,"since":"","level":null}`, `null`, `[]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var d map[string]any
		if json.Unmarshal(raw, &d) != nil {
			return
		}
		var app QueryAppLogsArgs
		if app.ReadDict(d) == nil {
			if app.Tail < 0 || app.Offset < 0 || app.Tail+app.Offset > MaxLogTail {
				t.Errorf("%s: tail %d, offset %d", raw, app.Tail, app.Offset)
			}
			if strings.ContainsAny(app.ContainerName, "/?#%:\\ \n") || app.ContainerName == "" {
				t.Errorf("%s: the name %q goes to the engine", raw, app.ContainerName)
			}
		}
		var history AppLogArgs
		if err := history.ReadDict(d); err == nil && history.ContainerName != strings.TrimPrefix(d["containerName"].(string), "/") {
			t.Errorf("%s: %q", raw, history.ContainerName)
		}
		var device QueryDeviceLogsArgs
		if device.ReadDict(d) == nil && (device.Tail < 0 || device.Tail > MaxLogTail || device.Level == "") {
			t.Errorf("%s: %+v", raw, device)
		}
	})
}
