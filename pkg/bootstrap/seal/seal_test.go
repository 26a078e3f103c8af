package seal

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
)

const canary = "s3cr3t-c4n4ry"

func archive() *Archive {
	return &Archive{Cluster: "example", Role: "controller", Files: []File{
		{"/etc/kubernetes/pki/sa.key", 0o640, "root", "kubeadm-sa-key-readers", []byte(canary + "\n")},
		{"/etc/kubernetes/admin.conf", 0o600, "root", "root", []byte("admin " + canary)},
		{"/etc/kubernetes/pki/ca.crt", 0o644, "root", "root", []byte("public")},
	}}
}

// machine makes a key pair of a machine.
func machine(t testing.TB) (Recipient, []Identity) {
	t.Helper()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	r, err := ParseRecipient(key.Recipient().String() + "\n")
	if err != nil {
		t.Fatal(err)
	}
	ids, err := ParseIdentities([]byte("# created: today\n" + key.String() + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return r, ids
}

// sshMachine is one with an SSH host key.
func sshMachine(t testing.TB) (Recipient, []Identity) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sshKey, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	r, err := ParseRecipient(strings.TrimSpace(string(ssh.MarshalAuthorizedKey(sshKey))) + " root@node1")
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "root@node1")
	if err != nil {
		t.Fatal(err)
	}
	ids, err := ParseIdentities(pem.EncodeToMemory(block))
	if err != nil {
		t.Fatal(err)
	}
	return r, ids
}

func TestEachRecipientOpensWhatWasSealedAndNobodyElse(t *testing.T) {
	first, firstKey := machine(t)
	second, secondKey := sshMachine(t)
	_, strangerKey := machine(t)
	_, sshStranger := sshMachine(t)
	sealed, err := Seal(archive(), []Recipient{first, second})
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, []byte(canary)) || bytes.Contains(sealed, []byte("kubernetes")) {
		t.Error("something can be read without a key")
	}
	want := archive()
	slices.SortFunc(want.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	for name, key := range map[string][]Identity{"X25519": firstKey, "SSH": secondKey, "one of several": append(strangerKey, firstKey...)} {
		got, err := Open(sealed, key)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for name, key := range map[string][]Identity{"a stranger": strangerKey, "an SSH stranger": sshStranger, "nobody": nil} {
		if _, err := Open(sealed, key); !errors.Is(err, ErrNotForUs) {
			t.Errorf("%s: got %v, want ErrNotForUs", name, err)
		}
	}
}

func TestTheOrderOfFilesDoesNotMatter(t *testing.T) {
	a, b := archive(), archive()
	slices.Reverse(b.Files)
	x, err := a.encode()
	if err != nil {
		t.Fatal(err)
	}
	y, err := b.encode()
	if err != nil || !bytes.Equal(x, y) {
		t.Errorf("bytes differ (%v)", err)
	}
}

func TestADamagedArchiveIsCalledThat(t *testing.T) {
	r, key := machine(t)
	sealed, err := Seal(archive(), []Recipient{r})
	if err != nil {
		t.Fatal(err)
	}
	flipped := slices.Clone(sealed)
	flipped[len(flipped)-1] ^= 1
	for name, data := range map[string][]byte{
		"one bit":        flipped,
		"cut":            sealed[:len(sealed)-20],
		"longer":         append(slices.Clone(sealed), 0),
		"empty":          nil,
		"something else": []byte("hello"),
	} {
		var damaged *DamagedError
		if _, err := Open(data, key); !errors.As(err, &damaged) {
			t.Errorf("%s: got %v, want *DamagedError", name, err)
		}
	}
	var content *ContentError
	if _, err := Open(make([]byte, MaxSize+1), key); !errors.As(err, &content) {
		t.Errorf("too large: got %v, want *ContentError", err)
	}
}

// Each row changes one thing in a list that is accepted (N-class entries).
func TestAListThatIsNotSafeToWriteIsRefused(t *testing.T) {
	good, err := archive().encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decode(good); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ old, new string }{
		"traversal":          {"/etc/kubernetes/admin.conf", "/etc/../../admin.conf"},
		"relative":           {"/etc/kubernetes/admin.conf", "etc/kubernetes/admin.conf"},
		"not clean":          {"/etc/kubernetes/admin.conf", "/etc//kubernetes/admin.conf"},
		"the root":           {"/etc/kubernetes/admin.conf", "/"},
		"line break":         {"/etc/kubernetes/admin.conf", `/etc/a\nb`},
		"twice":              {"/etc/kubernetes/admin.conf", "/etc/kubernetes/pki/ca.crt"},
		"other case":         {"/etc/kubernetes/admin.conf", "/etc/kubernetes/pki/CA.crt"},
		"file and directory": {"/etc/kubernetes/admin.conf", "/etc/kubernetes/pki"},
		"not in order":       {"/etc/kubernetes/admin.conf", "/etc/kubernetes/z"},
		"writable":           {`"0640"`, `"0660"`},
		"executable":         {`"0640"`, `"0755"`},
		"setuid":             {`"0640"`, `"4755"`},
		"mode in words":      {`"0640"`, `"rw-"`},
		"mode with a sign":   {`"0640"`, `"-640"`},
		"mode too short":     {`"0640"`, `"640"`},
		"owner in numbers":   {`"owner":"root","group":"kub`, `"owner":"0","group":"kub`},
		"owner an option":    {`"owner":"root","group":"kub`, `"owner":"-R","group":"kub`},
		"no group":           {`"kubeadm-sa-key-readers"`, `""`},
		"other bytes":        {`"body":"cHVibGlj"`, `"body":"cHVibGlk"`},
		"a link":             {`"owner":"root","group":"kub`, `"link":"/etc/shadow","owner":"root","group":"kub`},
		"another kind":       {`"SealedSecrets"`, `"Secrets"`},
		"another version":    {"imgctl.dev/v1", "imgctl.dev/v2"},
		"more after it":      {"}]}", "}]}{}"},
		"cut":                {"}]}", "}]"},
		"no files":           {string(good[bytes.Index(good, []byte(`"files":`)):]), `"files":[]}`},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(string(good), tt.old, tt.new, 1)
			if text == string(good) {
				t.Fatalf("%q is not in %s", tt.old, good)
			}
			var content *ContentError
			_, err := decode([]byte(text))
			if !errors.As(err, &content) || strings.Contains(err.Error(), canary) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line of *ContentError", err)
			}
		})
	}
}

