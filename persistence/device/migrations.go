package device

import (
	"bytes"
	"encoding/json"
	"strings"

	"reagent/persistence"
	"reagent/protocol"
)

// Schema is the number of the newest layout.
const Schema = 2

// migrations lead from each schema to the next. They are frozen: what they know
// of a layout is written here and does not follow the types of today.
//
// Schema 1 was one bucket for each kind of record, wanted/<key>, actual/<key>
// and outbox/<seq>, with the stage inside the record. Two stages of one app
// could not both be there.
var migrations = []persistence.Migration{
	{Name: "one bucket for each stage", Apply: splitStages},
}

func splitStages(tx *persistence.Tx) error {
	for _, name := range []string{"wanted", "actual"} {
		from := persistence.RawBucket(name)
		err := each(tx, from, func(key, record []byte) error {
			var head struct {
				Stage   string `json:"stage"`
				Request struct {
					Stage string `json:"stage"`
				} `json:"request"`
			}
			_ = json.Unmarshal(record, &head)
			return move(tx, from, key, record, from.In(stageOf(head.Stage, head.Request.Stage)))
		})
		if err != nil {
			return err
		}
	}
	from := persistence.RawBucket("outbox")
	return each(tx, from, func(key, record []byte) error {
		var head struct {
			State struct {
				AppKey uint64 `json:"app_key"`
				Stage  string `json:"stage"`
			} `json:"state"`
		}
		_ = json.Unmarshal(record, &head)
		return move(tx, from, key, record, from.In(stageOf(head.State.Stage), persistence.Name(head.State.AppKey), "state"))
	})
}

// stageOf is where a record belongs; one that does not tell is taken along, so
// that it meets the reader who sets it aside.
func stageOf(found ...string) string {
	for _, s := range found {
		if stage := protocol.Stage(strings.ToUpper(s)); stage.Valid() {
			return string(stage)
		}
	}
	return "PROD"
}

func each(tx *persistence.Tx, b persistence.Raw, f func(key, record []byte) error) error {
	type entry struct{ key, record []byte }
	var all []entry // f changes the bucket
	for k, v := range b.All(tx) {
		all = append(all, entry{bytes.Clone(k), bytes.Clone(v)})
	}
	for _, e := range all {
		if err := f(e.key, e.record); err != nil {
			return err
		}
	}
	return nil
}

func move(tx *persistence.Tx, from persistence.Raw, key, record []byte, to persistence.Raw) error {
	if err := from.Delete(tx, key); err != nil {
		return err
	}
	return to.Put(tx, key, record)
}
