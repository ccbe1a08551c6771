// Hello is the smallest app for a device: one static binary in an image of its
// own, a web page on port 8080, and a first line in the log.
//
// What it knows of itself it has from its environment, which the agent fills:
// the device's name and serial number, the app's name, and NONCE, a setting of
// the app's own that shows which deployment answers.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// about is what the page tells; its names are those of the JSON form.
type about struct {
	App    string `json:"app"`
	Device string `json:"device"`
	Serial string `json:"serial"`
	Stage  string `json:"stage"`
	Nonce  string `json:"nonce"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, ":8080"); err != nil {
		fmt.Fprintln(os.Stderr, "hello:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, address string) error {
	me := about{
		App:    cmp.Or(os.Getenv("APP_NAME"), "hello"),
		Device: cmp.Or(os.Getenv("DEVICE_NAME"), "this device"),
		Serial: os.Getenv("DEVICE_SERIAL_NUMBER"),
		Stage:  os.Getenv("ENV"),
		Nonce:  os.Getenv("NONCE"),
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Printf("Hello from %s: %s is up and answers on port 8080.\n", me.Device, me.App)

	server := &http.Server{Handler: handler(me), ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	// A stop gives an app one second.
	grace, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		server.Close()
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	fmt.Println("Goodbye.")
	return nil
}

// handler answers every path: a page for people, JSON for everybody else.
func handler(me about) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.Header.Get("Accept"), "text/html") {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			page.Execute(w, me)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(me)
	})
}

var page = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{{.App}} on {{.Device}}</title>
<style>
	body { font: 1.1rem/1.5 system-ui, sans-serif; max-width: 32rem; margin: 4rem auto; padding: 0 1rem }
	dt { color: #666 } dd { margin: 0 0 .5rem; font-family: ui-monospace, monospace }
</style>
<h1>Hello from {{.Device}}</h1>
<p>This page is served by <b>{{.App}}</b>, an app in a container on the device.</p>
<dl>
	<dt>Serial number</dt><dd>{{.Serial}}</dd>
	<dt>Stage</dt><dd>{{.Stage}}</dd>
	<dt>Nonce</dt><dd>{{.Nonce}}</dd>
</dl>
</html>
`))
