package image

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// basePackages is what the root file system has of the distribution: what coding agents reach for, and what the guest agent needs to make a user.
// kmod is for depmod, which indexes the kernel's modules while the image is built.
func basePackages() []string {
	return []string{
		"bash", "bash-completion", "bzip2", "ca-certificates", "curl", "diffutils", "file", "findutils", "g++", "gcc", "git", "iproute2", "jq", "kmod", "less",
		"libatomic1", "libc6-dev", "make", "nano", "netbase", "openssh-client", "patch", "pkg-config", "procps", "psmisc", "python3", "python3-pip", "python3-venv",
		"ripgrep", "rsync", "sudo", "tree", "tzdata", "unzip", "vim-tiny", "wget", "xz-utils", "zip", "zstd",
	}
}

// kernelDir is where the kernel's packages are unpacked in the tree that mmdebstrap makes. They are not installed: their scripts would build
// an initramfs of the distribution's own.
const kernelDir = "capsid-kernel"

// kernelHook runs outside the new root, which is its first argument, with apt's configuration for that root. It follows the package that
// names the current kernel to those that hold it (Debian has one, Ubuntu keeps the modules apart).
const kernelHook = `set -eu
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
mkdir "$1/` + kernelDir + `"
cd "$1/` + kernelDir + `"
apt-get download $(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances "$2" |
	sed -n '/^linux-\(image\|modules\)-[0-9][^ ]*$/p' | sort -u)
for deb in *.deb; do dpkg-deb --fsys-tarfile "$deb" | tar -x -f -; rm "$deb"; done
[ -d lib/modules ] || ln -s usr/lib lib
for dir in lib/modules/*; do chroot "$1" depmod -b "/` + kernelDir + `" "${dir##*/}"; done
`

// fetchBase makes the distribution's part of the root, as a compressed tar. It is the same whether it runs as root or, through user namespaces, as
// an ordinary user.
func fetchBase(ctx context.Context, d *distribution, arch, scratch, out string, log io.Writer, report func(Step)) error {
	lines, err := d.lines(func(signedBy string) (string, error) { return keyringFile(d.Name, signedBy, scratch) })
	if err != nil {
		return err
	}
	args := []string{"--variant=minbase", "--format=tar", "--verbose", "--architectures=" + arch, "--include=" + strings.Join(basePackages(), ","),
		"--aptopt=APT::Install-Recommends \"false\"", "--aptopt=Acquire::Languages \"none\"", "--dpkgopt=force-unsafe-io"}
	for _, o := range hostAptOptions(ctx) {
		args = append(args, "--aptopt="+o)
	}
	for _, dir := range unusedDirs() {
		args = append(args, "--dpkgopt=path-exclude="+dir+"/*")
	}
	// mmdebstrap runs hooks by "sh -c" with the root as first argument.
	args = append(args, "--customize-hook=sh -c '"+strings.ReplaceAll(kernelHook, "'", `'"'"'`)+"' kernel \"$1\" "+d.Kernel, d.Codename, "-")
	cmd := exec.Command("mmdebstrap", append(args, lines...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TMPDIR="+scratch)
	cmd.Dir = scratch

	f, err := os.OpenFile(out, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := zstd.NewWriter(f, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(2))
	if err != nil {
		return err
	}
	cmd.Stdout = z
	count := packageCounter{report: report}
	if err := run(ctx, cmd, io.MultiWriter(log, &lineWriter{line: count.line})); err != nil {
		return fmt.Errorf("root file system: %w", err)
	}
	if err := z.Close(); err != nil {
		return err
	}
	return f.Sync()
}

// packageCounter makes progress of what apt and dpkg say: each package is fetched and set up. How many there are is known only when apt has
// decided, in two rounds; until then the usual number stands.
type packageCounter struct {
	report      func(Step)
	done, total int64
}

var newlyInstalled = regexp.MustCompile(`^\d+ upgraded, (\d+) newly installed`)

func (p *packageCounter) line(l string) {
	const usual = 2 * 190
	if m := newlyInstalled.FindStringSubmatch(l); m != nil {
		n, _ := strconv.ParseInt(m[1], 10, 64)
		p.total += 2 * n
	}
	setup, isSetup := strings.CutPrefix(l, "Setting up ")
	if !isSetup && !strings.HasPrefix(l, "Get:") {
		return
	}
	p.done++
	detail := "downloading"
	if isSetup {
		detail, _, _ = strings.Cut(setup, " ")
	}
	p.report(Step{Name: stepBase, Done: p.done, Total: max(p.total, usual, p.done), Detail: detail})
}

// hostAptOptions is how the host's apt reaches its mirrors: proxies, certificates, retries, credentials. Its sources are read apart.
func hostAptOptions(ctx context.Context) []string {
	out, err := exec.CommandContext(ctx, "apt-config", "dump").Output()
	if err != nil {
		return nil // apt's defaults hold
	}
	var kept []string
	for sc := bufio.NewScanner(strings.NewReader(string(out))); sc.Scan(); {
		line := strings.TrimSuffix(strings.TrimSpace(sc.Text()), ";")
		key, value, ok := strings.Cut(line, " ")
		if !ok || value == `""` {
			continue
		}
		for _, prefix := range []string{"acquire::http::", "acquire::https::", "acquire::retries", "acquire::check-", "acquire::max-validtime", "acquire::forceipv"} {
			if strings.HasPrefix(strings.ToLower(key), prefix) {
				kept = append(kept, line)
			}
		}
	}
	for option, name := range map[string]string{"Dir::Etc::netrc": "/etc/apt/auth.conf", "Dir::Etc::netrcparts": "/etc/apt/auth.conf.d"} {
		if _, err := os.Stat(name); err == nil {
			kept = append(kept, option+` "`+name+`"`)
		}
	}
	return kept
}

// keyringFile is a keyring file for what a source is signed by. The distribution's own keyring, where it is installed, knows the keys of all
// releases; that of one release would not know the one that is built.
func keyringFile(distribution, signedBy, scratch string) (string, error) {
	own := ""
	for _, name := range []string{distribution + "-archive-keyring.gpg", distribution + "-archive-keyring.pgp"} {
		if file := filepath.Join("/usr/share/keyrings", name); own == "" {
			if _, err := os.Stat(file); err == nil {
				own = file
			}
		}
	}
	switch {
	case strings.Contains(signedBy, "BEGIN PGP"):
		if own != "" {
			return own, nil
		}
		f, err := os.CreateTemp(scratch, "key-*.asc")
		if err != nil {
			return "", err
		}
		defer f.Close()
		if err := f.Chmod(0o644); err != nil {
			return "", err
		}
		_, err = io.WriteString(f, signedBy+"\n")
		return f.Name(), err
	case signedBy == "" || strings.Contains(filepath.Base(signedBy), distribution+"-archive"):
		if own != "" {
			return own, nil
		}
		return signedBy, nil
	case filepath.IsAbs(signedBy):
		return signedBy, nil
	}
	return own, nil // a fingerprint
}
