package main

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/bundle/owners"
)

type bundleAuditCmd struct {
	*app
	root   string
	roles  []string
	ids    map[string]string
	repair bool
}

// auditDocument is what the audit prints with --output json.
type auditDocument struct {
	strict.Header
	Root     string           `json:"root"`
	Findings []owners.Finding `json:"findings"`
}

func newBundleAudit(a *app) *cobra.Command {
	c := &bundleAuditCmd{app: a}
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Compare users, owners and modes of a machine with the table of who owns what",
		Long: `Compare users, owners and modes of a machine with the table of who owns what.

The table is in docs/owners.md. Owners are compared by number, in the lists of users of the machine itself, which may be
another one's disk: etc/passwd, usr/lib/passwd and the records of systemd's userdb. What is not there is not missed. No
symbolic link is followed.

The exit code is 3 when something differs that was not repaired.`,
		Example: `  imgctl bundle audit --role controller --role etcd
  imgctl bundle audit --root /sysroot --role worker --repair -o json`,
		Args: exactArgs(0, "none"),
		RunE: func(*cobra.Command, []string) error {
			return wrap("bundle audit", c.run())
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.root, "root", "/", "`directory` that is the machine's root")
	f.StringArrayVar(&c.roles, "role", nil, "`role` of the machine: controller, worker or etcd; all of them when none is given")
	f.StringToStringVar(&c.ids, "id", nil, "`NAME=NUMBER` of a user or group that has another than the stated one")
	a.registerOutput(f)
	f.BoolVar(&c.repair, "repair", false, "set owners and modes")
	return cmd
}

func (c *bundleAuditCmd) run() error {
	table, roles, err := c.table()
	if err != nil {
		return usage(err)
	}
	found, err := table.Audit(c.root, c.repair, roles...)
	if err != nil {
		return err
	}
	left := 0
	for _, f := range found {
		if !f.Repaired {
			left++
		}
	}
	if err := c.print(found); err != nil {
		return err
	}
	if left > 0 {
		return reported(coded(exitDiffers, fmt.Errorf("%s: got %d differences that were not repaired, want none", c.root, left)))
	}
	return nil
}

func (c *bundleAuditCmd) table() (*owners.Table, []owners.Role, error) {
	ids := make(map[string]uint32)
	for name, text := range c.ids {
		id, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return nil, nil, fmt.Errorf("--id %s: got %q, want a number", name, text)
		}
		ids[name] = uint32(id)
	}
	table, err := owners.New(ids)
	if err != nil {
		return nil, nil, err
	}
	if len(c.roles) == 0 {
		return table, owners.Roles(), nil
	}
	var roles []owners.Role
	for _, text := range c.roles {
		role := owners.Role(text)
		if !slices.Contains(owners.Roles(), role) {
			return nil, nil, fmt.Errorf("--role: got %q, want one of %v", text, owners.Roles())
		}
		roles = append(roles, role)
	}
	return table, roles, nil
}

func (c *bundleAuditCmd) print(found []owners.Finding) error {
	if c.output == "json" {
		return printJSON(c.stdout, auditDocument{header("Audit"), c.root, append([]owners.Finding{}, found...)})
	}
	for _, f := range found {
		verdict := "differs"
		if f.Repaired {
			verdict = "repaired"
		}
		if _, err := fmt.Fprintf(c.stdout, "%-8s %s: %s: got %s, want %s\n", verdict, f.Path, f.What, f.Got, f.Want); err != nil {
			return err
		}
	}
	return nil
}
