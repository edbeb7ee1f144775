package ca

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func open(t *testing.T) *Authority {
	t.Helper()
	a, err := Open(filepath.Join(t.TempDir(), "ca"))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestOpenMakesAndFinds(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "ca")
	a, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !a.cert.Equal(b.cert) || !a.key.Equal(b.key) {
		t.Fatal("the second Open found another authority")
	}
	for name, mode := range map[string]fs.FileMode{"": 0o700 | fs.ModeDir, keyFile: 0o600, certFile: 0o644} {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode() != mode {
			t.Errorf("%q has mode %v, want %v", name, st.Mode(), mode)
		}
	}
	c := a.Certificate()
	if !strings.HasPrefix(c.Subject.CommonName, "Capsid ") || len(c.Subject.CommonName) > 64 {
		t.Errorf("common name %q", c.Subject.CommonName)
	}
	if !c.IsCA || !c.MaxPathLenZero || c.KeyUsage&x509.KeyUsageCertSign == 0 || len(c.SubjectKeyId) == 0 {
		t.Error("not a proper authority's certificate")
	}
	if years := c.NotAfter.Sub(c.NotBefore).Hours() / 24 / 365; years < 9.9 || years > 10.1 {
		t.Errorf("valid for %.1f years", years)
	}
	if other := open(t); other.cert.Equal(a.cert) || other.key.Equal(a.key) {
		t.Error("two installs share an authority")
	}
}

func TestFirstStartsAgree(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	var wg sync.WaitGroup
	got := make([]string, 8)
	for i := range got {
		wg.Go(func() {
			a, err := Open(dir)
			if err != nil {
				t.Error(err)
				return
			}
			got[i] = string(a.CertPEM())
		})
	}
	wg.Wait()
	for _, g := range got {
		if g != got[0] {
			t.Fatal("two first starts made two authorities")
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left over: %v %v", left, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(dir string) error
		want  string
	}{
		"folder open to others": {func(d string) error { return os.Chmod(d, 0o755) }, "chmod 700"},
		"key readable":          {func(d string) error { return os.Chmod(filepath.Join(d, keyFile), 0o640) }, "chmod 600"},
		"key is a link": {func(d string) error {
			k := filepath.Join(d, keyFile)
			if err := os.Rename(k, k+".real"); err != nil {
				return err
			}
			return os.Symlink(k+".real", k)
		}, "not what it should be"},
		"key is rubbish":   {func(d string) error { return os.WriteFile(filepath.Join(d, keyFile), []byte("x"), 0o600) }, "holds no PRIVATE KEY"},
		"certificate gone": {func(d string) error { return os.Remove(filepath.Join(d, certFile)) }, "new authority"},
		"certificate of another": {func(d string) error {
			other := filepath.Join(filepath.Dir(d), "other")
			if _, err := Open(other); err != nil {
				return err
			}
			return os.Rename(filepath.Join(other, certFile), filepath.Join(d, certFile))
		}, "does not belong"},
		"someone else's": {func(d string) error { return os.Chown(filepath.Join(d, keyFile), 12345, -1) }, "belongs to user 12345"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "ca")
			if _, err := Open(dir); err != nil {
				t.Fatal(err)
			}
			if err := c.spoil(dir); err != nil {
				if os.Geteuid() != 0 && strings.Contains(name, "someone") {
					t.Skip("only root can give files away")
				}
				t.Fatal(err)
			}
			_, err := Open(dir)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
				t.Fatalf("got %v, want %q and the path", err, c.want)
			}
		})
	}
}

func TestKeyMissingMakesAnew(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	a, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, keyFile)); err != nil { // as after a crash between the two files
		t.Fatal(err)
	}
	b, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert.Equal(b.cert) {
		t.Error("a certificate without its key was kept")
	}
}

func TestLeafVerifies(t *testing.T) {
	a := open(t)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(a.CertPEM()) {
		t.Fatal("CertPEM")
	}
	long := strings.Repeat("a", 60) + "." + strings.Repeat("b", 60) + ".example.com"
	for _, host := range []string{"example.com", "xn--bcher-kva.example", long, "192.0.2.1", "2001:db8::1", "a_b.example.com"} {
		cert, err := a.Leaf(host)
		if err != nil {
			t.Fatal(err)
		}
		client, server := net.Pipe()
		done := make(chan error, 1)
		go func() {
			done <- tls.Server(server, &tls.Config{Certificates: []tls.Certificate{*cert}}).Handshake()
		}()
		if err := tls.Client(client, &tls.Config{RootCAs: pool, ServerName: host}).Handshake(); err != nil {
			t.Errorf("%s: %v", host, err)
		}
		client.Close()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", host, err)
		}
		l := cert.Leaf
		if l.NotAfter.Sub(l.NotBefore) != 24*time.Hour || time.Since(l.NotBefore) < 50*time.Minute || len(l.AuthorityKeyId) == 0 || len(l.Subject.CommonName) > 64 {
			t.Errorf("%s: %v to %v, CN %q", host, l.NotBefore, l.NotAfter, l.Subject.CommonName)
		}
		if _, err := l.Verify(x509.VerifyOptions{Roots: pool, DNSName: "other.example"}); err == nil {
			t.Errorf("%s: passes for another name", host)
		}
	}
	for _, bad := range []string{"", "*.example.com", "a b", strings.Repeat("a.", 200)} {
		if _, err := a.Leaf(bad); err == nil {
			t.Errorf("signed %.20q", bad)
		}
	}
}

func TestLeafCacheIsBoundedAndShared(t *testing.T) {
	a := open(t)
	a.cache.limit = 16
	first, err := a.Leaf("keep.example")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			if _, err := a.Leaf(fmt.Sprintf("h%d.example", i%40)); err != nil {
				t.Error(err)
			}
			if c, err := a.Leaf("keep.example"); err != nil || c == nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := a.cache.order.Len(); n > 16 || n != len(a.cache.byKey) {
		t.Errorf("%d leaves kept, %d in the index", n, len(a.cache.byKey))
	}
	again, err := a.Leaf("keep.example")
	if err != nil || again.Leaf.SerialNumber.Cmp(first.Leaf.SerialNumber) != 0 {
		t.Errorf("the leaf in use was dropped (%v)", err)
	}
	later := time.Now().Add(20 * time.Hour)
	a.now = func() time.Time { return later }
	again, err = a.Leaf("keep.example")
	if err != nil || again.Leaf.SerialNumber.Cmp(first.Leaf.SerialNumber) == 0 {
		t.Errorf("a leaf near its end was served again (%v)", err)
	}
}
