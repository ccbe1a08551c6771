package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestPeopleGetAPageAndProgramsGetJSON(t *testing.T) {
	me := about{App: "hello", Device: "<desk>", Serial: "s-1", Stage: "PROD", Nonce: "n&1"}
	h := handler(me)

	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/any/path", nil))
	var got about
	if err := json.NewDecoder(w.Body).Decode(&got); err != nil || got != me {
		t.Errorf("JSON = %+v, %v, want %+v", got, err, me)
	}

	w = httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Accept", "text/html,application/xhtml+xml")
	h.ServeHTTP(w, r)
	if text := w.Body.String(); !strings.Contains(text, "&lt;desk&gt;") || !strings.Contains(text, "n&amp;1") || strings.Contains(text, "<desk>") {
		t.Errorf("page = %s, want the device's name and the nonce, escaped", text)
	}
}
