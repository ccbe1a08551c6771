package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"reagent/persistence/journal"
	"reagent/protocol"
)

// writerDir makes the test binary a process that records until it is killed.
const writerDir = "REAGENT_TEST_AUDIT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(writerDir); dir != "" {
		l := New(Config{Journal: journal.Open(journal.Config{Dir: dir})})
		for n := 1; ; n++ {
			l.Record(by("3", "user"), n%50 == 0)
			fmt.Println("recorded", n)
		}
	}
	goleak.VerifyTestMain(m)
}

// opened is the log in a folder, with small files.
func opened(t testing.TB, dir string, c Config) *Log {
	c.Log = zerolog.New(zerolog.NewTestWriter(t))
	c.Journal = journal.Open(journal.Config{Dir: dir, MaxBytes: 256 << 10, SegmentBytes: 8 << 10, FlushBytes: 2 << 10, Log: c.Log})
	return New(c)
}

func by(authid, role string) protocol.AuditEntry {
	return protocol.AuditEntry{AuthID: authid, AuthRole: role, Procedure: "prune_images", Target: "x", Result: protocol.AuditOK}
}

func refusal(authid, role string) protocol.AuditEntry {
	e := by(authid, role)
	e.Result, e.Error = protocol.AuditRefused, "insufficient privileges"
	return e
}

func everything() protocol.AuditArgs { return protocol.AuditArgs{Tail: protocol.MaxAuditTail} }

func query(t testing.TB, l *Log, q protocol.AuditArgs) protocol.AuditAnswer {
	t.Helper()
	a, err := l.Query(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if a.Returned != len(a.Entries) || a.DeviceTime == "" {
		t.Errorf("answer says %d entries of %d, at %q", a.Returned, len(a.Entries), a.DeviceTime)
	}
	return a
}

func numbers(a protocol.AuditAnswer) (list []uint64) {
	for _, e := range a.Entries {
		list = append(list, e.Seq)
	}
	return list
}

func TestEntriesOfAllCallersAreNumberedInOneOrder(t *testing.T) {
	dir := t.TempDir()
	callers := []protocol.AuditEntry{by("3", "user"), by("system", "system"), by("", ""), by("7-43", "device"), by("4", "user"), by("system", "")}
	want := []uint64{}
	for life := range 3 {
		l := opened(t, dir, Config{})
		for n := range 30 {
			l.Record(callers[n%len(callers)], n%7 == 0)
			want = append(want, uint64(30*life+n+1))
		}
		a := query(t, l, everything())
		if got := numbers(a); !slices.Equal(got, want) || a.Truncated {
			t.Fatalf("life %d: entries %v, truncated %v; want %v", life, got, a.Truncated, want)
		}
		for n, e := range a.Entries {
			want := callers[n%30%len(callers)]
			if e.AuthID != want.AuthID || e.AuthRole != want.AuthRole || e.Args == nil {
				t.Errorf("entry %d: %+v; want by %q", e.Seq, e, want.AuthID)
			}
			if _, err := time.Parse(time.RFC3339Nano, e.Time); err != nil {
				t.Errorf("entry %d: time %q", e.Seq, e.Time)
			}
		}
		if a.OldestAvailable != a.Entries[0].Time {
			t.Errorf("oldest %q; want %q", a.OldestAvailable, a.Entries[0].Time)
		}
	}
}

func TestAQuestionChoosesEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := opened(t, t.TempDir(), Config{})
		begun := time.Now()
		for n := range 60 { // one each second
			e := by(fmt.Sprint(1+n%3), "user")
			if n%2 == 1 {
				e.Procedure = "write_data"
			}
			l.Record(e, false)
			time.Sleep(time.Second)
		}
		for name, c := range map[string]struct {
			q         protocol.AuditArgs
			want      []uint64
			truncated bool
		}{
			"the newest":          {protocol.AuditArgs{Tail: 3}, []uint64{58, 59, 60}, true},
			"none":                {protocol.AuditArgs{Tail: 0}, nil, true},
			"just all":            {protocol.AuditArgs{Tail: 60, BeforeSeq: 4}, []uint64{1, 2, 3}, false},
			"as many as are":      {protocol.AuditArgs{Tail: 3, BeforeSeq: 4}, []uint64{1, 2, 3}, false},
			"in front of":         {protocol.AuditArgs{Tail: 2, BeforeSeq: 11}, []uint64{9, 10}, true},
			"in front of all":     {protocol.AuditArgs{Tail: 2, BeforeSeq: 1}, nil, false},
			"a caller":            {protocol.AuditArgs{Tail: 2, AuthID: "2"}, []uint64{56, 59}, true},
			"a caller's one":      {protocol.AuditArgs{Tail: 2, AuthID: "2", Procedure: "write_data"}, []uint64{50, 56}, true},
			"a window":            {protocol.AuditArgs{Tail: 9, Since: begun.Add(20 * time.Second), Until: begun.Add(22 * time.Second)}, []uint64{21, 22, 23}, false},
			"a window's newest":   {protocol.AuditArgs{Tail: 1, Until: begun.Add(22 * time.Second)}, []uint64{23}, true},
			"an unknown caller":   {protocol.AuditArgs{Tail: 9, AuthID: "9"}, nil, false},
			"a later time":        {protocol.AuditArgs{Tail: 9, Since: begun.Add(time.Hour)}, nil, false},
			"before and a caller": {protocol.AuditArgs{Tail: 9, AuthID: "1", BeforeSeq: 8}, []uint64{1, 4, 7}, false},
		} {
			a := query(t, l, c.q)
			if got := numbers(a); !slices.Equal(got, c.want) || a.Truncated != c.truncated {
				t.Errorf("%s: entries %v, truncated %v; want %v, %v", name, got, a.Truncated, c.want, c.truncated)
			}
			if a.Entries == nil || a.OldestAvailable != protocol.DeviceTime(begun) {
				t.Errorf("%s: entries %v, oldest %q", name, a.Entries, a.OldestAvailable)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := l.Query(ctx, everything()); !errors.Is(err, context.Canceled) {
			t.Errorf("a cancelled question: %v", err)
		}
	})
}

