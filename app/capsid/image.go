package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"capsid/app/session"
	"capsid/guest/image"
)

func (c *cli) imageCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "image", Short: "Build and check what machines boot from", Args: exactly(0, "a command of its own"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return usageError{"image needs build, ls, verify, rm or path", cmd}
		}}
	cmd.AddCommand(c.imageBuildCmd(), c.imageLsCmd(), c.imageVerifyCmd(), c.imageRmCmd(), c.imagePathCmd())
	return cmd
}

func (c *cli) imageBuildCmd() *cobra.Command {
	var refresh, verbose, noWait bool
	cmd := &cobra.Command{
		Use: "build", Short: "Build the image, unless one of the same parts is there", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := session.DefaultPaths()
			if err != nil {
				return err
			}
			o := image.BuildOptions{Root: p.Images(), Refresh: refresh, NoWait: noWait}
			if verbose {
				o.Log = c.err
			}
			img, err := c.build(cmd.Context(), o)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.out, img.Dir)
			return err
		},
	}
	cmd.Flags().BoolVar(&refresh, "refresh", false, "fetch all packages anew, for the distribution's updates")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "show what the tools say")
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "fail when another build runs, instead of waiting for it")
	return cmd
}

// buildImage builds the ordinary image.
func (c *cli) buildImage(ctx context.Context, p session.Paths) error {
	_, err := c.build(ctx, image.BuildOptions{Root: p.Images()})
	return err
}

func (c *cli) build(ctx context.Context, o image.BuildOptions) (*image.Image, error) {
	show := c.buildProgress()
	o.Progress = show.step
	img, err := image.Build(ctx, o)
	show.end()
	switch {
	case err == nil:
		return img, nil
	case ctx.Err() != nil:
		return nil, &session.Error{Message: "interrupted; no half image is left", Hint: "capsid image build goes on with what was fetched"}
	case errors.Is(err, image.ErrBuilding):
		return nil, &session.Error{Message: err.Error(), Hint: "wait for it, or leave out --no-wait"}
	}
	return nil, err
}

type imageRow struct {
	Digest   string            `json:"digest"`
	Dir      string            `json:"dir"`
	Created  time.Time         `json:"created"`
	Size     int64             `json:"size"`
	Shared   int64             `json:"shared"`
	Release  string            `json:"release"`
	Kernel   string            `json:"kernel"`
	Versions map[string]string `json:"versions"`
}

func (c *cli) imageLsCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "ls", Short: "List images with size, age and what is in them", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := session.DefaultPaths()
			if err != nil {
				return err
			}
			list, skipped, err := image.List(p.Images())
			if err != nil {
				return err
			}
			out := []imageRow{}
			var rows [][]string
			for _, img := range list {
				m := img.Manifest
				total, shared := img.Size()
				out = append(out, imageRow{img.Digest, img.Dir, m.Created, total, shared, m.Release, m.Kernel, m.Versions})
				rows = append(rows, []string{img.Digest[:12], bytesText(total), short(time.Since(m.Created)), m.Release, m.Kernel, versionsText(m.Versions)})
			}
			for _, err := range skipped {
				c.note("not whole: %s", oneLine(err.Error()))
			}
			if asJSON {
				return c.json(out)
			}
			if len(rows) == 0 {
				c.note("No images. capsid image build makes one.")
				return nil
			}
			return c.table([]string{"IMAGE", "SIZE", "AGE", "RELEASE", "KERNEL", "VERSIONS"}, rows)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func versionsText(versions map[string]string) string {
	var list []string
	for name, v := range versions {
		list = append(list, name+" "+v)
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

func (c *cli) imageVerifyCmd() *cobra.Command {
	return &cobra.Command{
		Use: "verify [IMAGE]", Short: "Compare every file of an image with its digest", Args: between(0, 1, "perhaps the digest of an image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			img, err := findImage(args)
			if err != nil {
				return err
			}
			if err := img.Verify(cmd.Context(), nil); err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.out, "%s: ok\n", img.Digest)
			return err
		},
	}
}

func (c *cli) imagePathCmd() *cobra.Command {
	return &cobra.Command{
		Use: "path [IMAGE]", Short: "Print the folder of an image", Args: between(0, 1, "perhaps the digest of an image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			img, err := findImage(args)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.out, img.Dir)
			return err
		},
	}
}

func (c *cli) imageRmCmd() *cobra.Command {
	return &cobra.Command{
		Use: "rm IMAGE", Short: "Remove an image; sessions that run from it go on", Args: exactly(1, "the digest of an image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			img, err := findImage(args)
			if err != nil {
				return err
			}
			return image.Remove(img.Dir)
		},
	}
}

// findImage opens the image that args names by the beginning of its digest, or the newest.
func findImage(args []string) (*image.Image, error) {
	p, err := session.DefaultPaths()
	if err != nil {
		return nil, err
	}
	if len(args) == 0 {
		return image.Latest(p.Images())
	}
	// By the folders' names: one that is not whole must be found to be told of.
	entries, err := os.ReadDir(p.Images())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var found []string
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") && strings.HasPrefix(e.Name(), args[0]) {
			found = append(found, e.Name())
		}
	}
	switch len(found) {
	case 0:
		return nil, &session.Error{Message: "no image " + quote(args[0]), Hint: "capsid image ls lists them", Kind: image.ErrNone}
	case 1:
		return image.Open(filepath.Join(p.Images(), found[0]))
	}
	return nil, &session.Error{Message: fmt.Sprintf("%q could be any of %s", args[0], strings.Join(found, ", ")), Hint: "write more of it"}
}