func TestWhatCouldNotBeOpenedIsNotSealed(t *testing.T) {
	r, _ := machine(t)
	if _, err := Seal(archive(), nil); err == nil {
		t.Error("sealed for nobody")
	}
	a := archive()
	a.Files[0].Path = "/etc/../shadow"
	if _, err := Seal(a, []Recipient{r}); err == nil {
		t.Error("sealed with a path that leads out")
	}
}

func TestKeysOfOtherKindsAreRefusedWithoutBeingRepeated(t *testing.T) {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "age1", "age1abc", key.String(), "ssh-rsa AAAA", "ssh-ed25519 AAAA", "ssh-ed25519", "root"} {
		if _, err := ParseRecipient(text); err == nil || strings.Contains(err.Error(), key.String()[:24]) {
			t.Errorf("%.20q…: got %v", text, err)
		}
	}
	for _, text := range []string{"", "x", key.String() + "x", "-----BEGIN OPENSSH PRIVATE KEY-----\n" + canary} {
		if _, err := ParseIdentities([]byte(text)); err == nil || strings.Contains(err.Error(), canary) || strings.Contains(err.Error(), "AGE-SECRET-KEY-1"+key.String()[16:]) {
			t.Errorf("%.20q…: got %v", text, err)
		}
	}
	ids, err := ParseIdentities([]byte(key.String()))
	if err != nil || fmt.Sprintf("%v %+v %#v %s", ids, ids, ids, ids[0]) == "" || strings.Contains(fmt.Sprintf("%v %+v %#v", ids, ids, ids), key.String()) {
		t.Errorf("a key is printed (%v)", err)
	}
}

func TestFilesAreWrittenWithTheirModesWhateverTheUmask(t *testing.T) {
	for _, mask := range []int{0, 0o077} {
		root := t.TempDir()
		old := syscall.Umask(mask)
		done, err := archive().Write(root, nil)
		syscall.Umask(old)
		if err != nil || len(done) != 3 {
			t.Fatal(done, err)
		}
		for _, f := range archive().Files {
			fi, err := os.Stat(filepath.Join(root, f.Path))
			if err != nil || fi.Mode() != f.Mode {
				t.Errorf("%s: got %v and %v, want mode %v", f.Path, fi.Mode(), err, f.Mode)
			}
			up, err := os.Stat(filepath.Dir(filepath.Join(root, f.Path)))
			if err != nil || up.Mode().Perm() != 0o755 {
				t.Errorf("directory of %s: got %v and %v, want 0755", f.Path, up.Mode(), err)
			}
		}
	}
}

