package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/term"
	"gopkg.in/natefinch/lumberjack.v2"

	"reagent/config"
)

// Spellings that all parts share. They are variables of the library, so they are
// set once, before anything logs.
func init() {
	zerolog.ErrorFieldName = "err"
	zerolog.TimeFieldFormat = time.RFC3339Nano
}

const (
	logMegabytes = 100
	logBackups   = 2
)

// newLog opens the log: a JSON object a line into the file, and a readable copy
// on the console when asked, on a terminal, or where the file cannot be written.
// A log never keeps an agent from starting.
func newLog(c config.Log, console io.Writer) (log zerolog.Logger, done func()) {
	var outs []io.Writer
	file, err := openLog(c.File)
	if err == nil {
		outs = append(outs, file)
	}
	terminal := isTerminal(console)
	if err != nil || terminal || c.Console {
		outs = append(outs, zerolog.ConsoleWriter{Out: console, NoColor: !terminal, TimeFormat: time.DateTime})
	}
	level := zerolog.InfoLevel
	if c.Debug {
		level = zerolog.DebugLevel
	}
	log = zerolog.New(zerolog.MultiLevelWriter(outs...)).Level(level).With().Timestamp().Logger()
	if err != nil {
		log.Warn().Err(err).Msg("the log goes to the console only; name another file with -logFile")
		return log, func() {}
	}
	return log, func() { _ = file.Close() }
}

// openLog opens the log file, rotated by size. Nobody else may read it: it names
// apps, addresses and people's accounts.
func openLog(path string) (io.WriteCloser, error) {
	if path == "" {
		return nil, errors.New("no log file is named")
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	case info.Mode()&fs.ModeCharDevice != 0:
		// /dev/null is not to be rotated: that would rename it.
		return os.OpenFile(path, os.O_WRONLY, 0)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a file", path)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	_ = f.Chmod(0o600) // an older agent made it readable; vfat has no modes
	if err := f.Close(); err != nil {
		return nil, err
	}
	return &lumberjack.Logger{Filename: path, MaxSize: logMegabytes, MaxBackups: logBackups}, nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
