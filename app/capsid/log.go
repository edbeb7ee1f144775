package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"capsid/app/session"
	"capsid/proxy/ledger"
)

func (c *cli) logCmd() *cobra.Command {
	var follow, blocked, asJSON bool
	var limit int
	cmd := &cobra.Command{
		Use: "log ID", Short: "Show the ledger: every request of a session and what was decided", Args: exactly(1, "the ID or name of a session"),
		RunE: func(cmd *cobra.Command, args []string) error {
			store, st, err := c.find(args[0])
			if err != nil {
				return err
			}
			q := ledger.Query{Limit: limit, Blocked: blocked}
			if follow {
				return c.followLog(cmd.Context(), store.Client(st.ID), q, asJSON)
			}
			list, err := readLedger(cmd.Context(), store, st, q)
			if err != nil {
				return err
			}
			if asJSON {
				return c.json(list)
			}
			if from := st.Parent; from != nil {
				c.note("It goes on from %s; what was asked for before that is in the log of session %s.", from, from.Session)
			}
			if len(list) == 0 {
				c.note("Nothing yet.")
				return nil
			}
			return c.ledgerTable(list)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&follow, "follow", "f", false, "go on with what comes")
	f.BoolVar(&blocked, "blocked", false, "only what was refused")
	f.BoolVar(&asJSON, "json", false, "print JSON; with --follow one object a line")
	f.IntVarP(&limit, "lines", "n", 1000, "the last so many")
	return cmd
}

// readLedger asks the supervisor while there is one, and the file else.
func readLedger(ctx context.Context, store *session.Store, st session.Status, q ledger.Query) ([]ledger.Entry, error) {
	list, err := store.Client(st.ID).Ledger(ctx, q)
	if !errors.Is(err, session.ErrNotRunning) {
		return list, err
	}
	path := filepath.Join(store.Paths().Folder(st.ID), "ledger.db")
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return []ledger.Entry{}, nil
	}
	r, err := ledger.Read(path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return r.Query(q)
}

func (c *cli) ledgerTable(list []ledger.Entry) error {
	var rows [][]string
	for _, e := range list {
		row := ledgerRow(e)
		row[2], row[7] = cut(row[2], 72), cut(row[7], 100) // --json has all of it
		rows = append(rows, row)
	}
	return c.table([]string{"TIME", "DECISION", "WHAT", "STATUS", "SIZE", "TOOK", "BY", "WHY"}, rows)
}

func ledgerRow(e ledger.Entry) []string {
	status, took := "-", "-"
	if e.Status != 0 {
		status = fmt.Sprint(e.Status)
	}
	if e.Done && e.Duration > 0 {
		took = short(e.Duration)
	}
	return []string{e.Time.Local().Format("15:04:05"), string(e.Decision), what(e), status, bytesText(e.Sent + e.Received), took, orDash(e.Process), why(e)}
}

// what was asked for, in one expression.
func what(e ledger.Entry) string {
	switch {
	case e.Kind == ledger.DNS:
		return "name " + e.Host
	case e.Kind == ledger.Connect:
		return fmt.Sprintf("connect %s:%d", e.Host, e.Port)
	case e.URL != "":
		return e.Method + " " + e.URL
	}
	return e.Method + " " + e.Host
}

func why(e ledger.Entry) string {
	text := e.Reason
	if text == "" && e.Rule != "" {
		text = "rule " + e.Rule
	}
	if e.Source != "" && e.Source != "built in" {
		text += " [" + e.Source + "]"
	}
	return orDash(text)
}

// followLog prints what there is and what comes. A row is printed when its request is over.
func (c *cli) followLog(ctx context.Context, client *session.Client, q ledger.Query, asJSON bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Followed first, so that nothing falls between.
	events, err := client.Events(ctx)
	if err != nil {
		return err
	}
	list, err := client.Ledger(ctx, q)
	if err != nil {
		return err
	}
	printed := map[int64]bool{}
	show := func(e ledger.Entry) error {
		if !e.Done || printed[e.ID] || q.Blocked && e.Decision == ledger.Allow {
			return nil
		}
		printed[e.ID] = true
		if asJSON {
			data, err := json.Marshal(e)
			if err == nil {
				_, err = fmt.Fprintf(c.out, "%s\n", data)
			}
			return err
		}
		row := ledgerRow(e)
		_, err := fmt.Fprintf(c.out, "%s  %-5s  %s  %s  %s  %s\n", row[0], row[1], plain(row[2]), row[3], row[4], plain(row[7]))
		return err
	}
	for _, e := range list {
		if err := show(e); err != nil {
			return err
		}
	}
	for e := range events {
		if e.Kind != session.LedgerEvent || e.Entry == nil {
			continue
		}
		if err := show(*e.Entry); err != nil {
			return err
		}
		if len(printed) > 100_000 { // a row is completed once; the map is for those seen both here and in the list
			clear(printed)
		}
	}
	return nil
}
