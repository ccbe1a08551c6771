package config

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

const helpWidth = 79

// Help writes what -help says about flags, variables and the device file, with
// the defaults of this machine.
func Help(w io.Writer, getenv func(string) string) error { return help(w, Here(getenv)) }

func help(w io.Writer, m Machine) error {
	var b strings.Builder
	b.WriteString(wrap(strings.Fields("Flags win over variables, variables over the device file. A boolean flag is switched off with -name=false."), ""))
	for _, g := range flags {
		fmt.Fprintf(&b, "\n%s\n", g.title)
		for _, s := range g.rows {
			fmt.Fprintf(&b, "  %s\n", strings.TrimSpace("-"+s.flag+" "+s.arg))
			b.WriteString(wrap(strings.Fields(s.describe()), "      "))
			b.WriteString(wrap(s.sources(m), "      "))
		}
	}
	fmt.Fprintf(&b, "\n%s: a JSON object; keys that are not listed are kept\n", keys.title)
	for _, s := range keys.rows {
		fmt.Fprintf(&b, "  %s\n", s.key)
		b.WriteString(wrap(strings.Fields(s.describe()), "      "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (s setting) describe() string {
	text := s.help
	if s.is(needed) {
		text += " Needed."
	}
	if s.is(idle) {
		text += " No effect yet."
	}
	return text
}

// sources is the line of -help that tells the default and the other ways to set it.
func (s setting) sources(m Machine) []string {
	var parts []string
	if text := s.defaultText(m); text != "" {
		parts = append(parts, "default "+text)
	}
	if v := s.variable(); v != "" {
		parts = append(parts, "$"+v)
	}
	if s.also != "" {
		parts = append(parts, "$"+s.also)
	}
	if s.key != "" {
		parts = append(parts, "key "+s.key)
	}
	for i := range len(parts) - 1 {
		parts[i] += " ·"
	}
	return parts
}

func (s setting) defaultText(m Machine) string {
	if s.note != "" {
		return s.note
	}
	if s.is(flagOnly) {
		return ""
	}
	return s.defaultOn(m)
}

// wrap puts words into lines of at most helpWidth characters.
func wrap(words []string, indent string) string {
	var b strings.Builder
	width := 0
	for i, word := range words {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0 || width+1+n > helpWidth:
			if i > 0 {
				b.WriteByte('\n')
			}
			b.WriteString(indent)
			width = len(indent)
		default:
			b.WriteByte(' ')
			width++
		}
		b.WriteString(word)
		width += n
	}
	if len(words) > 0 {
		b.WriteByte('\n')
	}
	return b.String()
}

// markdown is docs/configuration.md: the same table for people who plan a fleet.
func markdown() string {
	m := Machine{OS: "linux", Root: true, Home: "/root"}
	var b strings.Builder
	b.WriteString(`# Configuration of the agent

This page is made from the table of settings (` + "`go test ./config -update`" + `).

Flags win over environment variables, these over the device file, the device
file over defaults; the one exception is marked. A boolean flag is switched off
with ` + "`-name=false`" + `. An empty flag or variable counts as not given. Defaults are
those of root on Linux; other users have theirs below ` + "`$XDG_STATE_HOME/reagent`" + `,
Windows and root on macOS below ` + "`$HOME/reagent`" + `.
`)
	for _, g := range flags {
		fmt.Fprintf(&b, "\n## %s\n\n| flag | variable | key of the device file | default | meaning |\n|---|---|---|---|---|\n", g.title)
		for _, s := range g.rows {
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", code("-"+s.flag), code(s.variable()), code(s.key), code(s.defaultText(m)), s.describe())
		}
	}
	fmt.Fprintf(&b, "\n## %s\n\nA JSON object. Keys that are not listed here are kept as they are.\n\n| key | meaning |\n|---|---|\n", keys.title)
	for _, s := range keys.rows {
		fmt.Fprintf(&b, "| %s | %s |\n", code(s.key), s.describe())
	}
	return b.String()
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}
