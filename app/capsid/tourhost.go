package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// tourHost is the name by which the tour's own server is reached; .test is nobody's (RFC 6761).
const tourHost = "tour.capsid.test"

// loopbackHost is a server on this computer's loopback, and the policy file that opens it to one session.
type loopbackHost struct {
	policy string
	server *http.Server
	count  atomic.Int64
}

// newTourHost serves until close. Files go to dir.
func newTourHost(dir string) (*loopbackHost, error) {
	cert, pemText, err := selfSigned(tourHost)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ca := filepath.Join(dir, "tour-ca.pem")
	h := &loopbackHost{policy: filepath.Join(dir, "tour.toml")}
	text := fmt.Sprintf(`# The tour's own policy: one host is allowed, and led to a server on this computer.
[network]
default = "ask"
allow = [%q]

[network.upstream.%q]
address = %q
ca = %q
`, tourHost, tourHost, l.Addr().String(), ca)
	for path, data := range map[string][]byte{ca: pemText, h.policy: []byte(text)} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			l.Close()
			return nil, err
		}
	}
	h.server = &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
		ErrorLog:          log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.count.Add(1)
			io.WriteString(w, "Hello from the host.\n")
		}),
	}
	go h.server.ServeTLS(l, "", "")
	return h, nil
}

func (h *loopbackHost) served() int64 { return h.count.Load() }

func (h *loopbackHost) close() { h.server.Close() }

// selfSigned makes a certificate that vouches for itself, for a day.
func selfSigned(host string) (tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, text, nil
}