func TestAnAnswerFitsAFrame(t *testing.T) {
	c := Config{Journal: journal.Open(journal.Config{Dir: t.TempDir(), MaxBytes: 32 << 20})}
	l := New(c)
	e := by("3", "user")
	e.Args = map[string]any{"argv": []any{strings.Repeat("\x01", 600), strings.Repeat("<", 600)}}
	e.Error = strings.Repeat("\x02", 1000)
	for range 2500 {
		l.Record(e, false)
	}
	a := query(t, l, everything())
	raw, err := json.Marshal(a)
	if err != nil || len(raw) >= 8<<20 || len(raw) < 4<<20 || !a.Truncated {
		t.Errorf("%d entries take %d bytes, truncated %v, %v; want some MiB, fewer than 8", a.Returned, len(raw), a.Truncated, err)
	}
	if last := a.Entries[len(a.Entries)-1].Seq; last != 2500 {
		t.Errorf("the last entry is %d; want the newest", last)
	}
}

func TestNobodyWashesAwayWhatOthersDid(t *testing.T) {
	l := opened(t, t.TempDir(), Config{})
	five := uint64(5)
	quiet := []protocol.AuditEntry{by("3", "user"), by("system", "system"), refusal("4", "user"), refusal("", ""), {AuthID: "system", AuthRole: "system", ForAccount: &five, Procedure: "x"}}
	for _, e := range quiet {
		l.Record(e, false)
	}
	for range 5000 { // ten times what there is room for
		l.Record(by("666", "user"), false)
	}
	a := query(t, l, everything())
	for n, e := range quiet {
		if got := a.Entries[n]; got.Seq != uint64(n+1) || got.AuthID != e.AuthID || !reflect.DeepEqual(got.ForAccount, e.ForAccount) {
			t.Errorf("entry %d is %+v; want %+v", n, got, e)
		}
	}
	if last := a.Entries[len(a.Entries)-1].Seq; last != 5005 || len(a.Entries) > 4000 {
		t.Errorf("%d entries, the last %d; want the newest of 5005", len(a.Entries), last)
	}
	if st := l.cfg.Journal.Stats(); st.Bytes > 256<<10 {
		t.Errorf("%d bytes on the disk; want at most 256 KiB", st.Bytes)
	}
}

func TestFloodsOfRefusalsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l := opened(t, dir, Config{})
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- l.Run(ctx) }()
		for range 1000 {
			l.Record(refusal("666", "user"), false)
			time.Sleep(time.Millisecond)
		}
		l.Record(refusal("3", "user"), false)
		l.Record(by("666", "user"), false) // what is done always counts
		if got := len(query(t, l, everything()).Entries); got != 12 {
			t.Errorf("%d entries; want ten refusals, one of somebody else, and a deed", got)
		}
		time.Sleep(11 * time.Minute)
		synctest.Wait()
		a := query(t, l, everything())
		if len(a.Entries) != 13 || a.Entries[12].Count != 990 || a.Entries[12].AuthID != "666" || a.Entries[12].Result != protocol.AuditRefused {
			t.Errorf("%d entries, the last %+v; want one for the other 990", len(a.Entries), a.Entries[len(a.Entries)-1])
		}
		for range 15 {
			l.Record(refusal("666", "user"), false)
		}
		cancel()
		if err := <-ran; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
		a = query(t, opened(t, dir, Config{}), everything())
		if len(a.Entries) != 24 || a.Entries[23].Count != 5 {
			t.Errorf("after the end %d entries, the last %+v; want ten more, and one for five", len(a.Entries), a.Entries[len(a.Entries)-1])
		}
		calls := 0
		for _, e := range a.Entries {
			calls += max(int(e.Count), 1)
		}
		if calls != 1017 {
			t.Errorf("entries of %d calls; want 1017", calls)
		}
	})
}

func TestManyNamesShareOneStream(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		l := opened(t, dir, Config{Streams: 3})
		for n := range 20 {
			l.Record(by(fmt.Sprint(n+1), "user"), false)
			l.Record(refusal(fmt.Sprint("anonymous-", n), "anonymous"), false)
		}
		want := []string{"account-1", "account-2", "account-3", "others"}
		if got := l.cfg.Journal.Streams(); !slices.Equal(got, want) {
			t.Errorf("streams %q; want %q", got, want)
		}
	}
}

func TestAnEntryIsInTheFileWhenItsCallIsAnswered(t *testing.T) {
	dir := t.TempDir()
	total := 0
	for kill := range 5 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), writerDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		recorded := 0
		for recorded < 50+20*kill {
			var n int
			if _, err := fmt.Fscanf(out, "recorded %d\n", &n); err != nil {
				t.Fatal(err)
			}
			recorded = n
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		total += recorded
		a := query(t, New(Config{Journal: journal.Open(journal.Config{Dir: dir})}), everything())
		if len(a.Entries) < total {
			t.Fatalf("kill %d: %d entries; want at least %d", kill, len(a.Entries), total)
		}
		total = len(a.Entries)
		for n, e := range a.Entries {
			if e.Seq != uint64(n+1) {
				t.Fatalf("kill %d: entry %d has the number %d", kill, n+1, e.Seq)
			}
		}
	}
}

