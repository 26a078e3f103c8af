package owners

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
)

// maxAccounts is the most bytes of a file that lists users or groups.
const maxAccounts = 8 << 20

// record is a user or a group of the machine.
type record struct {
	name string
	id   uint32
	file string
}

// accounts compares the users and groups of the machine with those of the
// table: a name has its number, and a number is of nobody else. A machine knows
// users from more places than /etc/passwd: systems whose /usr is an image have
// some of them there, and systemd has records of its own.
func (a *audit) accounts() error {
	users, err := a.records([]string{"etc/passwd", "usr/lib/passwd"}, "*.user", "userName", "uid")
	if err != nil {
		return err
	}
	groups, err := a.records([]string{"etc/group", "usr/lib/group"}, "*.group", "groupName", "gid")
	if err != nil {
		return err
	}
	for _, u := range a.table.users {
		a.account("user", u.Name, u.ID, users)
		a.account("group", u.Name, u.ID, groups)
	}
	for _, g := range a.table.groups {
		a.account("group", g.Name, g.ID, groups)
	}
	return nil
}

func (a *audit) account(kind, name string, id uint32, records []record) {
	there := false
	for _, r := range records {
		there = there || r.name == name
		if (r.name == name) != (r.id == id) {
			a.report(Finding{
				Path: "/" + r.file, What: "account",
				Got: fmt.Sprintf("%s %.40s %d", kind, r.name, r.id), Want: fmt.Sprintf("%s %s %d", kind, name, id),
			})
		}
	}
	if !there {
		a.report(Finding{Path: SysusersPath, What: "account", Got: fmt.Sprintf("no %s %s", kind, name), Want: fmt.Sprintf("%s %s %d", kind, name, id)})
	}
}

// records reads lists in the form of passwd(5) and group(5), and the records of
// systemd-userdbd(8) whose file name answers the pattern.
func (a *audit) records(lists []string, pattern, nameKey, idKey string) ([]record, error) {
	var all []record
	for _, file := range lists {
		body, err := a.read(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, parseList(file, string(body))...)
	}
	for _, dir := range []string{"etc/userdb", "run/userdb", "usr/lib/userdb"} {
		files, err := fs.Glob(a.root.FS(), dir+"/"+pattern)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			body, err := a.read(file)
			if err != nil {
				return nil, err
			}
			if r, ok := parseRecord(file, body, nameKey, idKey); ok {
				all = append(all, r)
			}
		}
	}
	return all, nil
}

func (a *audit) read(file string) ([]byte, error) {
	f, err := a.root.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("read %s: want a regular file", file))
	}
	body, err := io.ReadAll(io.LimitReader(f, maxAccounts+1))
	if err == nil && len(body) > maxAccounts {
		err = fmt.Errorf("read %s: got more than %d bytes", file, maxAccounts)
	}
	return body, err
}

// parseList returns the accounts of a list. Lines that name none, such as those
// that ask a directory service, are passed over, as the C library does.
func parseList(file, text string) []record {
	var all []record
	for line := range strings.Lines(text) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(fields) < 4 || fields[0] == "" || strings.ContainsAny(fields[0][:1], "#+-") {
			continue
		}
		if id, err := strconv.ParseUint(fields[2], 10, 32); err == nil {
			all = append(all, record{fields[0], uint32(id), file})
		}
	}
	return all
}

func parseRecord(file string, body []byte, nameKey, idKey string) (record, bool) {
	var fields map[string]json.RawMessage
	r := record{file: file}
	if json.Unmarshal(body, &fields) != nil || json.Unmarshal(fields[nameKey], &r.name) != nil || json.Unmarshal(fields[idKey], &r.id) != nil {
		return record{}, false
	}
	return r, true
}
