package container

import "testing"

func TestDockerHubIsKnownByItsOldName(t *testing.T) {
	got, err := dockerConfig([]string{"/plugins"}, map[string]Credential{"docker.io/": {Username: "joe", Password: "s3cret"}})
	const want = `{"auths":{"https://index.docker.io/v1/":{"auth":"am9lOnMzY3JldA=="}},"cliPluginsExtraDirs":["/plugins"]}`
	if err != nil || string(got) != want {
		t.Errorf("configuration = %s, %v; want %s", got, err, want)
	}
}
