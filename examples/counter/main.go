// Counter is an app of three services, one program in three roles:
//
//	counter store     keeps a number in the folder /data
//	counter migrate   prepares it once, and ends
//	counter web       counts visits on port 8080
//
// "counter health" asks the store whether it is well; compose.yaml makes a
// health check of it. The program is static, so the image needs nothing else.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	role := "web"
	if len(os.Args) > 1 {
		role = os.Args[1]
	}
	if err := run(ctx, role); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", role, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, role string) error {
	address := cmp.Or(os.Getenv("STORE"), "http://store:9000")
	switch role {
	case "store":
		return serve(ctx, ":9000", newStore(cmp.Or(os.Getenv("DATA"), "/data")))
	case "migrate":
		return migrate(ctx, address)
	case "web":
		return serve(ctx, ":8080", visits(address))
	case "health":
		_, err := call(ctx, http.MethodGet, "http://127.0.0.1:9000/")
		return err
	}
	return errors.New("there is no such role: say store, migrate or web")
}

// A store keeps one number in a file.
type store struct {
	mu   sync.Mutex
	file string
}

func newStore(folder string) *store { return &store{file: filepath.Join(folder, "count")} }

// ServeHTTP tells the number, and counts a POST.
func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.read()
	if err == nil && r.Method == http.MethodPost {
		n++
		err = os.WriteFile(s.file, []byte(strconv.Itoa(n)), 0o600)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprintln(w, n)
}

func (s *store) read() (int, error) {
	raw, err := os.ReadFile(s.file)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(raw)))
}

// migrate is what has to be done before the first visitor comes.
func migrate(ctx context.Context, address string) error {
	n, err := call(ctx, http.MethodGet, address)
	if err == nil {
		fmt.Printf("The store is ready and has counted %s visits.\n", n)
	}
	return err
}

// visits answers each visitor with the number of visits.
func visits(address string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := call(r.Context(), http.MethodPost, address)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		fmt.Printf("Visit %s.\n", n)
		fmt.Fprintf(w, "You are visitor %s of %s.\n", n, cmp.Or(os.Getenv("DEVICE_NAME"), "this device"))
	})
}

func call(ctx context.Context, method, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return "", err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
	text := strings.TrimSpace(string(body))
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("the store answers: %s", text)
	}
	return text, err
}

func serve(ctx context.Context, address string, handler http.Handler) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Println("Up and answering on", address)
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		server.Close()
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
