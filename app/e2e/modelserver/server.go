// Package modelserver stands in for the vendors' model APIs in tests: one HTTPS server on loopback that speaks the streaming forms of the
// Messages API (Anthropic), the Responses API (OpenAI) and the Gemini API, so that the real agents can hold a conversation without a network. Its certificate is signed by an
// authority of its own, which a policy file names together with the address ([network.upstream]).
//
// The model is a script: asked to "write the word W into P" it calls the agent's tool that writes files, and once it is given the tool's result
// it says that W is in P. Of a command that the person ran in Claude ("!curl …") it says whether Capsid blocked it. Anything else it answers with "You said: …".
package modelserver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// Hosts are the names that the server answers for.
var Hosts = []string{"api.anthropic.com", "api.openai.com", "chatgpt.com", "generativelanguage.googleapis.com"}

// Server is a running stand-in.
type Server struct {
	Address string // host:port on loopback
	CAFile  string // PEM of the authority that signed its certificate

	http *http.Server
	halt atomic.Pointer[Halt]
}

// Start listens on loopback; dir receives the authority's certificate.
func Start(dir string) (*Server, error) {
	cert, authority, err := certificate()
	if err != nil {
		return nil, err
	}
	s := &Server{CAFile: filepath.Join(dir, "models-ca.pem")}
	if err := os.WriteFile(s.CAFile, authority, 0o600); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.Address = l.Addr().String()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/messages", s.messages)
	mux.HandleFunc("POST /v1/messages/count_tokens", func(w http.ResponseWriter, r *http.Request) { answer(w, `{"input_tokens":42}`) })
	mux.HandleFunc("POST /v1/responses", s.responses)
	mux.HandleFunc("POST /backend-api/codex/responses", s.responses)
	mux.HandleFunc("POST /v1beta/models/{call}", s.gemini)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"error":{"type":"not_found_error","message":"the stand-in does not serve this"}}`)
	})
	s.http = &http.Server{
		Handler:   mux,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}},
		// Clients that give up on a connection are no news here.
		ErrorLog: nil,
	}
	go s.http.ServeTLS(l, "", "")
	return s, nil
}

// Close ends the server and its connections.
func (s *Server) Close() error { return s.http.Close() }

// Policy returns the part of a policy file that leads the vendors' hosts here.
func (s *Server) Policy() string {
	var b strings.Builder
	for _, h := range Hosts {
		fmt.Fprintf(&b, "[network.upstream.%q]\naddress = %q\nca = %q\n\n", h, s.Address, s.CAFile)
	}
	return b.String()
}

func answer(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprint(w, body)
}

// certificate makes an authority and a certificate of it for Hosts, good for a day.
func certificate() (tls.Certificate, []byte, error) {
	fail := func(err error) (tls.Certificate, []byte, error) {
		return tls.Certificate{}, nil, fmt.Errorf("certificate of the stand-in: %w", err)
	}
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fail(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fail(err)
	}
	now := time.Now()
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "stand-in models"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	authorityDER, err := x509.CreateCertificate(rand.Reader, authority, authority, authorityKey.Public(), authorityKey)
	if err != nil {
		return fail(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: Hosts[0]}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		DNSNames: Hosts, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, authority, key.Public(), authorityKey)
	if err != nil {
		return fail(err)
	}
	return tls.Certificate{Certificate: [][]byte{leafDER}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authorityDER}), nil
}
