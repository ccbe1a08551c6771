package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"reagent/protocol"
)

// composeFiles are the names under which a compose definition is looked for, in
// the order of docker compose.
var composeFiles = []string{"compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"}

// longestDefinition bounds a compose file, and what becomes of it.
const longestDefinition = 1 << 20

// readCompose reads a compose file into the object that studio and device know.
func readCompose(file, appName string) (map[string]any, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, longestDefinition+1))
	if err != nil {
		return nil, err
	}
	definition, err := parseCompose(raw)
	if err == nil {
		err = checkCompose(appName, definition)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return definition, nil
}

// parseCompose makes of YAML an object that JSON can write.
func parseCompose(raw []byte) (map[string]any, error) {
	if len(raw) > longestDefinition {
		return nil, fmt.Errorf("the file is longer than %s", size(longestDefinition))
	}
	var doc, second yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(raw))
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, errors.New("the file is empty")
	case err != nil:
		return nil, err
	}
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more than one document in it")
	}
	textOnly(&doc)
	var definition map[string]any
	if err := doc.Decode(&definition); err != nil {
		return nil, err
	}
	// Once through JSON, which is what it is sent as: what that cannot say is
	// found out here, and aliases of aliases have their true length.
	text, err := json.Marshal(definition)
	switch {
	case err != nil:
		return nil, fmt.Errorf("it holds what JSON cannot say: %w", err)
	case len(text) > longestDefinition:
		return nil, fmt.Errorf("as JSON it is longer than %s", size(longestDefinition))
	case definition == nil:
		return nil, errors.New("it is not an object with services")
	}
	return definition, nil
}

// textOnly makes text of what YAML alone takes for something else: names that are
// numbers, and dates.
func textOnly(n *yaml.Node) {
	if n.ShortTag() == "!!timestamp" {
		n.Tag = "!!str"
	}
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 && child.Kind == yaml.ScalarNode && child.ShortTag() != "!!merge" {
			child.Tag = "!!str"
		}
		textOnly(child)
	}
}

// checkCompose refuses what could not be an app on a device, in words that say
// where.
func checkCompose(appName string, definition map[string]any) error {
	if definition["include"] != nil {
		return fmt.Errorf("include: the definition has to be in one file; %s makes one", `"docker compose config"`)
	}
	services, err := protocol.ComposeServices(appName, definition)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(services)) {
		s := services[name]
		if from, ok := protocol.AsDict(s["extends"]); ok && from["file"] != nil {
			return fmt.Errorf("the service %q extends one of another file: the definition has to be in one file; %s makes one", name, `"docker compose config"`)
		}
		if s["build"] == nil && s["image"] == nil && s["extends"] == nil {
			return fmt.Errorf("the service %q has neither image nor build", name)
		}
	}
	return nil
}

// buildContexts are the folders below dir that the services are built from.
func buildContexts(dir string, definition map[string]any) (contexts []buildContext, err error) {
	services, _ := protocol.AsDict(definition["services"])
	for _, name := range slices.Sorted(maps.Keys(services)) {
		service, _ := protocol.AsDict(services[name])
		if service["build"] == nil {
			continue
		}
		root, isText := protocol.Text(service["build"])
		var dockerfile string
		if build, ok := protocol.AsDict(service["build"]); ok {
			root, isText = ".", true
			if build["context"] != nil {
				root, isText = protocol.Text(build["context"])
			}
			dockerfile, _ = protocol.Text(build["dockerfile"])
		}
		switch {
		case !isText:
			return nil, fmt.Errorf("the service %q: build is neither a folder nor an object with a context", name)
		case strings.Contains(root, "://") || strings.HasPrefix(root, "git@"):
			continue // the device fetches it
		}
		root = path.Clean(filepath.ToSlash(root))
		if !filepath.IsLocal(filepath.FromSlash(root)) {
			return nil, fmt.Errorf("the service %q is built from %s, which is not below the folder that is sent", name, root)
		}
		if info, err := os.Stat(filepath.Join(dir, filepath.FromSlash(root))); err != nil || !info.IsDir() {
			return nil, fmt.Errorf("the service %q is built from %s, and there is no such folder", name, root)
		}
		if dockerfile != "" {
			dockerfile = path.Clean(filepath.ToSlash(dockerfile))
		}
		contexts = append(contexts, buildContext{root, dockerfile})
	}
	return contexts, nil
}
