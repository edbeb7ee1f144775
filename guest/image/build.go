package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"
)

// BuildOptions says what to build from and where. The zero value is the ordinary build.
type BuildOptions struct {
	Root     string     // the folder of images; empty: DefaultRoot
	Cache    string     // what an interrupted build leaves for the next; empty: $XDG_CACHE_HOME/capsid
	Agent    string     // the guest agent's program, static; empty: capsid-agent beside this program
	Refresh  bool       // fetch packages anew even if an image of the same inputs is there: brings the distribution's updates in
	NoWait   bool       // ErrBuilding instead of waiting while another build runs
	Progress func(Step) // may be nil; calls do not overlap
	Log      io.Writer  // what the tools say; nil: nowhere
}

// Step is the progress of one step of a build. Steps overlap. Total is 0 while it is not known; a step is over when Done reaches Total.
type Step struct {
	Name   string
	Done   int64
	Total  int64
	Bytes  bool   // Done and Total count bytes, not things
	Detail string // what it is at
}

// The steps, in the order in which they begin.
const (
	stepWait   = "waiting for another build"
	stepBase   = "distribution packages"
	stepNPM    = "agents from npm"
	stepUnpack = "root file system"
	stepErofs  = "compressing"
	stepInitrd = "initramfs"
	stepDigest = "digests"
)

// Build makes an image, or returns the one that has the same inputs. ctx ends it at any time, with its tools; nothing half-made is left
// among the images, and what was fetched whole is used by the next build.
func Build(ctx context.Context, opts BuildOptions) (*Image, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	return (&builder{BuildOptions: opts, parts: hostParts{root: "/", arch: debianArch()}}).build(ctx)
}

func (o BuildOptions) withDefaults() (BuildOptions, error) {
	var err error
	if o.Root == "" {
		if o.Root, err = DefaultRoot(); err != nil {
			return o, err
		}
	}
	if o.Cache == "" {
		if o.Cache, err = xdg("XDG_CACHE_HOME", ".cache"); err != nil {
			return o, err
		}
	}
	if o.Agent == "" {
		self, err := os.Executable()
		if err != nil {
			return o, fmt.Errorf("image build: %w", err)
		}
		o.Agent = filepath.Join(filepath.Dir(self), "capsid-agent")
	}
	if o.Log == nil {
		o.Log = io.Discard
	}
	o.Log = &lockedWriter{w: o.Log}
	report := o.Progress
	var mu sync.Mutex
	o.Progress = func(s Step) {
		if report != nil {
			mu.Lock()
			defer mu.Unlock()
			report(s)
		}
	}
	return o, nil
}

// debianArch is Debian's name of the architecture that this program was built for.
func debianArch() string { return runtime.GOARCH } // amd64 and arm64 have the same in both

// parts makes the pieces of an image. The build proper knows only how to put them together, safely.
type parts interface {
	// plan reads what the root would be made from.
	plan() (*plan, error)
	// makeRoot leaves packedFile, modulesFile and rootFile in dir, and returns the kernel's release.
	makeRoot(ctx context.Context, p *plan, dir string, o BuildOptions) (kernel string, err error)
}

// plan is what a root is made from, before anything is fetched.
type plan struct {
	digest       string // of all that follows
	arch         string
	distribution *distribution
	packages     []Package
}

type builder struct {
	BuildOptions
	parts parts
}

func (b *builder) build(ctx context.Context) (*Image, error) {
	agent, err := readAgent(b.Agent)
	if err != nil {
		return nil, err
	}
	p, err := b.parts.plan()
	if err != nil {
		return nil, fmt.Errorf("image build: %w", err)
	}
	for _, dir := range []string{b.Cache, b.Root} {
		release, err := lockFolder(ctx, dir, !b.NoWait, func() { b.Progress(Step{Name: stepWait}) })
		if err != nil {
			return nil, fmt.Errorf("image build: %w", err)
		}
		defer release()
		if err := sweep(dir); err != nil {
			return nil, fmt.Errorf("image build: clean up: %w", err)
		}
	}
	inputs := Inputs{Root: p.digest, Agent: agent.sum}
	old, whole := b.reusable(ctx, inputs)
	if whole {
		return old, nil
	}
	dir, err := os.MkdirTemp(b.Root, scratchPrefix)
	if err != nil {
		return nil, fmt.Errorf("image build: %w", err)
	}
	img, err := b.assemble(ctx, p, inputs, agent, old, dir)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("image build: %w", err), removeTree(dir))
	}
	return img, nil
}

