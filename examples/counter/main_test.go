package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func get(t *testing.T, h http.Handler) (string, int) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	text, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text), w.Code
}

func TestVisitsAreCountedAcrossRestarts(t *testing.T) {
	folder := t.TempDir()
	for _, want := range []string{"visitor 1 ", "visitor 2 "} {
		back := httptest.NewServer(newStore(folder)) // a store that was started anew
		if err := migrate(t.Context(), back.URL); err != nil {
			t.Errorf("migrate = %v", err)
		}
		if got, code := get(t, visits(back.URL)); code != http.StatusOK || !strings.Contains(got, want) {
			t.Errorf("the page says %d %q, want %q", code, got, want)
		}
		back.Close()
	}
}

func TestADamagedNumberIsAnErrorAndStays(t *testing.T) {
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "count"), []byte("many"), 0o600); err != nil {
		t.Fatal(err)
	}
	back := httptest.NewServer(newStore(folder))
	defer back.Close()
	if err := migrate(t.Context(), back.URL); err == nil {
		t.Error("migrate = nil, want an error")
	}
	if got, code := get(t, visits(back.URL)); code != http.StatusBadGateway {
		t.Errorf("the page says %d %q, want an error", code, got)
	}
	if raw, err := os.ReadFile(filepath.Join(folder, "count")); err != nil || string(raw) != "many" {
		t.Errorf("the file holds %q, %v; want it as it was", raw, err)
	}
}
