package apps

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What compose itself would read, run, or not let us see is refused on every
// device; what gives a container more than itself only where policy.privileged_apps
// is false.
func TestWhatADefinitionMayAskFor(t *testing.T) {
	folder := t.TempDir()
	data := filepath.Join(folder, "..", "data")
	if err := os.Symlink("/etc", filepath.Join(folder, "link")); err != nil {
		t.Fatal(err)
	}
	const (
		never = iota
		privileged
		anywhere
	)
	service := func(part string) string { return fmt.Sprintf(`{"services": {"web": {"image": "x", %s}}}`, part) }
	shared := func(part string) string { return fmt.Sprintf(`{"services": {"web": {"image": "x"}}, %s}`, part) }
	for text, allowed := range map[string]int{
		service(`"command": "x", "restart": "always"`): anywhere,

		shared(`"include": ["other.yaml"]`):                                never,
		service(`"extends": {"file": "/etc/x.yaml", "service": "a"}`):      never,
		service(`"extends": {"service": "web"}`):                           anywhere,
		service(`"label_file": "/etc/passwd"`):                             never,
		service(`"label_file": ["ok", "../x"]`):                            never,
		service(`"provider": {"type": "sh"}`):                              never,
		service(`"credential_spec": {"file": "x"}`):                        never,
		service(`"build": "/"`):                                            never,
		service(`"build": {"context": "..", "dockerfile": "x"}`):           never,
		service(`"build": {"context": ".", "dockerfile": "../x"}`):         never,
		service(`"build": {"context": ".", "ssh": ["default"]}`):           never,
		service(`"build": {"additional_contexts": {"a": "/etc"}}`):         never,
		service(`"build": {"context": "${X:-/}"}`):                         never,
		service(`"build": {"context": "link"}`):                            never,
		service(`"build": {"context": "web", "dockerfile": "Dockerfile"}`): anywhere,
		service(`"build": {"context": "https://example.com/x.git"}`):       anywhere,
		service(`"build": {"context": ".", "network": "host"}`):            privileged,
		service(`"<<": {"privileged": true}`):                              never,
		shared(`"secrets": {"a": {"file": "/etc/shadow"}}`):                never,
		shared(`"configs": {"a": {"file": "~/x"}}`):                        never,
		shared(`"secrets": {"a": {"file": "./link/shadow"}}`):              never,
		shared(`"secrets": {"a": {"file": "./a.txt"}}`):                    anywhere,
		shared(`"configs": {"a": {"content": "x"}}`):                       anywhere,
		shared(`"volumes": []`):                                            never,

		service(`"privileged": true`):                                                             privileged,
		service(`"privileged": "${X:-true}"`):                                                     privileged,
		service(`"privileged": false`):                                                            anywhere,
		service(`"cap_add": ["SYS_ADMIN"]`):                                                       privileged,
		service(`"cap_drop": ["ALL"]`):                                                            anywhere,
		service(`"devices": ["/dev/mem"]`):                                                        privileged,
		service(`"device_cgroup_rules": ["a *:* rwm"]`):                                           privileged,
		service(`"gpus": "all"`):                                                                  privileged,
		service(`"pid": "host"`):                                                                  privileged,
		service(`"pid": "service:db"`):                                                            anywhere,
		service(`"ipc": "host"`):                                                                  privileged,
		service(`"uts": "host"`):                                                                  privileged,
		service(`"userns_mode": "host"`):                                                          privileged,
		service(`"cgroup": "host"`):                                                               privileged,
		service(`"cgroup_parent": "/"`):                                                           privileged,
		service(`"network_mode": "host"`):                                                         privileged,
		service(`"network_mode": "container:other"`):                                              privileged,
		service(`"network_mode": "${X:-host}"`):                                                   privileged,
		service(`"network_mode": "service:db"`):                                                   anywhere,
		service(`"security_opt": ["seccomp:unconfined"]`):                                         privileged,
		service(`"security_opt": ["no-new-privileges:true"]`):                                     anywhere,
		service(`"use_api_socket": true`):                                                         privileged,
		service(`"runtime": "other"`):                                                             privileged,
		service(`"a_key_of_tomorrow": true`):                                                      privileged,
		service(`"x-note": true`):                                                                 anywhere,
		service(`"volumes_from": ["container:other"]`):                                            privileged,
		service(`"volumes_from": ["db"]`):                                                         anywhere,
		service(`"post_start": [{"command": "x", "privileged": true}]`):                           privileged,
		service(`"logging": {"driver": "syslog"}`):                                                privileged,
		service(`"logging": {"driver": "json-file"}`):                                             anywhere,
		service(`"deploy": {"resources": {"reservations": {"devices": [{}]}}}`):                   privileged,
		service(`"deploy": {"replicas": 2}`):                                                      anywhere,
		service(`"volumes": ["/var/run/docker.sock:/var/run/docker.sock"]`):                       privileged,
		service(`"volumes": ["/:/host"]`):                                                         privileged,
		service(`"volumes": ["../../x:/x"]`):                                                      privileged,
		service(`"volumes": ["~/x:/x"]`):                                                          privileged,
		service(`"volumes": ["${X:-/}:/x"]`):                                                      privileged,
		service(`"volumes": ["./link:/x"]`):                                                       privileged,
		service(`"volumes": [".:/x"]`):                                                            privileged,
		service(`"volumes": [{"type": "bind", "source": "/etc", "target": "/x"}]`):                privileged,
		service(`"volumes": [{"type": "npipe", "source": "x", "target": "/x"}]`):                  privileged,
		service(`"volumes": ["./data:/x", "named:/y", "/anonymous"]`):                             anywhere,
		service(`"volumes": [{"type": "volume", "source": "named", "target": "/x"}]`):             anywhere,
		service(fmt.Sprintf(`"volumes": ["%s:/x"]`, data)):                                        anywhere,
		shared(`"volumes": {"a": {"external": true}}`):                                            privileged,
		shared(`"volumes": {"a": {"name": "another_apps"}}`):                                      privileged,
		shared(`"volumes": {"a": {"driver_opts": {"type": "none", "o": "bind", "device": "/"}}}`): privileged,
		shared(`"volumes": {"a": null, "b": {}}`):                                                 anywhere,
		shared(`"networks": {"default": {"name": "host", "external": true}}`):                     privileged,
		shared(`"networks": {"a": {"driver": "macvlan"}}`):                                        privileged,
		shared(`"networks": {"a": {"driver": "bridge"}}`):                                         anywhere,
	} {
		definition := object(t, text)
		for _, level := range []int{privileged, anywhere} {
			policy := projectPolicy{privileged: level == privileged, folder: folder, shown: []string{filepath.Clean(data)}}
			err := policy.check(definition)
			if (err == nil) != (allowed >= level) {
				t.Errorf("%s with privileged_apps %v: %v", text, policy.privileged, err)
			}
			if err != nil && allowed == privileged && !strings.Contains(err.Error(), "policy.privileged_apps") {
				t.Errorf("%s: %q does not name the policy", text, err)
			}
		}
	}
}
