package config

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// What a command line may ask for instead of an agent, beside flag.ErrHelp.
var (
	ErrVersion = errors.New("asked for the version")
	ErrArch    = errors.New("asked for the architecture")
)

// An Error is everything that is wrong with a configuration. The program that
// got it cannot run; its exit code is 2.
type Error struct {
	Problems []error
}

func (e *Error) Error() string {
	texts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		texts[i] = p.Error()
	}
	return strings.Join(texts, "\n  ")
}

func (e *Error) Unwrap() []error { return e.Problems }

// Load reads the command line, the environment and the device file. The error
// is an *Error, or says what the command line asked for instead: flag.ErrHelp,
// ErrVersion, ErrArch.
func Load(args []string, getenv func(string) string) (*Config, error) {
	return load(args, getenv, Here(getenv))
}

func load(args []string, getenv func(string) string, m Machine) (*Config, error) {
	l := loader{getenv: getenv, draft: draft{Config: Config{machine: m, origins: map[string]string{}}}}
	if err := l.parse(args); err != nil {
		return nil, err
	}
	all := settings()
	for _, s := range all {
		if s.key == "" && !l.fromOutside(s) {
			l.fallBack(s)
		}
	}
	content := l.readDeviceFile()
	for _, s := range all {
		if s.key != "" {
			l.resolve(s, content)
		}
	}
	l.finish()
	if len(l.problems) > 0 {
		return nil, &Error{l.problems}
	}
	l.DeviceFile = newDeviceFile(l.file, l.id)
	return &l.Config, nil
}

// resolve asks the sources of a row that the device file may set, in order.
func (l *loader) resolve(s setting, content *deviceContent) {
	switch {
	case s.is(fileFirst) && l.fromDeviceFile(s, content):
	case l.fromOutside(s):
	case !s.is(fileFirst) && l.fromDeviceFile(s, content):
	case s.is(needed) && content != nil:
		l.problem("device file %s: %s is missing", l.file, s.key)
	default:
		l.fallBack(s)
	}
}

// A loader fills a draft and gathers what is wrong.
type loader struct {
	draft
	getenv   func(string) string
	given    map[string]string // flags of the command line
	problems []error
}

func (l *loader) problem(format string, args ...any) {
	l.problems = append(l.problems, fmt.Errorf(format, args...))
}

func (l *loader) warn(format string, args ...any) {
	l.Warnings = append(l.Warnings, fmt.Errorf(format, args...).Error())
}

// A given flag is only noted: what it means is decided when all are known, and
// -version must work beside any of them.
type noted struct {
	name string
	flag bool
	into map[string]string
}

func (n noted) String() string     { return "" }
func (n noted) IsBoolFlag() bool   { return n.flag }
func (n noted) Set(v string) error { n.into[n.name] = v; return nil }

