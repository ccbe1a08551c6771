package persistence

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"reagent/filesystem"
)

// A Migration changes the layout of a file. It happens in one transaction: a
// file is of one schema or of the next, never in between. A record that it
// cannot understand is its to delete or to leave; an error ends the start.
type Migration struct {
	Name  string // says what it does, in a log line
	Apply func(*Tx) error
}

const (
	schemaKey   = "schema"
	keepBackups = 2
)

var meta = RawBucket("meta")

// prepare writes the schema into a new file and migrates an old one.
func (db *DB) prepare(migrations []Migration) error {
	newest := len(migrations) + 1
	schema, err := db.schema()
	switch {
	case err != nil:
		return err
	case schema == 0:
		db.rebuilt = true
		return db.Update(func(tx *Tx) error { return setSchema(tx, newest) })
	case schema > newest:
		return newer(db.path, schema, newest)
	}
	for ; schema < newest; schema++ {
		m := migrations[schema-1]
		backup, err := db.backup(schema)
		if err != nil {
			return fmt.Errorf("copy %s before migrating it; is there space left in %s?: %w", db.path, filepath.Dir(db.path), err)
		}
		err = db.Update(func(tx *Tx) error {
			if err := m.Apply(tx); err != nil {
				return err
			}
			return setSchema(tx, schema+1)
		})
		if err != nil {
			return fmt.Errorf("migrate %s to schema %d (%s); it is as it was, a copy is %s: %w", db.path, schema+1, m.Name, backup, err)
		}
		db.log.Info().Str("file", db.path).Int("schema", schema+1).Str("migration", m.Name).Str("copy", backup).Msg("state migrated")
	}
	return nil
}

// schema reads the schema; 0 means that there is nothing in the file at all, as
// after a power cut in its first instant.
func (db *DB) schema() (schema int, err error) {
	err = db.View(func(tx *Tx) error {
		text := meta.Get(tx, []byte(schemaKey))
		if text == nil {
			if name, _ := tx.bolt.Cursor().First(); name != nil {
				return foreign(db.path, "a bbolt file without a schema")
			}
			return nil
		}
		if schema, err = strconv.Atoi(string(text)); err != nil || schema < 1 {
			return foreign(db.path, fmt.Sprintf("a bbolt file with the schema %.20q", text))
		}
		return nil
	})
	return schema, err
}

func setSchema(tx *Tx, n int) error {
	return meta.Put(tx, []byte(schemaKey), strconv.AppendInt(nil, int64(n), 10))
}

// Meta reads a small value that belongs to the file as a whole.
func Meta(tx *Tx, name string) (string, bool) {
	v := meta.Get(tx, []byte(name))
	return string(v), v != nil
}

// SetMeta writes one. The name "schema" is taken.
func SetMeta(tx *Tx, name, value string) error {
	if name == schemaKey || name == "" {
		return fmt.Errorf("meta: the name %q is taken", name)
	}
	return meta.Put(tx, []byte(name), []byte(value))
}

func backupName(path string, schema int) string { return fmt.Sprintf("%s.v%d.bak", path, schema) }

// backup copies the file as it is and keeps the newest copies.
func (db *DB) backup(schema int) (name string, err error) {
	name = backupName(db.path, schema)
	temp := name + ".tmp"
	defer func() {
		if err != nil {
			_ = os.Remove(temp)
		}
	}()
	if err := os.Remove(temp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, filesystem.PrivateFile)
	if err != nil {
		return "", err
	}
	defer f.Close()
	err = db.View(func(tx *Tx) error {
		w := bufio.NewWriterSize(f, 1<<16)
		_, err := tx.bolt.WriteTo(w)
		return errors.Join(err, w.Flush())
	})
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", err
	}
	if err := os.Rename(temp, name); err != nil {
		return "", err
	}
	forget(db.path, keepBackups)
	return name, syncFolder(filepath.Dir(name))
}

// forget removes all but the newest copies.
func forget(path string, keep int) {
	prefix := path + ".v"
	var schemas []int
	for _, name := range siblings(prefix) {
		if n, ok := strings.CutSuffix(strings.TrimPrefix(name, prefix), ".bak"); ok {
			if schema, err := strconv.Atoi(n); err == nil {
				schemas = append(schemas, schema)
			}
		}
	}
	slices.Sort(schemas)
	for _, schema := range schemas[:max(0, len(schemas)-keep)] {
		_ = os.Remove(backupName(path, schema))
	}
}
