package testenv

import (
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"reagent/protocol"
)

// Release pushes images that hold nothing of use as a version of an app, and
// enters it: for each architecture one, or one for each service that is built.
func (s *SessionRig) Release(in protocol.CreateRelease) (row protocol.AppRow) {
	s.t.Helper()
	var login protocol.RegistryLogin
	s.Ask(protocol.StudioCreateRegistryToken, protocol.AppArgs{App: in.App}, &login)
	for _, arch := range in.Architectures {
		if in.Compose == nil {
			s.PushImage(login, protocol.ImageName(protocol.Prod, arch, login.AppKey, login.AppName)+":"+in.Version)
			continue
		}
		services, err := protocol.ComposeServices(login.AppName, in.Compose)
		if err != nil {
			s.t.Fatal(err)
		}
		for service, definition := range services {
			if definition["image"] == nil || definition["build"] != nil {
				s.PushImage(login, protocol.ServiceImageName(protocol.Prod, arch, login.AppKey, login.AppName, service)+":"+in.Version)
			}
		}
	}
	s.Ask(protocol.StudioCreateRelease, in, &row)
	return row
}

// PushImage pushes an image of random bytes under a name below the studio's
// repository.
func (s *SessionRig) PushImage(login protocol.RegistryLogin, image string) {
	s.t.Helper()
	if err := PushRandom(login, image); err != nil {
		s.t.Fatalf("push %s: %v", image, err)
	}
}

// PushRandom is PushImage for logins that may be refused.
func PushRandom(login protocol.RegistryLogin, image string) error {
	tag, err := name.NewTag(strings.TrimSuffix(login.Registry, "/")+"/"+login.Repository+image, name.Insecure)
	if err != nil {
		return err
	}
	content, err := random.Image(256, 1)
	if err != nil {
		return err
	}
	return remote.Write(tag, content, remote.WithAuth(&authn.Basic{Username: login.Username, Password: login.Password}))
}
