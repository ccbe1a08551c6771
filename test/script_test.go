package test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"reagent/internal/testenv"
)

func TestMain(m *testing.M) {
	code := m.Run()
	testenv.RemovePrograms()
	os.Exit(code)
}

func TestScripts(t *testing.T) {
	bin := filepath.Dir(testenv.Program(t, "./cmd/reagent-studio", false)) + ":" +
		filepath.Dir(testenv.Program(t, "./cmd/reagent", false))
	testscript.Run(t, testscript.Params{
		Dir:                 ".",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			unique := make([]byte, 4)
			_, _ = rand.Read(unique)
			env.Setenv("PATH", bin+":"+os.Getenv("PATH"))
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("DOCKER_HOST", os.Getenv("DOCKER_HOST"))
			env.Setenv("ADDR", testenv.FreePort(t))
			env.Setenv("APP", "rt"+hex.EncodeToString(unique))
			env.Setenv("XDG_RUNTIME_DIR", filepath.Join(env.WorkDir, "run"))
			env.Setenv("REAGENT_STUDIO_DATA", filepath.Join(env.WorkDir, "studio"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code": exitCode, "eventually": eventually, "image": image, "example": example, "engine": engine, "compose": compose, "certificate": certificate, "mode": mode, "sweep": sweep, "nosecret": noSecret,
		},
		Condition: condition,
	})
}

func need(ts *testscript.TestScript, ok bool, usage string) {
	if !ok {
		ts.Fatalf("usage: %s", usage)
	}
}

func exitCode(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) > 1, "code N PROGRAM ARGS…")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := err.(*exec.ExitError)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%v ended with code %d, want %d", args[1:], got, want)
	}
}

func eventually(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, len(args) > 0, "[!] eventually PROGRAM ARGS…")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		err := ts.Exec(args[0], args[1:]...)
		if (err == nil) != neg {
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			ts.Fatalf("%v: not within a minute: %v", args, err)
		}
	}
}

// scriptTB is a script as the helpers of testenv know tests.
type scriptTB struct {
	testing.TB
	ts *testscript.TestScript
}

func (s scriptTB) Helper()                   {}
func (s scriptTB) Fatalf(f string, a ...any) { s.ts.Fatalf(f, a...) }
func (s scriptTB) Errorf(f string, a ...any) { s.ts.Logf("clean up: "+f, a...) }
func (s scriptTB) Fatal(a ...any)            { s.ts.Fatalf("%s", fmt.Sprint(a...)) }
func (s scriptTB) Error(a ...any)            { s.ts.Logf("clean up: %s", fmt.Sprint(a...)) }
func (s scriptTB) Logf(f string, a ...any)   { s.ts.Logf(f, a...) }
func (s scriptTB) Skipf(string, ...any)      { s.ts.Fatalf("a script asks [docker] before it needs one") }
func (s scriptTB) Cleanup(f func())          { s.ts.Defer(f) }
func (s scriptTB) Context() context.Context  { return context.Background() }

func image(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) > 1, "image FILE VERSION [NAME=VALUE]…")
	testenv.SaveImage(scriptTB{ts: ts}, ts.MkAbs(args[0]), "local/app:"+args[1], testenv.App{Version: args[1], Env: args[2:]})
}

// example writes what people copy into a folder, with its program built.
func example(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) == 2, "example NAME FOLDER")
	root, err := testenv.ModuleRoot()
	ts.Check(err)
	to := ts.MkAbs(args[1])
	ts.Check(os.CopyFS(to, os.DirFS(filepath.Join(root, "examples", args[0]))))
	program, err := os.ReadFile(testenv.Program(scriptTB{ts: ts}, "./examples/"+args[0], false))
	ts.Check(err)
	_ = os.Remove(filepath.Join(to, args[0])) // somebody may have built one there
	ts.Check(os.WriteFile(filepath.Join(to, args[0]), program, 0o755))
}

// compose has the program made that runs compose apps where the plugin is missing.
func compose(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) == 1, "compose VARIABLE")
	ts.Setenv(args[0], testenv.Compose(scriptTB{ts: ts}).Helper)
}

// engine starts a Docker Engine that only this script has.
func engine(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) == 1, "engine VARIABLE")
	ts.Setenv(args[0], testenv.NewPrivateEngine(scriptTB{ts: ts}).Host)
}

// condition answers [docker]: an engine is there. Where one has to be, it is not
// a condition. [root] is for engines of their own.
func condition(cond string) (bool, error) {
	required := os.Getenv("REAGENT_REQUIRE_DOCKER") == "1"
	switch cond {
	case "docker":
		err := exec.Command("docker", "version").Run()
		if err != nil && required {
			return false, fmt.Errorf("a Docker Engine and its client are needed: %w", err)
		}
		return err == nil, nil
	case "root":
		if os.Geteuid() != 0 && required {
			return false, errors.New("engines of their own need root")
		}
		return os.Geteuid() == 0, nil
	}
	return false, fmt.Errorf("there is no condition %q", cond)
}

func sweep(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) == 0, "sweep")
	testenv.Docker(scriptTB{ts: ts}).Owns(ts.Getenv("APP"))
}

func mode(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) == 2, "mode FILE OCTAL")
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := fmt.Sprintf("%o", info.Mode().Perm()); got != args[1] {
		ts.Fatalf("%s has mode %s, want %s", args[0], got, args[1])
	}
}

// noSecret checks that what a log tells is no login.
func noSecret(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) > 0, "nosecret FILE…")
	var secrets []string
	for _, file := range []string{"press.reswarm", "studio/cli.json"} {
		var login struct{ Secret string }
		ts.Check(json.Unmarshal([]byte(ts.ReadFile(file)), &login))
		secrets = append(secrets, login.Secret)
	}
	for _, file := range args {
		text := []byte(ts.ReadFile(file))
		for _, s := range secrets {
			if s == "" || bytes.Contains(text, []byte(s)) {
				ts.Fatalf("%s holds a secret", file)
			}
		}
	}
}

func certificate(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) == 2, "certificate CERT KEY")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	about := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "studio"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, about, about, &key.PublicKey, key)
	ts.Check(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	for i, block := range []*pem.Block{{Type: "CERTIFICATE", Bytes: der}, {Type: "PRIVATE KEY", Bytes: private}} {
		ts.Check(os.WriteFile(ts.MkAbs(args[i]), pem.EncodeToMemory(block), 0o600))
	}
}
