package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"reagent/protocol"
)

func (c *Call) printLog(lines []string) error {
	for _, line := range lines {
		var err error
		if c.JSON {
			err = json.NewEncoder(c.Stdout).Encode(map[string]string{"line": line})
		} else {
			_, err = io.WriteString(c.Stdout, line+"\n")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// logLines are the lines in an event of a log topic (wire §8): text, messages of
// the agent, progress of a transfer, Docker's records.
func logLines(args []any) (lines []string) {
	for _, arg := range args {
		if d, ok := protocol.AsDict(arg); ok {
			if text := message(d); text != "" {
				lines = append(lines, text)
			}
			continue
		}
		text, ok := protocol.Text(arg)
		if !ok {
			continue
		}
		for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
			if r, ok := parseRecord(line); ok {
				if line = r.text(); line == "" {
					continue
				}
			}
			lines = append(lines, line)
		}
	}
	return lines
}

// message is what the agent says itself. Its request to clear the view is not
// followed: a terminal keeps what it shows.
func message(d map[string]any) string {
	if text, ok := protocol.Text(d["chunk"]); ok {
		if text == protocol.LoggerClear {
			return ""
		}
		return strings.TrimSuffix(text, "\n")
	}
	status, _ := protocol.Text(d["status"])
	progress, _ := protocol.Text(d["progress"])
	id, _ := protocol.Text(d["id"])
	return strings.Join(strings.Fields(id+" "+status+" "+progress), " ")
}

// A record is a line of Docker's about a build, a pull or a push.
type record struct {
	Stream, Status, ID, Error, Progress string
	ProgressDetail                      *struct{ Current, Total, Start, HideCounts any }
	ErrorDetail                         *struct{ Code, Message any }
	Aux                                 json.RawMessage
}

// parseRecord knows a record from a line that an app could have written itself.
func parseRecord(line string) (r record, ok bool) {
	if !strings.HasPrefix(line, `{"`) {
		return r, false
	}
	dec := json.NewDecoder(strings.NewReader(line))
	dec.DisallowUnknownFields()
	if dec.Decode(&r) != nil {
		return r, false
	}
	return r, r.Error != "" && r.ErrorDetail != nil || r.Progress != "" || r.Aux != nil ||
		r.Stream != "" && r.Status == "" || r.Status != "" && r.ID != "" || dockerSays(r.Status)
}

// dockerSays knows what Docker says of a pull or a push as a whole.
func dockerSays(status string) bool {
	for _, begin := range []string{"Digest: ", "Status: ", "The push refers to repository ["} {
		if strings.HasPrefix(status, begin) {
			return true
		}
	}
	return strings.Contains(status, ": digest: sha256:")
}

// text is a record as a line. How far a layer is comes several times a second,
// and is none.
func (r record) text() string {
	switch {
	case r.Error != "":
		return r.Error
	case r.Progress != "", r.Aux != nil:
		return ""
	case r.Stream != "":
		return strings.TrimRight(r.Stream, "\r\n")
	case r.ID != "":
		return r.ID + ": " + r.Status
	}
	return r.Status
}

// far is how many bytes of a layer are done, of how many.
func (r record) far() (current, total int64, ok bool) {
	if r.Progress == "" || r.ID == "" || r.ProgressDetail == nil {
		return 0, 0, false
	}
	c, okCurrent := protocol.Uint(r.ProgressDetail.Current)
	t, okTotal := protocol.Uint(r.ProgressDetail.Total)
	return int64(min(c, t)), int64(min(t, 1<<50)), okCurrent && okTotal && t > 0
}

// A view prints the log of a build as it comes. Where somebody watches, the last
// line of the terminal says how far a pull or push is.
type view struct {
	c      *Call
	watch  bool                        // somebody does
	layers map[string]map[string]layer // by what is done with them, and by id
	shown  bool                        // that line is on the screen
}

// A layer is how far one is.
type layer struct{ current, total int64 }

func (c *Call) view() *view {
	return &view{c: c, watch: !c.JSON && interactive(c.Stderr) && interactive(c.Stdout)}
}

// event prints one event of a log topic. How far an upload is shows its sender.
func (v *view) event(args []any) error {
	var lines []string
	for _, arg := range args {
		if d, ok := protocol.AsDict(arg); ok && d["progress"] != nil {
			continue
		}
		lines = append(lines, logLines([]any{arg})...)
	}
	v.wipe()
	if err := v.c.printLog(lines); err != nil {
		return err
	}
	v.progress(args)
	return nil
}

// layersAtMost bounds what a device can make a view remember.
const layersAtMost = 1000

// progress draws the last line anew.
func (v *view) progress(args []any) {
	if !v.watch {
		return
	}
	doing := ""
	for _, arg := range args {
		text, _ := protocol.Text(arg)
		for line := range strings.SplitSeq(text, "\n") {
			r, _ := parseRecord(line)
			current, total, ok := r.far()
			if !ok {
				continue
			}
			doing = r.Status
			if v.layers[doing] == nil || len(v.layers)+len(v.layers[doing]) > layersAtMost {
				v.layers = map[string]map[string]layer{doing: {}}
			}
			v.layers[doing][r.ID] = layer{current, total}
		}
	}
	if doing == "" {
		return
	}
	var sum layer
	for _, l := range v.layers[doing] {
		sum.current += l.current
		sum.total += l.total
	}
	fmt.Fprintf(v.c.Stderr, "%.40s %s of %s", printable(doing), size(sum.current), size(sum.total))
	v.shown = true
}

// wipe takes the last line off the screen.
func (v *view) wipe() {
	if v.shown {
		_, _ = io.WriteString(v.c.Stderr, "\r\x1b[K")
		v.shown = false
	}
}
