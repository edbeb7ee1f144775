package main

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"capsid/app/session"
)

func (c *cli) cpCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "cp SRC DST",
		Short: "Copy files and folders into a session or out of it",
		Long: `cp copies files, and folders with all that is in them. One of SRC and DST is ID:PATH; a PATH that is not absolute begins in the user's
home folder there. A DST that is a folder gets SRC into it. Nothing is written outside DST, whatever names the machine uses.`,
		Example: "  capsid cp notes.txt claude-1:\n  capsid cp claude-1:build/out ./out",
		Args:    exactly(2, "a source and a destination, one of them ID:PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			from, fromGuest := splitRemote(args[0])
			to, toGuest := splitRemote(args[1])
			switch {
			case fromGuest == toGuest:
				return usageError{"one of source and destination is ID:PATH, and the other a path of this computer", cmd}
			case fromGuest:
				return c.copyOut(cmd.Context(), from, args[1])
			}
			return c.copyIn(cmd.Context(), args[0], to)
		},
	}
}

// remote is a path in a session.
type remote struct{ key, path string }

// splitRemote reads ID:PATH. As with scp, a path of this computer with a colon in it is written with a slash before that.
func splitRemote(s string) (remote, bool) {
	key, p, ok := strings.Cut(s, ":")
	if !ok || key == "" || strings.Contains(key, "/") {
		return remote{}, false
	}
	return remote{key, p}, true
}

// copyOut copies from a session to this computer.
func (c *cli) copyOut(ctx context.Context, from remote, to string) error {
	g, _, err := c.guest(ctx, from.key)
	if err != nil {
		return err
	}
	defer g.Close()
	stop := context.AfterFunc(ctx, func() { g.Close() })
	defer stop()
	files, err := g.SFTP()
	if err != nil {
		return err
	}
	defer files.Close()
	src := path.Clean(from.path)
	if from.path == "" {
		src = "."
	}
	info, err := files.Stat(src)
	if err != nil {
		return &session.Error{Message: from.key + ":" + src, Err: err, Hint: "capsid run " + from.key + " -- ls shows what is there"}
	}
	parent, name := filepath.Split(filepath.Clean(to))
	if fi, err := os.Stat(to); err == nil && fi.IsDir() {
		// "." and "/" have no name of their own: what is in them is copied.
		if parent, name = to, path.Base(src); name == "." || name == ".." || name == "/" {
			parent, name = filepath.Split(filepath.Clean(to))
			if name == "." || name == "" {
				parent, name = to, "."
			}
		}
	} else if strings.HasSuffix(to, "/") {
		return &session.Error{Message: "there is no folder " + to, Hint: "mkdir -p " + to}
	}
	if parent == "" {
		parent = "."
	}
	root, err := os.OpenRoot(parent)
	if err != nil {
		return &session.Error{Message: "destination", Err: err, Hint: "check the path"}
	}
	defer root.Close()
	out := &copyOut{ctx: ctx, files: files, root: root, progress: c.copyProgress()}
	err = out.copy(src, name, info, 0)
	out.progress.end()
	for _, s := range out.skipped {
		c.note("left out: %s", plain(s))
	}
	if err != nil {
		return copyFault(ctx, err)
	}
	return nil
}

// copyIn copies from this computer to a session.
func (c *cli) copyIn(ctx context.Context, from string, to remote) error {
	info, err := os.Stat(from)
	if err != nil {
		return &session.Error{Message: "source", Err: err, Hint: "check the path"}
	}
	g, _, err := c.guest(ctx, to.key)
	if err != nil {
		return err
	}
	defer g.Close()
	stop := context.AfterFunc(ctx, func() { g.Close() })
	defer stop()
	files, err := g.SFTP()
	if err != nil {
		return err
	}
	defer files.Close()
	dst := to.path
	if dst == "" {
		dst = "."
	}
	if fi, err := files.Stat(dst); err == nil && fi.IsDir() {
		abs, err := filepath.Abs(from)
		if err != nil {
			return err
		}
		dst = path.Join(dst, filepath.Base(abs))
	} else if strings.HasSuffix(dst, "/") {
		return &session.Error{Message: "there is no folder " + dst + " in the session", Hint: fmt.Sprintf("capsid run %s -- mkdir -p %s", to.key, dst)}
	}
	in := &copyIn{ctx: ctx, files: files, progress: c.copyProgress()}
	err = in.copy(from, path.Clean(dst), info)
	in.progress.end()
	for _, s := range in.skipped {
		c.note("left out: %s", plain(s))
	}
	return copyFault(ctx, err)
}

func copyFault(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return &session.Error{Message: "interrupted; the copy is not whole"}
	}
	return &session.Error{Message: "copy", Err: err, Hint: "the copy is not whole; correct this and copy again"}
}
