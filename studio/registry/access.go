package registry

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/registry/auth"

	"reagent/protocol"
)

// controllerName is how distribution finds our access controller; the one of a
// Registry comes to it as an option.
const controllerName = service

func init() {
	err := auth.Register(controllerName, func(options map[string]any) (auth.AccessController, error) {
		c, ok := options["controller"].(*controller)
		if !ok {
			return nil, errors.New("no access controller is given")
		}
		return c, nil
	})
	if err != nil {
		panic(err) // the name is registered twice: a mistake in the program
	}
}

// A controller decides about each request at /v2/.
type controller Registry

// Authorized lets a request pass whose bearer token holds all that it needs,
// and whose bearer still may it.
func (c *controller) Authorized(req *http.Request, needs ...auth.Access) (*auth.Grant, error) {
	r := (*Registry)(c)
	scheme, token, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	if token == "" || !strings.EqualFold(scheme, "Bearer") {
		return nil, r.challenge(req, needs, "")
	}
	who, ok := r.signer.read(token, useBearer, time.Now())
	if !ok {
		return nil, r.challenge(req, needs, "invalid_token")
	}
	grant := &auth.Grant{User: auth.UserInfo{Name: who.Subject}}
	for _, need := range needs {
		if !who.holds(need) || !r.may(who.Subject, who.App, need.Name, need.Action) || !r.mayName(who.Subject, need, req) {
			return nil, r.challenge(req, needs, "insufficient_scope")
		}
		if push := (auth.Access{Resource: need.Resource, Action: "push"}); who.holds(push) {
			r.note(need.Name, req)
		}
		grant.Resources = append(grant.Resources, need.Resource)
	}
	return grant, nil
}

// mayName tells whether a device may give an image its name: only that of the
// version which it is to publish.
func (r *Registry) mayName(subject string, need auth.Access, req *http.Request) bool {
	if need.Action != "push" || req.Method != http.MethodPut || path.Base(path.Dir(req.URL.Path)) != "manifests" {
		return true
	}
	name := path.Base(req.URL.Path)
	_, _, appKey, _, _ := protocol.ParseImageName(strings.TrimPrefix(need.Name, protocol.MainRepository)) // may has read it
	_, version, publishes := r.cfg.Principals.MayPublish(subject, appKey)
	return !publishes || name == version || strings.Contains(name, ":")
}

// holds tells whether the token was made for this.
func (c claims) holds(need auth.Access) bool {
	return need.Type == "repository" && slices.ContainsFunc(c.Access, func(a access) bool {
		return a.Repository == need.Name && slices.Contains(a.Actions, need.Action)
	})
}

// A challenge tells a client where tokens are made, and which one it needs.
type challenge struct{ header, reason string }

func (c challenge) Error() string {
	if c.reason == "" {
		return "a token is needed"
	}
	return "the token does not do: " + c.reason
}

// SetHeaders is for distribution, which writes the rest of the answer.
func (c challenge) SetHeaders(_ *http.Request, w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", c.header)
}

func (r *Registry) challenge(req *http.Request, needs []auth.Access, reason string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Bearer realm=%q,service=%q", r.realm(req), service)
	var scopes []string
	for _, need := range needs {
		prefix := need.Type + ":" + need.Name + ":"
		i := slices.IndexFunc(scopes, func(s string) bool { return strings.HasPrefix(s, prefix) })
		if i < 0 {
			scopes = append(scopes, prefix+need.Action)
		} else {
			scopes[i] += "," + need.Action
		}
	}
	if len(scopes) > 0 {
		fmt.Fprintf(&b, ",scope=%q", strings.Join(scopes, " "))
	}
	if reason != "" {
		fmt.Fprintf(&b, ",error=%q", reason)
	}
	return challenge{b.String(), reason}
}

// realm is the token end point at the address that the client used: a studio
// has several, and not each is reachable from everywhere.
func (r *Registry) realm(req *http.Request) string {
	scheme := "http"
	if req.TLS != nil || req.Header.Get("X-Forwarded-Proto") == "https" {
		scheme = "https"
	}
	if public, err := url.Parse(r.cfg.PublicURL); err == nil && public.Host == req.Host && public.Scheme == "https" {
		scheme = "https" // a proxy in front speaks TLS
	}
	return (&url.URL{Scheme: scheme, Host: req.Host, Path: PathToken}).String()
}
