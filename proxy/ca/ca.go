// Package ca is the certificate authority of one install: the proxy ends the guest's TLS connections with certificates that it signs.
//
// The authority is made on first use in a folder of its own (0700). Its key (ca.key, 0600) never leaves the host; its
// certificate (ca.crt) is put into the trust stores of guests, and of nothing else. Every install has its own key, so a guest of one
// host trusts nothing of another. Opening is refused when someone else could read the key.
package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/sys/unix"
)

const (
	keyFile  = "ca.key"
	certFile = "ca.crt"
	lockFile = "lock"

	// lifetime of an authority. Nothing renews it: a machine's trust stores hold the old certificate.
	lifetime = 10 * 365 * 24 * time.Hour

	maxFile = 64 << 10
)

// Authority signs leaf certificates. Its methods may be called at the same time.
type Authority struct {
	cert    *x509.Certificate
	certPEM []byte
	key     *ecdsa.PrivateKey
	leafKey *ecdsa.PrivateKey // one for all leaves of this process: making keys is the slow part

	cache  leafCache
	flight singleflight.Group
	now    func() time.Time
}

// Open reads the authority in dir, and makes it first when there is none. Two processes that do so at the same time get the same one.
func Open(dir string) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	if err := checkPrivate(dir, true); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	defer lock.Close() // which gives the lock up
	for {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return nil, fmt.Errorf("certificate authority: lock %s: %w", lock.Name(), err)
		}
	}
	// The key is written last, so an authority without one was never used.
	if _, err := os.Lstat(filepath.Join(dir, keyFile)); errors.Is(err, fs.ErrNotExist) {
		if err := create(dir); err != nil {
			return nil, fmt.Errorf("certificate authority: make %s: %w", dir, err)
		}
	}
	return load(dir)
}

// CertPEM is the authority's certificate, for trust stores.
func (a *Authority) CertPEM() []byte { return append([]byte(nil), a.certPEM...) }

// Certificate is the same, parsed.
func (a *Authority) Certificate() *x509.Certificate { return a.cert }

// checkPrivate refuses a file or folder that belongs to someone else or that others can open.
func checkPrivate(path string, dir bool) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return fmt.Errorf("certificate authority: %s: %w", path, err)
	}
	want, mode := uint32(unix.S_IFREG), "600"
	if dir {
		want, mode = unix.S_IFDIR, "700"
	}
	switch {
	case st.Mode&unix.S_IFMT != want:
		return fmt.Errorf("certificate authority: %s is not what it should be (mode %o): move it away", path, st.Mode)
	case int(st.Uid) != os.Geteuid():
		return fmt.Errorf("certificate authority: %s belongs to user %d, not to you (%d): move it away, or chown it if you trust who wrote it", path, st.Uid, os.Geteuid())
	case st.Mode&0o077 != 0:
		return fmt.Errorf("certificate authority: %s can be opened by others (mode %03o): chmod %s %s, or delete its folder to get a new authority if someone may have read the key", path, st.Mode&0o777, mode, path)
	}
	return nil
}

func load(dir string) (*Authority, error) {
	key := filepath.Join(dir, keyFile)
	if err := checkPrivate(key, false); err != nil {
		return nil, err
	}
	broken := func(file string, err error) error {
		return fmt.Errorf("certificate authority: %s: %w (delete the folder %s to get a new authority; sessions that run now will not trust it)", file, err, dir)
	}
	block, err := readPEM(key, "PRIVATE KEY")
	if err != nil {
		return nil, broken(keyFile, err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, broken(keyFile, err)
	}
	private, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, broken(keyFile, fmt.Errorf("a %T instead of an ECDSA key", parsed))
	}
	block, err = readPEM(filepath.Join(dir, certFile), "CERTIFICATE")
	if err != nil {
		return nil, broken(certFile, err)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, broken(certFile, err)
	}
	if pub, ok := cert.PublicKey.(*ecdsa.PublicKey); !ok || !pub.Equal(&private.PublicKey) {
		return nil, broken(certFile, errors.New("does not belong to the key"))
	}
	if !cert.IsCA {
		return nil, broken(certFile, errors.New("is not an authority's certificate"))
	}
	if now := time.Now(); now.After(cert.NotAfter) || now.Before(cert.NotBefore) {
		return nil, broken(certFile, fmt.Errorf("is valid from %s to %s only", cert.NotBefore.Format(time.DateOnly), cert.NotAfter.Format(time.DateOnly)))
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	return &Authority{
		cert: cert, certPEM: pem.EncodeToMemory(block), key: private, leafKey: leafKey,
		cache: leafCache{limit: maxLeaves}, now: time.Now,
	}, nil
}

func readPEM(path, kind string) (*pem.Block, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("holds no %s", kind)
	}
	return block, nil
}

func create(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := newSerial()
	if err != nil {
		return err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: commonName(serial), Organization: []string{"Capsid"}},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(lifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true, // it signs leaves and no other authority
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, certFile), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, keyFile), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600)
}

// writeFile leaves the old state or the whole new file, also after a crash.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// newSerial: at least 64 bits of randomness, positive, at most 20 bytes (RFC 5280 §4.1.2.2).
func newSerial() (*big.Int, error) {
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		return nil, err
	}
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b), nil
}

// commonName tells a person who looks through a trust store whose authority it is. X.520 allows 64 characters.
func commonName(serial *big.Int) string {
	host, err := os.Hostname()
	if err != nil {
		host = "host"
	}
	host = strings.Map(func(r rune) rune {
		if r > ' ' && r < 0x7f {
			return r
		}
		return -1
	}, host)
	if len(host) > 40 {
		host = host[:40]
	}
	return "Capsid " + host + " " + hex.EncodeToString(serial.Bytes()[:4])
}
