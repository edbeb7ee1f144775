// Command capsid-desktop is Capsid's window. It is a client of the sessions' supervisors and ends with its window; sessions do not.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/app"

	"capsid/app/backend"
	"capsid/app/session"
	"capsid/app/ui"
	"capsid/app/ui/remember"
	"capsid/assets"
)

const (
	appID   = "io.capsid.desktop"
	version = "0.1.0"
)

func main() {
	err := run(os.Args[1:])
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
	case session.Hint(err) != "":
		fmt.Fprintf(os.Stderr, "capsid-desktop: %v; %s\n", err, session.Hint(err))
		os.Exit(1)
	default:
		fmt.Fprintln(os.Stderr, "capsid-desktop:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("capsid-desktop", flag.ContinueOnError)
	showVersion := flags.Bool("version", false, "print the version")
	verbose := flags.Bool("verbose", false, "tell on standard error what the tools say that build an image")
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "capsid-desktop opens Capsid's window. In a terminal, use capsid.")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *showVersion {
		fmt.Println("capsid-desktop", version)
		return nil
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected %q: the window takes no arguments", flags.Arg(0))
	}
	if os.Getenv("DISPLAY") == "" && os.Getenv("WAYLAND_DISPLAY") == "" {
		return &session.Error{Message: "there is no display to open a window on", Hint: "in a terminal, use: capsid new claude"}
	}
	paths, err := session.DefaultPaths()
	if err != nil {
		return err
	}
	store, err := session.OpenStore(paths)
	if err != nil {
		return err
	}
	local := &ui.Local{Store: store, Candidates: backend.All()}
	if *verbose {
		local.BuildLog = os.Stderr
	}
	return open(local, remember.Open(filepath.Join(paths.State, "desktop.json")))
}

// open shows the window and returns when it was closed.
func open(engine ui.Engine, memory *remember.File) error {
	icon := fyne.NewStaticResource("capsid.png", assets.Icon())
	// The same as FyneApp.toml, which a program built by go build does not carry.
	app.SetMetadata(fyne.AppMetadata{ID: appID, Name: "Capsid", Version: version, Icon: icon, Migrations: map[string]bool{"fyneDo": true}})
	a := app.NewWithID(appID)
	a.SetIcon(icon)
	probe := os.Getenv("CAPSID_UI_PROBE")
	w := ui.New(ui.Config{App: a, Engine: engine, Remember: memory, Version: version, Icon: icon, Probe: probe != "",
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if probe != "" {
		l, err := listenProbe(probe)
		if err != nil {
			return err
		}
		defer l.Close()
		go func() {
			if err := w.ServeProbe(l); err != nil {
				fmt.Fprintln(os.Stderr, "capsid-desktop:", err)
			}
		}()
	}
	w.Show()
	a.Run()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := w.Wait(ctx); err != nil {
		return fmt.Errorf("close the window: %w", err)
	}
	return nil
}

// listenProbe makes the probe's socket, which this user alone can open: nobody can connect before its mode is set, since its folder must be private.
func listenProbe(path string) (net.Listener, error) {
	if fi, err := os.Stat(filepath.Dir(path)); err != nil || fi.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("CAPSID_UI_PROBE: the folder of %s must exist and be yours alone (mode 0700)", path)
	}
	return net.Listen("unix", path)
}
