package apps

import (
	"encoding/json"
	"strings"
)

// words are what the engine's own programs print of a progress record where
// nobody sees bars: compose apps tell of their downloads and uploads so (wire
// §8). A record that only moves a bar has none.
func words(record []byte) string {
	var r struct {
		ID, Status, Stream, Error string
		ProgressDetail            struct{ Current int64 }
	}
	switch err := json.Unmarshal(record, &r); {
	case err != nil:
		return strings.TrimSpace(string(record))
	case r.Error != "":
		return r.Error
	case r.Stream != "":
		return strings.TrimSpace(r.Stream)
	case r.Status == "" || r.ProgressDetail.Current != 0:
		return ""
	case r.ID != "":
		return r.ID + ": " + r.Status
	}
	return r.Status
}
