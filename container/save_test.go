package container_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"testing"

	"github.com/rs/zerolog"

	"reagent/container"
	"reagent/internal/testenv"
)

func TestSaveImageWritesTheNamedImageAlone(t *testing.T) {
	e := testenv.Docker(t)
	id := testenv.BuildImage(t, e, e.Prefix+"/app:latest", testenv.App{Version: "1"})
	testenv.BuildImage(t, e, e.Prefix+"/app:2", testenv.App{Version: "2"})
	engine, err := container.New(container.Config{Host: e.Host, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()

	var saved bytes.Buffer
	if err := engine.SaveImage(t.Context(), e.Prefix+"/app", &saved); err != nil {
		t.Fatal(err)
	}
	var manifest []struct{ Config string }
	for r := tar.NewReader(&saved); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Name == "manifest.json" {
			if err := json.NewDecoder(r).Decode(&manifest); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(manifest) != 1 || !bytes.Contains([]byte(manifest[0].Config), []byte(id[len("sha256:"):])) {
		t.Errorf("saved %+v, want one image, %s", manifest, id)
	}
	err = engine.SaveImage(t.Context(), e.Prefix+"/app:3", io.Discard)
	if !errors.Is(err, container.ErrNotFound) {
		t.Errorf("SaveImage of a missing tag = %v, want ErrNotFound", err)
	}
}
