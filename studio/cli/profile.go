package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"reagent/protocol"
)

// profileFile is the profile that a studio on this machine writes for its owner.
const profileFile = "cli.json"

// The variables that choose a studio. All but the first change a single field of
// the profile, and together they make a file unnecessary.
var profileVariables = []struct {
	name, about string
	set         func(p *protocol.StudioProfile, value string) error
}{
	{"REAGENT_STUDIO_PROFILE", "file that says which studio, and as whom; --profile wins", nil},
	{"REAGENT_STUDIO_URL", "address of the studio, such as https://studio.example.com", func(p *protocol.StudioProfile, v string) error { p.URL = v; return nil }},
	{"REAGENT_STUDIO_AUTHID", "account", func(p *protocol.StudioProfile, v string) error { p.AuthID = v; return nil }},
	{"REAGENT_STUDIO_SECRET", "secret of the account", func(p *protocol.StudioProfile, v string) error { p.Secret = v; return nil }},
	{"REAGENT_STUDIO_CA", "file with the certificates (PEM) to trust besides those of the system", func(p *protocol.StudioProfile, v string) error {
		pem, err := os.ReadFile(v)
		p.CA = string(pem)
		return err
	}},
}

// readProfile finds out which studio is meant.
func (c *Call) readProfile() (protocol.StudioProfile, error) {
	var fields int
	for _, v := range profileVariables[1:4] {
		if c.Getenv(v.name) != "" {
			fields++
		}
	}
	path, chosen := c.profile, true
	if path == "" {
		path = c.Getenv(profileVariables[0].name)
	}
	if path == "" {
		path, chosen = filepath.Join(c.DataFolder, profileFile), false
	}
	var profile protocol.StudioProfile
	if chosen || fields < 3 {
		var err error
		if profile, err = c.loadProfile(path, chosen); err != nil {
			return profile, err
		}
	}
	for _, v := range profileVariables[1:] {
		if value := c.Getenv(v.name); value != "" {
			if err := v.set(&profile, value); err != nil {
				return profile, fmt.Errorf("%s: %w", v.name, err)
			}
		}
	}
	if profile.Realm == "" {
		profile.Realm = protocol.RealmDevices
	}
	for _, field := range []struct{ name, value string }{{"url", profile.URL}, {"authid", profile.AuthID}, {"secret", profile.Secret}} {
		if field.value == "" {
			return profile, fmt.Errorf("profile %s: %s is missing", path, field.name)
		}
	}
	return profile, nil
}

func (c *Call) loadProfile(path string, chosen bool) (profile protocol.StudioProfile, err error) {
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && chosen:
		return profile, fmt.Errorf("there is no profile %s", path)
	case errors.Is(err, fs.ErrNotExist):
		return profile, fmt.Errorf("no studio has been started on this machine (there is no %s): start one with %q, or name the profile of another with --profile", path, c.Name+" serve")
	case errors.Is(err, fs.ErrPermission):
		return profile, fmt.Errorf("profile %s may not be read by you: work as the user who started the studio, or have yourself added with %q", path, c.Name+" user add")
	case err != nil:
		return profile, err
	}
	if err := json.Unmarshal(data, &profile); err != nil {
		return profile, fmt.Errorf("profile %s: %w", path, err)
	}
	profile.URL = strings.TrimSuffix(profile.URL, "/")
	return profile, nil
}
