package pam

import (
	"strings"
	"testing"
)

// template is a file of Debian's libpam-runtime, without its introduction.
func template(word string) string {
	return `# here are the per-package modules (the "Primary" block)
$primary
# here's the fallback if no module succeeds
` + word + `	requisite			pam_deny.so
# and here are more per-package modules (the "Additional" block)
$additional
# end of pam-auth-update config
`
}

func templates() map[string]string {
	all := make(map[string]string)
	for _, k := range kinds {
		all[k.name] = template(k.word)
	}
	return all
}

func configure(t *testing.T, profiles map[string]string) map[string]string {
	t.Helper()
	files, err := Configure(profiles, templates())
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 2*len(Kinds())+1 {
		t.Errorf("got %d files", len(files))
	}
	return files
}

const (
	unixProfile = `Name: Unix authentication
Default: yes
Priority: 256
Auth-Type: Primary
Auth:
	[success=end default=ignore]	pam_unix.so nullok try_first_pass
Auth-Initial:
	[success=end default=ignore]	pam_unix.so nullok
Session-Type: Additional
Session:
	required	pam_unix.so
`
	mkhomedirProfile = "Name: Home\nDefault: no\nPriority: 0\nSession-Type: Additional\nSession-Interactive-Only: yes\nSession:\n\toptional\t\t\tpam_mkhomedir.so\n"
	krbProfile       = `Name: Kerberos
Default: yes
Priority: 704
Conflicts: krb5-old, other
Auth-Type: Primary
Auth-Final:
	[success=end  default=ignore]   pam_krb5.so   minimum_uid=1000  try_first_pass

	[default=die]	pam_faildelay.so
Session-Type: Additional
Session-Interactive-Only: yes
Session:
	[success=end default=1]	pam_krb5.so
`
	oldProfile = "Name: Old\nDefault: yes\nPriority: 700\nAuth-Type: Primary\nAuth:\n\trequired pam_old.so\n"
)

// The files are those that pam-auth-update of Debian 13 (libpam-runtime 1.7.0-5)
// made of these profiles and templates.
func TestProfilesOfPAMAreEnabled(t *testing.T) {
	files := configure(t, map[string]string{"unix": unixProfile, "mkhomedir": mkhomedirProfile})
	permit := "[default=1]\t\t\tpam_permit.so\n"
	for path, want := range map[string]string{
		"/etc/pam.d/common-auth": strings.NewReplacer("$primary\n", "auth\t[success=1 default=ignore]\tpam_unix.so nullok\n",
			"$additional\n", "").Replace(template("auth")),
		"/etc/pam.d/common-account": strings.NewReplacer("$primary\n", "account\t"+permit, "$additional\n", "").Replace(template("account")),
		"/etc/pam.d/common-session-noninteractive": strings.NewReplacer("$primary\n", "session\t"+permit,
			"$additional\n", "session\trequired\tpam_unix.so \n").Replace(template("session")),
		"/var/lib/pam/auth":                   "Module: unix\n[success=end default=ignore]\tpam_unix.so nullok\n",
		"/var/lib/pam/session":                "Module: null\n" + permit + "Module: unix\nrequired\tpam_unix.so\n",
		"/var/lib/pam/session-noninteractive": "Module: null\n" + permit + "Module: unix\nrequired\tpam_unix.so\n",
		"/var/lib/pam/password":               "Module: null\n" + permit,
		"/var/lib/pam/seen":                   "unix\nmkhomedir\n",
	} {
		if got := files[path]; got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
}

func TestSeveralProfilesOfPAM(t *testing.T) {
	files := configure(t, map[string]string{"unix": unixProfile, "krb5": krbProfile, "krb5-old": oldProfile})
	for path, want := range map[string]string{
		"/etc/pam.d/common-auth": strings.NewReplacer("$primary\n", "auth\t[success=3  default=ignore]   pam_krb5.so minimum_uid=1000 try_first_pass\n"+
			"auth\t[default=die]\tpam_faildelay.so \nauth\t[success=1 default=ignore]\tpam_unix.so nullok try_first_pass\n", "$additional\n", "").Replace(template("auth")),
		"/etc/pam.d/common-session": strings.NewReplacer("$primary\n", "session\t[default=1]\t\t\tpam_permit.so\n",
			"$additional\n", "session\t[success=1 default=1]\tpam_krb5.so \nsession\trequired\tpam_unix.so \n").Replace(template("session")),
		"/etc/pam.d/common-session-noninteractive": strings.NewReplacer("$primary\n", "session\t[default=1]\t\t\tpam_permit.so\n",
			"$additional\n", "session\trequired\tpam_unix.so \n").Replace(template("session")),
		"/var/lib/pam/seen": "krb5\nkrb5-old\nunix\n",
	} {
		if got := files[path]; got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
}

func TestProfilesThatAreNoneAreRefused(t *testing.T) {
	_, err := Configure(map[string]string{"broken": "\tno field\n"}, templates())
	if err == nil || err.Error() != `profile broken: got "no field", want a field` {
		t.Errorf("got %v", err)
	}
	configure(t, map[string]string{"empty": "", "odd": "Default: yes\nPriority: high\n"})
}

func FuzzConfigure(f *testing.F) {
	f.Add(unixProfile)
	f.Add(krbProfile)
	f.Fuzz(func(t *testing.T, text string) {
		files, err := Configure(map[string]string{"fuzzed": text, "unix": unixProfile}, templates())
		if err != nil {
			return
		}
		for _, k := range kinds {
			if got := files["/etc/pam.d/common-"+k.name]; !strings.HasSuffix(got, "# end of pam-auth-update config\n") {
				t.Errorf("%s: got %q", k.name, got)
			}
		}
	})
}