func (l *loader) parse(args []string) error {
	l.given = map[string]string{}
	set := flag.NewFlagSet("reagent", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.Usage = func() {}
	for _, s := range settings() {
		if s.flag != "" {
			set.Var(noted{s.flag, s.boolean(), l.given}, s.flag, s.help)
		}
	}
	err := set.Parse(args)
	switch {
	case isTrue(l.given["version"]):
		return ErrVersion
	case isTrue(l.given["arch"]):
		return ErrArch
	case errors.Is(err, flag.ErrHelp):
		return flag.ErrHelp
	case err != nil:
		return &Error{[]error{fmt.Errorf("%w (see: reagent -help)", err)}}
	case set.NArg() > 0:
		// The contract stops reading there, and command lines in the field rely on it.
		l.warn("ignored on the command line: %s (a boolean flag is set with =, such as -debug=false)", strings.Join(set.Args(), " "))
	}
	return nil
}

func isTrue(text string) bool {
	var v boolValue
	return v.setText(text) == nil && bool(v)
}

// fromOutside sets a row from its flag or variable. An empty text is none, so
// that a script may pass an unset variable on.
func (l *loader) fromOutside(s setting) bool {
	if s.flag == "" {
		return false
	}
	if text := l.given[s.flag]; text != "" {
		l.apply(s, text, "flag -"+s.flag)
		return true
	}
	for _, name := range []string{s.variable(), s.also} {
		if name == "" {
			continue
		}
		if text := l.getenv(name); text != "" {
			l.apply(s, text, "variable "+name)
			return true
		}
	}
	return false
}

func (l *loader) apply(s setting, text, origin string) {
	l.origins[s.name()] = origin
	err := s.bind(&l.draft).setText(text)
	if err == nil && s.check != nil {
		err = s.check(text)
	}
	if err != nil {
		l.problem("%s: %w", origin, err)
	}
}

// fallBack sets a row's default.
func (l *loader) fallBack(s setting) {
	if s.flag == "" {
		return // a key that is absent leaves its field empty
	}
	text := s.defaultOn(l.machine)
	var err error
	if text != "" {
		err = s.bind(&l.draft).setText(text)
	}
	if err == nil && s.check != nil {
		err = s.check(text)
	}
	if err != nil {
		l.problem("-%s: %w", s.flag, err)
	}
}

// deviceContent is a device file that could be read.
type deviceContent struct {
	text    []byte // without a byte-order mark
	members object
}

// maxDeviceFile keeps a wrong path, such as a disk image, out of the memory.
// Real files have 1 to 10 KB.
const maxDeviceFile = 1 << 20

// byteOrderMark begins what some editors on Windows call UTF-8.
var byteOrderMark = []byte("\xef\xbb\xbf")

func (l *loader) readDeviceFile() *deviceContent {
	if l.file == "" {
		l.problem("-config is needed: name the device file (.reswarm) that the studio made for this device (see: reagent -help)")
		return nil
	}
	if abs, err := filepath.Abs(l.file); err == nil {
		l.file = abs
	}
	content, err := readDeviceFile(l.file)
	if err != nil {
		l.problems = append(l.problems, err)
		return nil
	}
	if info, err := os.Stat(l.file); err == nil && info.Mode().Perm()&0o004 != 0 && l.machine.OS != "windows" {
		l.warn("%s can be read by every user of this machine, and it holds the device's secret: chmod 600 it", l.file)
	}
	return content
}

func readDeviceFile(path string) (*deviceContent, error) {
	info, err := os.Stat(path)
	if err != nil {
		if link, lerr := os.Readlink(path); lerr == nil && errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("device file %s is a link to %s, which is not there: is its partition mounted?", path, link)
		}
		return nil, fmt.Errorf("device file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("device file %s is not a file", path) // and a pipe would wait for ever
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("device file: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxDeviceFile+1))
	if err != nil {
		return nil, fmt.Errorf("device file: %w", err)
	}
	content, err := parseDeviceFile(text)
	if err != nil {
		return nil, damaged(path, text, err)
	}
	return content, nil
}

func parseDeviceFile(text []byte) (*deviceContent, error) {
	text = bytes.TrimPrefix(text, byteOrderMark)
	switch {
	case len(text) > maxDeviceFile:
		return nil, errors.New("it is larger than 1 MB, so it is no device file")
	case len(bytes.TrimSpace(text)) == 0:
		return nil, errors.New("it is empty")
	case len(bytes.Trim(text, "\x00")) == 0:
		return nil, errors.New("it holds only zero bytes, as a power cut leaves them")
	case bytes.HasPrefix(text, []byte{0xff, 0xfe}), bytes.HasPrefix(text, []byte{0xfe, 0xff}):
		return nil, errors.New("it is UTF-16: save it as UTF-8")
	}
	members, err := parseObject(text, 0)
	return &deviceContent{text, members}, err
}

// damaged names a device file that cannot be read, the place, and the way out.
func damaged(path string, text []byte, err error) error {
	where := path
	var d *damage
	if errors.As(err, &d) {
		line, column := position(bytes.TrimPrefix(text, byteOrderMark), d.at)
		where = fmt.Sprintf("%s:%d:%d", path, line, column)
	}
	return fmt.Errorf("device file %s: %w; it was left as it is: mend it, or put a new one from the studio in its place", where, err)
}

// fromDeviceFile sets a row from its key. It reports whether the file has the
// last word, which it has when what it says is wrong.
func (l *loader) fromDeviceFile(s setting, content *deviceContent) bool {
	if content == nil {
		return false
	}
	m, there, err := content.members.find(s.key)
	line, column := position(content.text, m.at)
	complain := l.problem
	if s.is(keepsGoing) {
		complain = l.warn
	}
	where := fmt.Sprintf("device file %s:%d:%d", l.file, line, column)
	target := s.bind(&l.draft)
	if err == nil && there {
		err = target.setJSON(m.raw)
	}
	if err != nil {
		complain("%s: %s: %w", where, s.key, err)
		return !s.is(keepsGoing)
	}
	text := target.String()
	if !there || text == "" || s.is(needed) && text == "0" {
		return false
	}
	l.origins[s.name()] = fmt.Sprintf("device file, line %d", line)
	if now, ok := moved[s.key][text]; ok {
		_ = target.setText(now)
		l.origins[s.name()] += " (it has moved)"
	} else if s.check != nil {
		if err := s.check(text); err != nil {
			complain("%s: %s: %w", where, s.key, err)
		}
	}
	return true
}

// finish derives what is not a row of its own.
func (l *loader) finish() {
	for _, path := range []*string{&l.AgentDir, &l.AppsDir, &l.Database, &l.Log.File, &l.Link.CAFile, &l.ComposeHelper} {
		if *path != "" {
			if abs, err := filepath.Abs(*path); err == nil {
				*path = abs
			}
		}
	}
	l.Database = database(l.Database, l.AppsDir)
	if l.Link.ResponseTimeout == 0 {
		l.Link.ResponseTimeout = defaultResponseTimeout
	}
	l.trust()
}
