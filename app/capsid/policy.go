package main

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"capsid/app/session"
	"capsid/assets"
	"capsid/proxy/policy"
)

func (c *cli) policyCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "policy", Short: "Check policy files, and ask what they say", Args: exactly(0, "a command of its own"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return usageError{"policy needs check or show", cmd}
		}}
	cmd.AddCommand(c.policyCheckCmd(), c.policyShowCmd())
	return cmd
}

func (c *cli) policyCheckCmd() *cobra.Command {
	return &cobra.Command{
		Use: "check [FILE]", Short: "Look for faults in the policy files, or in FILE", Args: between(0, 1, "perhaps a file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := session.DefaultPaths()
			if err != nil {
				return err
			}
			paths := session.PolicyPaths(p, session.Session{}, assets.Agent{})
			paths.SessionDecisions = ""
			if len(args) == 1 {
				if _, err := os.Stat(args[0]); err != nil {
					return &session.Error{Message: "policy file", Err: err, Hint: "check the path"}
				}
				paths.Session = args[0]
			}
			if _, err := policy.Load(paths); err != nil {
				return err
			}
			for _, f := range []string{paths.Corp, paths.Session, paths.User, paths.Decisions} {
				if _, err := os.Stat(f); f != "" && err == nil {
					fmt.Fprintf(c.out, "%s: ok\n", f)
				}
			}
			return nil
		},
	}
}

// verdict is the answer of policy show --explain.
type verdict struct {
	Method   string `json:"method"`
	URL      string `json:"url"`
	Decision string `json:"decision"`
	Rule     string `json:"rule"`
	Source   string `json:"source"`
	Reason   string `json:"reason,omitempty"`
}

func (c *cli) policyShowCmd() *cobra.Command {
	var key, agent string
	var explain, asJSON bool
	cmd := &cobra.Command{
		Use: "show [--explain METHOD URL]", Short: "Show where policy comes from, or what it says of a request", Args: between(0, 2, "METHOD and URL after --explain"),
		RunE: func(cmd *cobra.Command, args []string) error {
			paths, err := c.policyPaths(key, agent)
			if err != nil {
				return err
			}
			p, err := policy.Load(paths)
			if err != nil {
				return err
			}
			if !explain && len(args) == 0 {
				return c.showPaths(paths, asJSON)
			}
			if len(args) != 2 {
				return usageError{"--explain needs METHOD and URL", cmd}
			}
			r, err := parseRequest(args[0], args[1])
			if err != nil {
				return usageError{err.Error(), cmd}
			}
			v := p.Request(r)
			out := verdict{r.Method, args[1], string(v.Decision), v.Rule, v.Source, v.Reason}
			if asJSON {
				return c.json(out)
			}
			return c.table([]string{"DECISION", "RULE", "SOURCE", "REASON"}, [][]string{{out.Decision, orDash(out.Rule), orDash(out.Source), orDash(out.Reason)}})
		},
	}
	cmd.Flags().BoolVar(&explain, "explain", false, "say what policy decides about METHOD URL")
	cmd.Flags().StringVar(&key, "session", "", "as this session sees it")
	cmd.Flags().StringVar(&agent, "agent", "", "as a session of this agent would see it")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.MarkFlagsMutuallyExclusive("session", "agent")
	return cmd
}

// policyPaths are those of a session, of a new session of an agent, or of no session.
func (c *cli) policyPaths(key, agent string) (policy.Paths, error) {
	store, err := c.store()
	if err != nil {
		return policy.Paths{}, err
	}
	var sess session.Session
	if key != "" {
		st, err := store.Find(key)
		if err != nil {
			return policy.Paths{}, err
		}
		sess, agent = st.Session, st.Agent
	}
	agents, err := assets.Agents(store.Paths().Agents())
	if err != nil {
		return policy.Paths{}, err
	}
	var of assets.Agent
	for _, a := range agents {
		if a.Name == agent {
			of = a
		}
	}
	if agent != "" && of.Name == "" {
		return policy.Paths{}, &session.Error{Message: "there is no agent " + quote(agent), Hint: "choose one of " + strings.Join(c.agentNames(), ", ")}
	}
	paths := session.PolicyPaths(store.Paths(), sess, of)
	if key == "" {
		paths.SessionDecisions = ""
	}
	return paths, nil
}

type policyFileRow struct {
	What   string `json:"what"`
	Path   string `json:"path"`
	Exists bool   `json:"exists"`
}

func (c *cli) showPaths(p policy.Paths, asJSON bool) error {
	var list []policyFileRow
	for _, f := range []policyFileRow{
		{What: "organisation", Path: p.Corp}, {What: "session", Path: p.Session}, {What: "yours", Path: p.User},
		{What: "decisions for the session", Path: p.SessionDecisions}, {What: "decisions", Path: p.Decisions},
	} {
		if f.Path != "" {
			_, err := os.Stat(f.Path)
			f.Exists = err == nil
			list = append(list, f)
		}
	}
	if asJSON {
		return c.json(list)
	}
	var rows [][]string
	for _, f := range list {
		state := "not there"
		if f.Exists {
			state = "in force"
		}
		rows = append(rows, []string{f.What, state, f.Path})
	}
	return c.table([]string{"POLICY", "STATE", "FILE"}, rows)
}

func parseRequest(method, text string) (policy.Request, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return policy.Request{}, fmt.Errorf("%s is not a URL; write it as https://host/path", quote(text))
	}
	host, err := policy.Canonical(u.Hostname())
	if err != nil {
		return policy.Request{}, err
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "wss": "443", "http": "80", "ws": "80"}[u.Scheme]
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return policy.Request{}, fmt.Errorf("%s: what is its port? write it as https://%s", quote(text), net.JoinHostPort(host, "PORT"))
	}
	path := u.Path
	if path == "" {
		path = "/"
	}
	return policy.Request{Host: host, Port: n, Method: strings.ToUpper(method), Path: path}, nil
}
