package registry

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"reagent/filesystem"
)

// The uses of a token. One that was made for one use is nothing in another.
const (
	useBearer = "bearer" // at /v2/
	usePull   = "pull"   // at /auth/token, by a device
	usePush   = "push"   // at /auth/token, by a user
)

// claims are what a token says. Whoever holds it can read it: nothing in here
// is a secret.
type claims struct {
	Use     string   `json:"use"`
	Subject string   `json:"sub"`           // authid of the bearer
	Account uint64   `json:"acc,omitempty"` // for whom a device pulls
	App     uint64   `json:"app,omitempty"` // the only app that it is good for; 0 = every
	Access  []access `json:"access,omitempty"`
	Expires int64    `json:"exp"`
}

// access is a repository with what may be done there.
type access struct {
	Repository string   `json:"name"`
	Actions    []string `json:"actions"`
}

const keyBytes = 32

// A signer makes tokens and knows its own.
type signer struct{ key []byte }

// loadSigner reads the key at path, or makes one at the first start.
func loadSigner(path string) (signer, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key := make([]byte, keyBytes)
		_, _ = rand.Read(key) // never fails: see its documentation
		text = []byte(base64.StdEncoding.EncodeToString(key) + "\n")
		err = filesystem.WritePrivate(path, text)
	}
	if err != nil {
		return signer{}, fmt.Errorf("key of the image registry: %w", err)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(key) != keyBytes {
		return signer{}, fmt.Errorf("the key of the image registry, %s, is damaged: remove it, the next start makes another", path)
	}
	return signer{key}, nil
}

// derive makes a key for another purpose out of the signer's.
func (s signer) derive(purpose string) []byte {
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(purpose))
	return mac.Sum(nil)
}

// sign makes a token.
func (s signer) sign(c claims) string {
	body, err := json.Marshal(c)
	if err != nil {
		panic(err) // strings and numbers only
	}
	text := base64.RawURLEncoding.EncodeToString(body)
	return text + "." + base64.RawURLEncoding.EncodeToString(s.derive("token\x00"+text))
}

// read tells what a token says, if it is one of ours, made for this use, and not
// expired.
func (s signer) read(token, use string, now time.Time) (claims, bool) {
	const longest = 8 << 10
	text, mac, ok := strings.Cut(token, ".")
	if !ok || len(token) > longest {
		return claims{}, false
	}
	given, err := base64.RawURLEncoding.DecodeString(mac)
	if err != nil || !hmac.Equal(given, s.derive("token\x00"+text)) {
		return claims{}, false
	}
	body, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return claims{}, false
	}
	var c claims
	if json.Unmarshal(body, &c) != nil || c.Use != use || now.Unix() >= c.Expires {
		return claims{}, false
	}
	return c, true
}
