// Testapp is the program inside the images of the tests. What it does is told
// by its environment, so that one binary plays all apps:
//
//	TESTAPP_LINES=n           print "line 1" to "line n" at the start
//	TESTAPP_CHATTER=n         on each SIGUSR1, print n numbered lines of 100 bytes …
//	TESTAPP_RATE=n            … so many a second (default: as fast as they go)
//	TESTAPP_EVERY=duration    print "tick 1", "tick 2", … after each duration
//	TESTAPP_FILL=path         make a file a megabyte longer at each tick
//	TESTAPP_STDERR=text       print text to the standard error
//	TESTAPP_SERVE=port        answer HTTP: / is the environment as JSON, /file/PATH a file
//	TESTAPP_EXIT=code         end with this code …
//	TESTAPP_AFTER=duration    … after so long (default: at once)
//	TESTAPP_IGNORE_TERM=1     do not end on SIGTERM
//	TESTAPP_UNHEALTHY=duration  "testapp health" fails from then on
//
// It prints "ready" when it has done what is to be done at the start, and ends
// with 0 on SIGTERM.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// sick exists once the health check shall fail.
const sick = "/testapp-is-sick"

func main() {
	if len(os.Args) > 1 && os.Args[1] == "health" {
		if _, err := os.Stat(sick); err == nil {
			fmt.Println("sick")
			os.Exit(1)
		}
		return
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "testapp:", err)
		os.Exit(70)
	}
}

func run() error {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)

	for i := range number("LINES") {
		fmt.Printf("line %d\n", i+1)
	}
	if text := os.Getenv("TESTAPP_STDERR"); text != "" {
		fmt.Fprintln(os.Stderr, text)
	}
	if port := os.Getenv("TESTAPP_SERVE"); port != "" {
		l, err := net.Listen("tcp", ":"+port)
		if err != nil {
			return err
		}
		go http.Serve(l, handler()) // ends with the process
	}
	talk := make(chan os.Signal, 1)
	if n := number("CHATTER"); n > 0 {
		signal.Notify(talk, syscall.SIGUSR1)
	}
	exit, unhealthy := make(<-chan time.Time), make(<-chan time.Time)
	if os.Getenv("TESTAPP_EXIT") != "" {
		exit = time.After(duration("AFTER"))
	}
	if os.Getenv("TESTAPP_UNHEALTHY") != "" {
		unhealthy = time.After(duration("UNHEALTHY"))
	}
	tick := make(<-chan time.Time)
	if every := duration("EVERY"); every > 0 {
		tick = time.Tick(every)
	}
	fmt.Println("ready")

	for ticks := 1; ; {
		select {
		case <-tick:
			fmt.Printf("tick %d\n", ticks)
			ticks++
			if path := os.Getenv("TESTAPP_FILL"); path != "" {
				if err := lengthen(path); err != nil {
					fmt.Println(err)
				}
			}
		case <-talk:
			go chatter(os.Stdout, number("CHATTER"), number("RATE")) // ends with the process
		case <-exit:
			os.Exit(number("EXIT"))
		case <-unhealthy:
			if err := os.WriteFile(sick, nil, 0o600); err != nil {
				return err
			}
		case <-term:
			if os.Getenv("TESTAPP_IGNORE_TERM") == "" {
				fmt.Println("terminated")
				return nil
			}
			fmt.Println("not terminated")
		}
	}
}

// chatter prints n lines, perSecond of them each second; 0 = without a pause.
func chatter(out io.Writer, n, perSecond int) {
	const bursts = 100 // a second
	w := bufio.NewWriterSize(out, 32<<10)
	begun := time.Now()
	for i := range n {
		if perSecond > 0 && i%max(1, perSecond/bursts) == 0 {
			w.Flush()
			time.Sleep(time.Until(begun.Add(time.Duration(i) * time.Second / time.Duration(perSecond))))
		}
		head := fmt.Sprintf("chatter %07d ", i+1)
		fmt.Fprintln(w, head+strings.Repeat("x", 99-len(head)))
	}
	w.Flush()
}

func lengthen(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 1<<20))
	return errors.Join(err, f.Close())
}

func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
		environment := map[string]string{}
		for _, entry := range os.Environ() {
			name, value, _ := strings.Cut(entry, "=")
			environment[name] = value
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(environment)
	})
	mux.HandleFunc("/file/{path...}", func(w http.ResponseWriter, r *http.Request) {
		text, err := os.ReadFile("/" + r.PathValue("path"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		w.Write(text)
	})
	return mux
}

func number(name string) int {
	n, _ := strconv.Atoi(os.Getenv("TESTAPP_" + name))
	return n
}

func duration(name string) time.Duration {
	d, _ := time.ParseDuration(os.Getenv("TESTAPP_" + name))
	return d
}
