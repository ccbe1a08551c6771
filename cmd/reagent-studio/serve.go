package main

import (
	"context"
	"flag"
	"io"
	"os"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/term"

	"reagent/studio"
	"reagent/studio/cli"
)

// Spellings that all parts share. They are variables of the library, so they are
// set once, before anything logs.
func init() {
	zerolog.ErrorFieldName = "err"
	zerolog.TimeFieldFormat = time.RFC3339Nano
}

// serve runs a studio until it is asked to end.
func serve(data string) cli.Command {
	cfg := studio.Config{Data: data}
	var debug bool
	return cli.Command{
		Words: "serve", Args: "[--listen ADDRESS]… [--public-url URL] [--tls-cert FILE --tls-key FILE]", Local: true,
		About: "Run a studio until Ctrl-C",
		More: `One port serves everything: devices, apps and users at /ws, images at /v2/,
/healthz. Without flags it is reached from this machine only. For devices
elsewhere give it a certificate and the address under which they find it:

  $0 serve --listen :8020 --tls-cert studio.pem --tls-key studio.key \
      --public-url https://studio.example.com:8020

A certificate that the systems do not know has to be made known to the Docker
engines of the devices, which pull images: as /etc/docker/certs.d/HOST:PORT/ca.crt;
agents take it with -caFile.

The first start makes account 1, the administrator's, and writes its profile to
cli.json in the data folder, where the commands on this machine find it. The
folder holds the secrets of all devices; REAGENT_STUDIO_DATA names another one,
for serve and for the commands.`,
		Flags: func(f *flag.FlagSet) {
			f.Func("listen", "`ADDRESS` host:port to listen on (repeatable; default: "+studio.DefaultListen+")", func(text string) error {
				cfg.Listen = append(cfg.Listen, text)
				return nil
			})
			f.StringVar(&cfg.PublicURL, "public-url", "", "`URL` under which devices and users reach the studio; goes into device files (default: the first address)")
			f.StringVar(&cfg.TLSCert, "tls-cert", "", "`FILE` with the certificate and what it is signed with (PEM)")
			f.StringVar(&cfg.TLSKey, "tls-key", "", "`FILE` with the certificate's key (PEM)")
			f.BoolVar(&cfg.Insecure, "insecure", false, "listen without TLS where others can reach it: only behind something that speaks TLS")
			f.StringVar(&cfg.Data, "data", data, "`FOLDER` for all that the studio keeps")
			f.BoolVar(&debug, "debug", false, "log more")
		},
		Run: func(ctx context.Context, c *cli.Call) error {
			cfg.Log = newLog(c.Stderr, debug)
			s, err := studio.New(cfg)
			if err != nil {
				return err
			}
			return s.Run(ctx)
		},
	}
}

// newLog logs for people on a terminal, and a JSON object a line elsewhere.
func newLog(out io.Writer, debug bool) zerolog.Logger {
	level := zerolog.InfoLevel
	if debug {
		level = zerolog.DebugLevel
	}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		out = zerolog.ConsoleWriter{Out: out, TimeFormat: time.DateTime}
	}
	return zerolog.New(zerolog.SyncWriter(out)).Level(level).With().Timestamp().Logger()
}
