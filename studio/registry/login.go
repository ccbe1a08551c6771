package registry

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"
)

// tokenAnswer is what Docker's protocol wants from a token end point; old
// clients read token, newer ones access_token.
type tokenAnswer struct {
	Token       string `json:"token"`
	AccessToken string `json:"access_token"`
	ExpiresIn   int    `json:"expires_in"`
	IssuedAt    string `json:"issued_at"`
}

// serveToken turns a login into a bearer token. The token holds as much of what
// was asked for as the caller may have, which can be nothing: the registry then
// refuses what he does with it.
func (r *Registry) serveToken(w http.ResponseWriter, req *http.Request) {
	const longestForm = 64 << 10
	req.Body = http.MaxBytesReader(w, req.Body, longestForm)
	username, password, ok := req.BasicAuth()
	switch req.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodPost: // the OAuth2 form, which containerd prefers
		if !ok {
			username, password = req.PostFormValue("username"), req.PostFormValue("password")
		}
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "the method is not allowed here")
		return
	}
	if err := req.ParseForm(); err != nil {
		refuse(w, http.StatusBadRequest, "UNSUPPORTED", "the request cannot be read")
		return
	}
	who, ok := r.login(username, password)
	if !ok {
		r.cfg.Log.Warn().Str("remote", req.RemoteAddr).Msg("registry login refused")
		w.Header().Set("WWW-Authenticate", `Basic realm="`+service+`"`)
		refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "the login is not known here: devices log in with their secret, users with their account's authid and secret")
		return
	}
	who.Use, who.Expires = useBearer, r.until(r.cfg.BearerLife)
	who.Access = r.granted(who, req.Form["scope"])
	token := r.signer.sign(who)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(tokenAnswer{
		Token: token, AccessToken: token,
		ExpiresIn: int(r.cfg.BearerLife / time.Second),
		IssuedAt:  time.Now().UTC().Format(time.RFC3339),
	}) // the caller may have gone
}

// login finds out who logs in.
func (r *Registry) login(username, password string) (claims, bool) {
	now := time.Now()
	for _, use := range []string{usePush, usePull} {
		if c, ok := r.signer.read(password, use, now); ok {
			return c, true
		}
	}
	if c, ok := r.signer.read(username, usePull, now); ok {
		return c, r.proves(c.Subject, password)
	}
	if r.proves(username, password) {
		return claims{Subject: username}, true
	}
	// The reference's devices log in under names that are nobody's, such as an
	// expired token's; their secret says who they are.
	if password == "" {
		return claims{}, false
	}
	device, ok := r.cfg.Principals.DeviceWithSecret(password)
	return claims{Subject: device}, ok
}

// proves takes the same time for an unknown name and for a wrong secret.
func (r *Registry) proves(authid, secret string) bool {
	want, known := r.cfg.Principals.Secret(authid)
	a, b := sha256.Sum256([]byte(want)), sha256.Sum256([]byte(secret))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1 && known && want != ""
}

// granted is what of the asked scopes a login may have. A scope is
// "repository:<name>:<action>,…"; there may be several in one parameter.
func (r *Registry) granted(who claims, scopes []string) []access {
	const most = 16
	var out []access
	for _, scope := range strings.Fields(strings.Join(scopes, " ")) {
		kind, rest, _ := strings.Cut(scope, ":")
		cut := strings.LastIndexByte(rest, ':')
		if kind != "repository" || cut < 0 || len(out) == most {
			continue
		}
		a := access{Repository: rest[:cut]}
		for action := range strings.SplitSeq(rest[cut+1:], ",") {
			if !slices.Contains(a.Actions, action) && r.may(who.Subject, who.App, a.Repository, action) {
				a.Actions = append(a.Actions, action)
			}
		}
		if len(a.Actions) > 0 {
			out = append(out, a)
		}
	}
	return out
}

// refuse answers in the form of the registry protocol, so that clients show
// people the text.
func refuse(w http.ResponseWriter, status int, code, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"errors": []map[string]string{{"code": code, "message": text}},
	}) // the caller may have gone
}
