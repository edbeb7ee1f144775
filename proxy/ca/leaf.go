package ca

import (
	"container/list"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"
)

const (
	leafLifetime = 24 * time.Hour
	backdate     = time.Hour     // for a guest whose clock is behind
	renewBefore  = 6 * time.Hour // a cached leaf with less left than this is replaced
	maxLeaves    = 4096          // about 3 KB each
)

// Leaf returns a certificate for a host name or an IP literal, both in the form of policy.Canonical: from the cache, or signed now.
func (a *Authority) Leaf(host string) (*tls.Certificate, error) {
	if c := a.cache.get(host, a.now()); c != nil {
		return c, nil
	}
	v, err, _ := a.flight.Do(host, func() (any, error) {
		c, err := a.sign(host)
		if err == nil {
			a.cache.put(host, c)
		}
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("certificate for %.80q: %w", host, err)
	}
	return v.(*tls.Certificate), nil
}

func (a *Authority) sign(host string) (*tls.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	start := a.now().Add(-backdate)
	template := &x509.Certificate{
		SerialNumber:          serial,
		NotBefore:             start,
		NotAfter:              start.Add(leafLifetime),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		template.IPAddresses = append(template.IPAddresses, addr.Unmap().AsSlice())
	} else if host == "" || len(host) > 253 || strings.ContainsAny(host, "* ") {
		return nil, errors.New("not a host")
	} else {
		template.DNSNames = []string{host}
	}
	// X.520 allows 64 characters in a common name. A longer name stands in the SAN alone; RFC 5280 §4.2.1.6 then wants the
	// SAN critical where the subject is empty, which crypto/x509 does.
	if len(host) <= 64 {
		template.Subject = pkix.Name{CommonName: host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &a.leafKey.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.leafKey, Leaf: leaf}, nil
}

// leafCache keeps the leaves that were used last.
type leafCache struct {
	limit int

	mu    sync.Mutex
	order list.List // of *cachedLeaf, newest first
	byKey map[string]*list.Element
}

type cachedLeaf struct {
	host string
	cert *tls.Certificate
}

func (c *leafCache) get(host string, now time.Time) *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byKey[host]
	if e == nil {
		return nil
	}
	cert := e.Value.(*cachedLeaf).cert
	if cert.Leaf.NotAfter.Sub(now) < renewBefore || now.Before(cert.Leaf.NotBefore) {
		return nil
	}
	c.order.MoveToFront(e)
	return cert
}

func (c *leafCache) put(host string, cert *tls.Certificate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byKey == nil {
		c.byKey = map[string]*list.Element{}
	}
	if e := c.byKey[host]; e != nil {
		e.Value.(*cachedLeaf).cert = cert
		c.order.MoveToFront(e)
		return
	}
	c.byKey[host] = c.order.PushFront(&cachedLeaf{host, cert})
	for c.order.Len() > c.limit {
		last := c.order.Back()
		delete(c.byKey, last.Value.(*cachedLeaf).host)
		c.order.Remove(last)
	}
}
