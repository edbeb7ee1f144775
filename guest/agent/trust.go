//go:build linux

package agent

import (
	"bytes"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

const (
	bundlePath = "/etc/ssl/certs/ca-certificates.crt"
	ownPath    = "/usr/local/share/ca-certificates/capsid.crt"
)

// trustEnv makes programs use the system's bundle, which has the proxy's certificate, in place of one that they bring along.
// Those of Node add to it. Each has been looked up in the program's own documentation.
func trustEnv() []string {
	return []string{
		"SSL_CERT_FILE=" + bundlePath,      // OpenSSL, Go, rustls-native-certs
		"NODE_EXTRA_CA_CERTS=" + ownPath,   // Node, Bun
		"REQUESTS_CA_BUNDLE=" + bundlePath, // Python's requests
		"PIP_CERT=" + bundlePath,
		"CURL_CA_BUNDLE=" + bundlePath,
		"GIT_SSL_CAINFO=" + bundlePath,
		"CARGO_HTTP_CAINFO=" + bundlePath,
		"AWS_CA_BUNDLE=" + bundlePath,
		"CODEX_CA_CERTIFICATE=" + bundlePath,
		"DENO_TLS_CA_STORE=system",
		"UV_NATIVE_TLS=true", // uv: the platform's store, not the built-in one
	}
}

// trust puts the certificates into the system's stores.
func (t tree) trust(certs []byte) error {
	var blocks []*pem.Block
	for rest := certs; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		if b.Type == "CERTIFICATE" {
			blocks = append(blocks, b)
		}
	}
	if len(blocks) == 0 {
		return errors.New("the proxy's certificate is no PEM")
	}
	bundle, err := t.read(bundlePath[1:])
	if err != nil {
		return err
	}
	var own bytes.Buffer
	for _, b := range blocks {
		cert, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return fmt.Errorf("the proxy's certificate: %w", err)
		}
		one := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.Bytes})
		own.Write(one)
		if !bytes.Contains(bundle, one) {
			if len(bundle) > 0 && bundle[len(bundle)-1] != '\n' {
				bundle = append(bundle, '\n')
			}
			bundle = append(bundle, one...)
		}
		if err := t.trustByHash(cert, one); err != nil {
			return fmt.Errorf("the proxy's certificate: %w", err)
		}
	}
	return errors.Join(t.write(bundlePath[1:], bundle, 0o644), t.write(ownPath[1:], own.Bytes(), 0o644))
}

// trustByHash puts a certificate where OpenSSL looks for it in a folder: by the hash of its subject, and a number without gaps from 0,
// since different certificates may have the same hash.
func (t tree) trustByHash(cert *x509.Certificate, one []byte) error {
	hash, err := subjectHash(cert)
	if err != nil {
		return err
	}
	for i := range 100 {
		name := fmt.Sprintf("etc/ssl/certs/%08x.%d", hash, i)
		there, err := t.read(name)
		if err != nil {
			return err
		}
		if bytes.Equal(there, one) {
			return nil
		}
		if there == nil {
			return t.write(name, one, 0o644)
		}
	}
	return errors.New("too many certificates of the same subject")
}

// environmentFiles sets the trust variables for what does not inherit them: login shells, and PAM's services (sudo, cron).
func (t tree) environmentFiles() error {
	old, err := t.read("etc/environment")
	if err != nil {
		return err
	}
	var env, profile strings.Builder
	vars := trustEnv()
	for line := range strings.Lines(string(old)) {
		name, _, _ := strings.Cut(line, "=")
		if lookEnv(vars, name) == "" && strings.TrimSpace(line) != "" {
			env.WriteString(strings.TrimRight(line, "\n") + "\n")
		}
	}
	profile.WriteString("# Debian's /etc/profile sets a PATH of its own.\nexport PATH=\"$HOME/.local/bin:" + searchPath + "\"\n")
	for _, kv := range vars {
		name, value, _ := strings.Cut(kv, "=")
		env.WriteString(kv + "\n")
		fmt.Fprintf(&profile, "export %s=%s\n", name, value)
	}
	return errors.Join(t.write("etc/environment", []byte(env.String()), 0o644), t.write("etc/profile.d/capsid.sh", []byte(profile.String()), 0o644))
}

// subjectHash is X509_subject_name_hash of OpenSSL since 1.0.0: the first four bytes, little-endian, of the SHA-1 of the
// subject in a canonical form: UTF-8, lower case, white space trimmed and collapsed, without the outer SEQUENCE's header.
func subjectHash(cert *x509.Certificate) (uint32, error) {
	var rdns pkix.RDNSequence
	if _, err := asn1.Unmarshal(cert.RawSubject, &rdns); err != nil {
		return 0, err
	}
	h := sha1.New()
	for _, set := range rdns {
		var canonical []canonicalAttribute
		for _, a := range set {
			s, ok := a.Value.(string)
			if !ok {
				return 0, fmt.Errorf("subject: %v is no text", a.Type)
			}
			canonical = append(canonical, canonicalAttribute{a.Type, canonicalText(s)})
		}
		der, err := asn1.MarshalWithParams(canonical, "set")
		if err != nil {
			return 0, err
		}
		h.Write(der)
	}
	return binary.LittleEndian.Uint32(h.Sum(nil)), nil
}

// canonicalText is lower case in ASCII alone, as asn1_string_canon makes it.
func canonicalText(s string) string {
	lower := strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
	return strings.Join(strings.FieldsFunc(lower, func(r rune) bool { return r == ' ' || r >= '\t' && r <= '\r' }), " ")
}

type canonicalAttribute struct {
	Type  asn1.ObjectIdentifier
	Value string `asn1:"utf8"`
}
