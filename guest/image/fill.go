package image

import (
	"context"
	"fmt"
	"path"
	"path/filepath"
	"strings"
)

// fillTree unpacks everything: kernel/ and root/ below the tree.
func fillTree(ctx context.Context, t *tree, p *plan, base string, tarballs []string, work string, report func(Step)) error {
	step := func(detail string) { report(Step{Name: stepUnpack, Done: t.size, Bytes: true, Detail: detail}) }
	step(p.distribution.Name + " " + p.distribution.Codename)
	if err := t.unpackZstd(ctx, base, placeBase); err != nil {
		return err
	}
	for i, pkg := range p.packages {
		step(pkg.Name)
		if err := t.unpackGzip(ctx, tarballs[i], func(name string) string {
			parts := strings.Split(name, "/")
			// The first folder is "package", whatever the package.
			if len(parts) <= 1+pkg.Strip {
				return ""
			}
			inside := strings.Join(parts[1+pkg.Strip:], "/")
			if !pkg.wants(inside) {
				return ""
			}
			return "root" + path.Join(pkg.Into, inside)
		}); err != nil {
			return fmt.Errorf("%s: %w", pkg.Name, err)
		}
		if pkg.Reach != "" {
			if err := dropUnreached(filepath.Join(work, "root", pkg.Into, pkg.Reach)); err != nil {
				return fmt.Errorf("%s: %w", pkg.Name, err)
			}
		}
		for at, target := range pkg.Links {
			if !path.IsAbs(target) {
				target = path.Join(pkg.Into, target)
				// npm marks the programs that a package names as executable when it installs it; the tarball may not.
				if err := t.root.Chmod("root"+target, 0o755); err != nil {
					return fmt.Errorf("%s: %w", pkg.Name, err)
				}
			}
			if err := t.link("root"+at, target); err != nil {
				return fmt.Errorf("%s: %w", pkg.Name, err)
			}
		}
	}
	return ownFiles(t, p)
}

// ownFiles adds what is ours: neutral names for what mmdebstrap copied from the host, the sources of apt, and what the image is made of.
func ownFiles(t *tree, p *plan) error {
	sources, err := p.distribution.lines(func(string) (string, error) { return "", nil })
	if err != nil {
		return err
	}
	var versions strings.Builder
	for _, pkg := range p.packages {
		fmt.Fprintf(&versions, "%s=%s\n", pkg.Name, pkg.version())
	}
	for _, f := range []struct{ name, data string }{
		{"etc/apt/sources.list", strings.Join(sources, "\n") + "\n"},
		{"etc/apt/apt.conf.d/90capsid", "APT::Install-Recommends \"false\";\nAcquire::Languages \"none\";\n"},
		{"etc/hostname", "capsid\n"},
		{"etc/hosts", "127.0.0.1 localhost capsid\n::1 localhost ip6-localhost ip6-loopback\n"},
		{"etc/machine-id", ""},
		{"etc/default/locale", "LANG=C.UTF-8\n"},
		{"etc/capsid/versions", versions.String()},
	} {
		if err := t.write("root/"+f.name, 0o644, f.data); err != nil {
			return err
		}
	}
	for _, dir := range []string{"dev", "proc", "sys", "run", "tmp", "home", "mnt", "etc/capsid"} {
		if err := t.root.MkdirAll("root/"+dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}
