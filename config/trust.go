package config

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"regexp"
)

// legacyEndpoint is the old platform's router, which wants a client certificate.
// The pattern is the contract's; it is not anchored.
var legacyEndpoint = regexp.MustCompile(`devices.*\.(com|io):8080`)

// trust decides what the router must prove, and what we prove to it. The server
// is verified always, at legacy endpoints, too.
func (l *loader) trust() {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if file := l.Link.CAFile; file != "" {
		roots, err := x509.SystemCertPool()
		if err != nil { // a small image may have no roots at all
			roots = x509.NewCertPool()
		}
		pem, err := os.ReadFile(file)
		if err != nil {
			l.problem("-caFile: %w", err)
		} else if !roots.AppendCertsFromPEM(pem) {
			l.problem("-caFile: %s holds no certificate in PEM form", file)
		}
		c.RootCAs = roots
	}
	if legacyEndpoint.MatchString(l.id.EndpointURL) {
		pair, err := tls.X509KeyPair([]byte(l.id.ClientCertificate), []byte(l.id.ClientKey))
		if err != nil {
			// The apps must run all the same; the router's refusal will be seen.
			l.warn("authentication of the device file: no client certificate for this legacy router: %w", err)
		} else {
			c.Certificates = []tls.Certificate{pair}
		}
	}
	l.Link.TLS = c
}