func TestWritingAgainKeepsWhatIsThereAndMendsTheRest(t *testing.T) {
	root := t.TempDir()
	if _, err := archive().Write(root, nil); err != nil {
		t.Fatal(err)
	}
	changed := filepath.Join(root, "etc/kubernetes/admin.conf")
	if err := os.WriteFile(changed, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	loose := filepath.Join(root, "etc/kubernetes/pki/sa.key")
	if err := os.Chmod(loose, 0o666); err != nil {
		t.Fatal(err)
	}
	done, err := archive().Write(root, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []Outcome{{"/etc/kubernetes/pki/sa.key", "kept"}, {"/etc/kubernetes/admin.conf", "replaced"}, {"/etc/kubernetes/pki/ca.crt", "kept"}}
	if diff := cmp.Diff(want, done); diff != "" {
		t.Error(diff)
	}
	if fi, err := os.Stat(loose); err != nil || fi.Mode() != 0o640 {
		t.Errorf("got %v and %v, want the mode mended", fi.Mode(), err)
	}
	if body, _ := os.ReadFile(changed); string(body) != "admin "+canary {
		t.Errorf("got %q", body)
	}
	left, err := filepath.Glob(filepath.Join(root, "etc/kubernetes/.*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left over: %v %v", left, err)
	}
}

func TestSymbolicLinksLeadNowhere(t *testing.T) {
	outside := t.TempDir()
	precious := filepath.Join(outside, "admin.conf")
	if err := os.WriteFile(precious, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, link := range map[string]struct{ at, to string }{
		"directory outside":        {"etc/kubernetes", outside},
		"directory above the root": {"etc/kubernetes", "../../../../../../.." + outside},
		"file outside":             {"etc/kubernetes/admin.conf", precious},
		"file inside":              {"etc/kubernetes/admin.conf", "pki"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			path := filepath.Join(root, link.at)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(link.to, path); err != nil {
				t.Fatal(err)
			}
			if _, err := archive().Write(root, nil); err == nil {
				t.Error("written through a link")
			}
			if files, err := os.ReadDir(outside); err != nil || len(files) != 1 {
				t.Errorf("outside there are %d files now (%v)", len(files), err)
			}
			if body, _ := os.ReadFile(precious); string(body) != "precious" {
				t.Errorf("got %q", body)
			}
		})
	}
}

func TestOwnersAreLookedUpBeforeAnythingIsWritten(t *testing.T) {
	root := t.TempDir()
	_, err := archive().Write(root, func(user, group string) (int, int, error) {
		if group == "kubeadm-sa-key-readers" {
			return 0, 0, errors.New("no such group")
		}
		return os.Getuid(), os.Getgid(), nil
	})
	if err == nil || !strings.Contains(err.Error(), "/etc/kubernetes/pki/sa.key: no such group") {
		t.Errorf("got %v", err)
	}
	if left, _ := os.ReadDir(root); len(left) > 0 {
		t.Errorf("got %d entries, want none", len(left))
	}
	if _, err := archive().Write(root, func(string, string) (int, int, error) { return os.Getuid(), os.Getgid(), nil }); err != nil {
		t.Error(err)
	}
}

func FuzzDecode(f *testing.F) {
	good, err := archive().encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"apiVersion":"imgctl.dev/v1","kind":"SealedSecrets","files":[{"path":"/a","mode":"0600"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := decode(text)
		if err != nil {
			var content *ContentError
			if !errors.As(err, &content) {
				t.Fatalf("got %T %v, want *ContentError", err, err)
			}
			return
		}
		again, err := a.encode()
		if err != nil {
			t.Fatalf("accepted, and cannot be sealed: %v", err)
		}
		if b, err := decode(again); err != nil || !cmp.Equal(a, b) {
			t.Errorf("comes back as something else (%v)", err)
		}
		var d document
		if json.Unmarshal(text, &d) != nil {
			t.Error("accepted and no JSON")
		}
	})
}

func FuzzOpen(f *testing.F) {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		f.Fatal(err)
	}
	r, err := ParseRecipient(key.Recipient().String())
	if err != nil {
		f.Fatal(err)
	}
	sealed, err := Seal(archive(), []Recipient{r})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add([]byte("age-encryption.org/v1\n-> X25519 a\nb\n--- c\n"))
	ids := []Identity{{key}}
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := Open(data, ids); err == nil && !bytes.Equal(data, sealed) {
			t.Error("opened what nobody sealed")
		}
	})
}