// reusable finds the newest whole image with the same root, and says whether it is just what is wanted: with the same agent, and, unlike those of
// older builds, an unpacked kernel.
func (b *builder) reusable(ctx context.Context, want Inputs) (old *Image, whole bool) {
	if b.Refresh {
		return nil, false
	}
	images, _, err := List(b.Root)
	if err != nil {
		return nil, false // the build will meet the same trouble, and say so
	}
	for _, img := range images {
		if img.Manifest.Inputs.Root != want.Root || img.Verify(ctx, nil) != nil {
			continue
		}
		if _, unpacked := img.Manifest.Files[kernelFile]; unpacked && img.Manifest.Inputs == want {
			return img, true
		}
		if old == nil {
			old = img
		}
	}
	return old, false
}

// assemble makes a whole image in dir, a folder of its own, and gives it its name.
func (b *builder) assemble(ctx context.Context, p *plan, inputs Inputs, agent *agentProgram, old *Image, dir string) (*Image, error) {
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	m := Manifest{Created: time.Now().UTC(), Arch: p.arch, Inputs: inputs, Versions: map[string]string{}, Files: map[string]File{}}
	m.Release = p.distribution.Name + " " + p.distribution.Codename
	for _, pkg := range p.packages {
		m.Versions[pkg.Name] = pkg.version()
	}
	if old != nil {
		m.Kernel = old.Manifest.Kernel
		for _, name := range []string{packedFile, kernelFile, modulesFile, rootFile} {
			if _, ok := old.Manifest.Files[name]; !ok {
				continue
			}
			if err := linkOrCopy(filepath.Join(old.Dir, name), filepath.Join(dir, name)); err != nil {
				return nil, err
			}
			m.Files[name] = old.Manifest.Files[name]
		}
	} else {
		var err error
		if m.Kernel, err = b.parts.makeRoot(ctx, p, dir, b.BuildOptions); err != nil {
			return nil, err
		}
	}
	if _, ok := m.Files[kernelFile]; !ok {
		if err := makeKernel(dir); err != nil {
			return nil, fmt.Errorf("unpack kernel: %w", err)
		}
	}
	b.Progress(Step{Name: stepInitrd, Total: 1})
	if err := writeInitrd(dir, agent); err != nil {
		return nil, fmt.Errorf("initramfs: %w", err)
	}
	b.Progress(Step{Name: stepInitrd, Done: 1, Total: 1})
	if err := b.digests(ctx, dir, &m); err != nil {
		return nil, err
	}
	if err := m.write(filepath.Join(dir, manifestFile)); err != nil {
		return nil, err
	}
	return b.publish(ctx, dir, &m)
}

// digests fills in the digests that are not known yet, and waits until the files are on the disk.
func (b *builder) digests(ctx context.Context, dir string, m *Manifest) error {
	var done, total int64
	var todo []string
	for _, name := range []string{packedFile, kernelFile, modulesFile, initrdFile, rootFile} {
		if _, ok := m.Files[name]; ok {
			continue
		}
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		total += info.Size()
		todo = append(todo, name)
	}
	for _, name := range todo {
		file := filepath.Join(dir, name)
		if err := syncPath(file); err != nil {
			return err
		}
		f, err := hashFile(ctx, file, func(n int64) {
			done += n
			b.Progress(Step{Name: stepDigest, Done: done, Total: total, Bytes: true, Detail: name})
		})
		if err != nil {
			return err
		}
		m.Files[name] = f
	}
	return nil
}

// publish renames dir to its digest. An image of the same files may be there already; it is then the newest again.
func (b *builder) publish(ctx context.Context, dir string, m *Manifest) (*Image, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	final := filepath.Join(b.Root, m.digest())
	if _, err := os.Lstat(final); err == nil {
		if same, err := Open(final); err == nil && same.Verify(ctx, nil) == nil {
			// Only the description may differ, such as the time; it is put in place whole.
			if err := os.Rename(filepath.Join(dir, manifestFile), filepath.Join(final, manifestFile)); err != nil {
				return nil, err
			}
			if err := errors.Join(syncPath(final), removeTree(dir)); err != nil {
				return nil, err
			}
			return Open(final)
		}
		if err := os.Rename(final, filepath.Join(b.Root, scratchPrefix+"broken-"+m.digest()[:12])); err != nil {
			return nil, err
		}
	}
	if err := syncPath(dir); err != nil {
		return nil, err
	}
	if err := os.Rename(dir, final); err != nil {
		return nil, err
	}
	if err := syncPath(b.Root); err != nil {
		return nil, err
	}
	if err := sweep(b.Root); err != nil { // the broken one, when there was one
		return nil, err
	}
	return Open(final)
}

// lockedWriter lets several tools write to one log. A log that cannot be written is no reason to end a build: the tool would be cut off.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.w.Write(p)
	return len(p), nil
}