func TestEntriesOfManyAtOnceAreAllThere(t *testing.T) {
	l := opened(t, t.TempDir(), Config{})
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for range 20 {
				l.Record(by(fmt.Sprint(n), "user"), true)
				if _, err := l.Query(t.Context(), everything()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := len(query(t, l, everything()).Entries); got != 160 {
		t.Errorf("%d entries; want 160", got)
	}
}

func TestSecretsAreMasked(t *testing.T) {
	for in, want := range map[string]string{
		"nothing to hide":                          "nothing to hide",
		"the token is invalid":                     "the token is invalid",
		"DB_PASSWORD=hunter2 run":                  "DB_PASSWORD=*** run",
		`export Secret: "a b c"; ls`:               `export Secret: ***; ls`,
		"curl -H 'Authorization: Bearer abc.def'":  "curl -H 'Authorization: Bearer ***'",
		"mysql --password hunter2 -u me":           "mysql --password *** -u me",
		"login --token=abc":                        "login --token=***",
		"git clone https://me:hunter2@example.com": "git clone https://me:***@example.com",
		`{"password": "x", "user": "me"}`:          `{"password": ***, "user": "me"}`,
		"X_API_KEY=abc&a=b":                        "X_API_KEY=***",
		"--secret-file --verbose":                  "--secret-file --verbose",

		"nmcli dev wifi connect X password hunter2":         "nmcli dev wifi connect X password ***",
		"wpa_passphrase home hunter2 >x":                    "wpa_passphrase home *** >x",
		"join --psk x PASS=x DB_PWD=y compass=z":            "join --psk *** PASS=*** DB_PWD=*** compass=z",
		"curl -u me:hunter2 http://x":                       "curl -u me:*** http://x",
		"sshpass -p hunter2 ssh me@x":                       "sshpass -p *** ssh me@x",
		"mysql -u me -phunter2 db":                          "mysql -u me -p*** db",
		"curl -H 'Authorization: Token abc.def' http://x":   "curl -H 'Authorization: Token ***' http://x",
		"X-Auth-Token: Bearer hunter2 x":                    "X-Auth-Token: Bearer *** x",
		"Authorization: abc.def":                            "Authorization: ***",
		"PASSWORD=a'hunter2' make":                          "PASSWORD=*** make",
		`PGPASSWORD='it'\''s hunter2' psql`:                 "PGPASSWORD=*** psql",
		`{"password":"hunter2","user":"me"}`:                `{"password":***,"user":"me"}`,
		`passphrase: "hunter2 is cut o`:                     "passphrase: ***",
		"chpasswd <<< root:hunter2":                         "chpasswd <<< ***",
		"passwd --stdin root <<<'hunter2 x'; reboot":        "passwd --stdin root <<<***; reboot",
		"git clone https://me:hunt@er2@example.com":         "git clone https://me:***@example.com",
		"echo root:hunter2 | chpasswd":                      "*** | chpasswd",
		"git clone https://TOK@example.com":                 "git clone https://***@example.com",
		"PASSWORD=$(echo x) run":                            "PASSWORD=*** run",
		`PASSWORD="a\"x" run`:                               `PASSWORD=*** run`,
		"cp a b -p; ls -u; head -c 10 /proc/self/passwd.md": "cp a b -p; ls -u; head -c 10 /proc/self/passwd.md",
	} {
		if got := mask(in); got != want {
			t.Errorf("mask(%q) = %q; want %q", in, got, want)
		}
	}
	e := protocol.AuditEntry{Args: map[string]any{
		"argv":    []any{"login", "--password", "hunter2", "-u", "me", "--token=abc"},
		"list":    []string{"--secret", "x"},
		"wifi":    []any{"nmcli", "password", "hunter2", "x"},
		"split":   []any{"echo", "'a", "password", "'hunter2", "x'"},
		"mixed":   []any{"sshpass", "-p", "x", "-u", "a:b", "--", "PASS=y"},
		"Api-Key": "abc",
		"nested":  map[string]any{"private_key": map[string]any{"a": "b"}, "n": 1, "null_token": nil},
		"other":   map[any]any{"passwd": "x"},
	}}
	tidy(&e)
	want := map[string]any{
		"argv":    []any{"login", "--password", "***", "-u", "me", "--token=***"},
		"list":    []any{"--secret", "***"},
		"wifi":    []any{"nmcli", "password", "***", "x"},
		"split":   []any{"echo", "***"},
		"mixed":   []any{"sshpass", "-p", "***", "-u", "a:***", "--", "PASS=***"},
		"Api-Key": "***",
		"nested":  map[string]any{"private_key": "***", "n": 1, "null_token": nil},
		"other":   map[string]any{"passwd": "***"},
	}
	if !reflect.DeepEqual(e.Args, want) {
		t.Errorf("args %v; want %v", e.Args, want)
	}
}

func TestEntriesAreSmallWhateverIsInThem(t *testing.T) {
	huge := map[string]any{}
	for n := range 300 {
		huge[fmt.Sprint("key ", n)] = n
	}
	long := strings.Repeat("ü", 1<<20)
	many := make([]any, 1<<16)
	deep := any("x")
	for range 5000 {
		deep = []any{deep}
	}
	for name, args := range map[string]map[string]any{
		"a long text":    {"a": long},
		"many":           {"a": many},
		"many keys":      {"a": huge},
		"deep":           {"a": deep},
		"control":        {"a": strings.Repeat("\x01", 1<<16), "b": strings.Repeat("<", 1<<16)},
		"no numbers":     {"a": math.NaN(), "b": math.Inf(1), "c": float32(math.Inf(-1))},
		"bytes":          {"a": make([]byte, 1<<20)},
		"something else": {"a": func() {}, "b": make(chan int)},
		"long keys":      {long: "x", long + "1": "x"},
		"invalid text":   {"a": "\xff\xfe"},
		"all of it":      {"a": long, "b": many, "c": huge, "d": deep, "e": strings.Repeat("\x01", 1<<16)},
	} {
		e := protocol.AuditEntry{AuthID: long, AuthRole: long, Procedure: long, Target: long, Error: long, SessionID: long, Args: args}
		tidy(&e)
		raw, err := json.Marshal(e)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		shown, _ := json.Marshal(e.Args)
		if len(shown) > maxArgs+200 || len(raw) > 6<<10 {
			t.Errorf("%s: arguments of %d bytes in an entry of %d", name, len(shown), len(raw))
		}
		if len(e.Args) == 0 {
			t.Errorf("%s: nothing is shown", name)
		}
	}
}

func FuzzTidy(f *testing.F) {
	f.Add([]byte(`{"argv":["a","--password","x"],"env":{"A":"b"},"n":1e300,"l":[[[]]]}`), "text: password=x")
	f.Fuzz(func(t *testing.T, raw []byte, text string) {
		var args map[string]any
		if json.Unmarshal(raw, &args) != nil {
			t.Skip()
		}
		e := protocol.AuditEntry{Args: args, Error: text, Target: text, AuthID: text}
		tidy(&e)
		shown, err := json.Marshal(e.Args)
		if err != nil || len(shown) > maxArgs+200 {
			t.Errorf("%d bytes, %v", len(shown), err)
		}
		again := e
		tidy(&again)
		if again.Error != e.Error && len(text) < maxText {
			t.Errorf("tidied twice: %q, then %q", e.Error, again.Error)
		}
	})
}

func TestTheAuditOutlivesADamagedFile(t *testing.T) {
	dir := t.TempDir()
	l := opened(t, dir, Config{})
	for n := range 20 {
		l.Record(by(fmt.Sprint(1+n%2), "user"), true)
	}
	files, err := filepath.Glob(filepath.Join(dir, "account-1-*", "*.seg"))
	if err != nil || len(files) == 0 {
		t.Fatalf("files %v, %v", files, err)
	}
	if err := os.WriteFile(files[0], []byte("damage"), 0o600); err != nil {
		t.Fatal(err)
	}
	l = opened(t, dir, Config{})
	l.Record(by("1", "user"), true)
	got := numbers(query(t, l, everything()))
	if want := []uint64{2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 21}; !slices.Equal(got, want) {
		t.Errorf("entries %v; want %v", got, want)
	}
}

func TestADeviceThatCannotWriteGoesOn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	if err := os.WriteFile(dir, []byte("a file in the way"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := New(Config{Journal: journal.Open(journal.Config{Dir: dir})})
	for n := range 50 {
		l.Record(by(fmt.Sprint(1+n%3), "user"), true)
	}
	if got := len(query(t, l, everything()).Entries); got != 50 {
		t.Errorf("%d entries in memory; want 50", got)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	l.Record(by("1", "user"), true)
	got := numbers(query(t, New(Config{Journal: journal.Open(journal.Config{Dir: dir})}), everything()))
	if len(got) != 18 || got[17] != 51 { // those of the stream that was written
		t.Errorf("in the file are %v; want the 17 of the first caller, and the last", got)
	}
}
