package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pair makes a self-signed certificate for 127.0.0.1 and its key, as PEM.
func pair(t *testing.T, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, about, about, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

// greet joins a client with a configuration and a server that asks for a
// certificate. It answers the name in the client's certificate.
func greet(t *testing.T, server tls.Certificate, client *tls.Config) (name string, err error) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequestClientCert})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	names := make(chan string, 1)
	go func() {
		defer close(names)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		conn := c.(*tls.Conn)
		if conn.Handshake() != nil {
			return
		}
		for _, cert := range conn.ConnectionState().PeerCertificates {
			names <- cert.Subject.CommonName
		}
	}()
	conn, err := tls.Dial("tcp", l.Addr().String(), client)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return <-names, nil
}

func TestRouterIsVerifiedAlways(t *testing.T) {
	cert, key := pair(t, "router")
	server, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, []byte(cert), 0o600); err != nil {
		t.Fatal(err)
	}
	clientCert, clientKey := pair(t, "device")
	authentication, err := json.Marshal(map[string]string{"key": clientKey, "certificate": clientCert})
	if err != nil {
		t.Fatal(err)
	}
	withPair := strings.Replace(sample, `{"key": "", "certificate": ""}`, string(authentication), 1)
	legacy := strings.Replace(withPair, "wss://router.example.test/ws-re-dev", "wss://devices.example.com:8080", 1)

	for _, row := range []struct {
		about, file string
		args        []string
		verified    bool
		name        string
	}{
		{"unknown authority", withPair, nil, false, ""},
		{"named authority", withPair, []string{"-caFile", ca}, true, ""},
		{"legacy, unknown authority", legacy, nil, false, ""},
		{"legacy, named authority", legacy, []string{"-caFile", ca}, true, "device"},
	} {
		t.Run(row.about, func(t *testing.T) {
			cfg := mustLoad(t, row.file, env(), row.args...)
			name, err := greet(t, server, cfg.Link.TLS)
			if (err == nil) != row.verified || name != row.name {
				t.Errorf("handshake: client certificate %q, %v; want verified = %v, %q", name, err, row.verified, row.name)
			}
		})
	}
}

func TestLegacyRouterWithoutAPairIsAWarning(t *testing.T) {
	cfg := mustLoad(t, strings.Replace(sample, "wss://router.example.test/ws-re-dev", "wss://devices2.example.io:8080/x", 1), env())
	if len(cfg.Warnings) != 1 || !strings.Contains(cfg.Warnings[0], "client certificate") || len(cfg.Link.TLS.Certificates) != 0 {
		t.Errorf("warnings = %q", cfg.Warnings)
	}
}

func TestCAFileWithoutACertificateIsAnError(t *testing.T) {
	path := writeFile(t, sample)
	if _, err := load([]string{"-config", path, "-caFile", path}, env(), machine(t.TempDir())); err == nil || !strings.Contains(err.Error(), "no certificate in PEM form") {
		t.Errorf("load = %v", err)
	}
}
