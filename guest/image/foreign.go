package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// FetchKernel makes, in the folder dir, what a machine of another architecture boots, less the root file system, which only an emulator could make:
//
//	vmlinux      the kernel of the release that images are made of, unpacked
//	initrd.img   the modules that guests load, without an init
//	modules.cpio those that names lists, and all that they need, as WriteModules writes them
//
// dir is empty. It comes from the host's own mirror, which must have that architecture, as Debian's have. Beside apt it takes dpkg-deb, tar and depmod.
func FetchKernel(ctx context.Context, arch, dir string, log io.Writer, names ...string) error {
	d, err := readDistribution("/", arch)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp(dir, scratchPrefix)
	if err != nil {
		return err
	}
	err = fetchKernel(ctx, d, arch, dir, work, log, names)
	if err := errors.Join(err, removeTree(work)); err != nil {
		return fmt.Errorf("kernel for %s: %w", arch, err)
	}
	return nil
}

func fetchKernel(ctx context.Context, d *distribution, arch, dir, work string, log io.Writer, names []string) error {
	config, err := aptFolder(ctx, d, arch, work)
	if err != nil {
		return err
	}
	cmd := exec.Command("sh", "-c", foreignKernel, "kernel", d.Kernel)
	cmd.Dir = work
	cmd.Env = append(os.Environ(), "APT_CONFIG="+config, "LC_ALL=C.UTF-8", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if err := run(ctx, cmd, log); err != nil {
		return err
	}
	kernel := filepath.Join(work, kernelDir)
	release, err := takeKernel(kernel, dir)
	if err != nil {
		return err
	}
	if err := makeKernel(dir); err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	if err := os.Remove(filepath.Join(dir, packedFile)); err != nil {
		return err
	}
	if err := asInitrd(dir); err != nil {
		return err
	}
	tree, err := openModules(filepath.Join(kernel, "lib", "modules", release))
	if err != nil {
		return err
	}
	var wanted []wantedModule
	for _, name := range names {
		wanted = append(wanted, wantedModule{name: name})
	}
	entries, err := tree.entries(wanted)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(filepath.Join(dir, modulesFile), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(writeArchive(out, entries), out.Close())
}

// asInitrd makes an initramfs of the modules, as writeInitrd does, but without an init.
func asInitrd(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, modulesFile), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(nullDevice())
	return errors.Join(err, f.Close(), os.Rename(filepath.Join(dir, modulesFile), filepath.Join(dir, initrdFile)))
}

// foreignKernel is run by sh in the folder of aptFolder, with the package that names the current kernel as $1. It does as kernelHook does.
const foreignKernel = `set -eu
apt-get -q update
mkdir ` + kernelDir + `
cd ` + kernelDir + `
apt-get -q download $(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances "$1" |
	sed -n '/^linux-\(image\|modules\)-[0-9][^ ]*$/p' | sort -u)
for deb in *.deb; do dpkg-deb --fsys-tarfile "$deb" | tar -x -f -; rm "$deb"; done
[ -d lib/modules ] || ln -s usr/lib lib
for dir in lib/modules/*; do depmod -b . "${dir##*/}"; done
`

// aptFolder makes a folder of apt's own below work, which knows nothing of this host's packages and of its architecture, and returns its configuration.
func aptFolder(ctx context.Context, d *distribution, arch, work string) (config string, err error) {
	lines, err := d.lines(func(signedBy string) (string, error) { return keyringFile(d.Name, signedBy, work) })
	if err != nil {
		return "", err
	}
	dir := filepath.Join(work, "apt")
	for _, name := range []string{"etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/sources.list.d", "var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "var/lib/dpkg"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			return "", err
		}
	}
	options := append([]string{
		fmt.Sprintf("Dir %q", dir+"/"), fmt.Sprintf("Dir::State::status %q", filepath.Join(dir, "var/lib/dpkg/status")),
		fmt.Sprintf("APT::Architecture %q", arch), fmt.Sprintf("APT::Architectures { %q; }", arch),
		`APT::Sandbox::User ""`, `Acquire::Languages "none"`,
	}, hostAptOptions(ctx)...)
	config = filepath.Join(dir, "apt.conf")
	err = errors.Join(
		os.WriteFile(filepath.Join(dir, "var/lib/dpkg/status"), nil, 0o644),
		os.WriteFile(filepath.Join(dir, "etc/apt/sources.list"), []byte(strings.Join(lines, "\n")+"\n"), 0o644),
		os.WriteFile(config, []byte(strings.Join(options, ";\n")+";\n"), 0o644))
	return config, err
}
