package sign

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

const module = "?module-path=/m.so"

func TestKeysOnTokensAreNamedAsRFC7512Does(t *testing.T) {
	three := 3
	for uri, want := range map[string]PKCS11{
		"pkcs11:token=release;object=kubelet" + module:                         {Token: "release", Object: "kubelet"},
		"pkcs11:object=kubelet;token=release;type=private" + module:            {Token: "release", Object: "kubelet"},
		"pkcs11:slot-id=3;id=%00%01%ff" + module:                               {Slot: &three, ID: []byte{0, 1, 0xff}},
		"pkcs11:serial=AB%2012;object=a%3Bb%3Dc%26d" + module:                  {Serial: "AB 12", Object: "a;b=c&d"},
		"pkcs11:token=a+b;id=k" + module:                                       {Token: "a+b", ID: []byte("k")},
		"pkcs11:token=t;object=k?pin-source=file:/run/pin&module-path=/m.so":   {Token: "t", Object: "k", PINSource: "/run/pin"},
		"pkcs11:token=t;object=k?pin-source=file:///run/pin&module-path=/m.so": {Token: "t", Object: "k", PINSource: "/run/pin"},
		"pkcs11:token=t;object=k?pin-source=pins/a%20b&module-path=%2Fm.so":    {Token: "t", Object: "k", PINSource: "pins/a b"},
	} {
		want.Module = "/m.so"
		got, err := ParsePKCS11(uri)
		if err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("%s: got %+v, %v; want %+v", uri, got, err, want)
		}
	}
}

func TestURIThatNamesNoKeyIsRefusedAndNotRepeated(t *testing.T) {
	const pin = "314159"
	for uri, want := range map[string]string{
		"awskms:///alias/" + pin: "want pkcs11:",
		"pkcs11:":                "got 0 of token, serial and slot-id, want one",
		"pkcs11:" + module:       "got 0 of token, serial and slot-id",
		"pkcs11:token=t;serial=" + pin + ";object=k" + module:               "got 2 of token, serial and slot-id",
		"pkcs11:token=" + pin + module:                                      "want object or id",
		"pkcs11:token=t;object=" + pin:                                      "want module-path",
		"pkcs11:token=t;token=" + pin + ";object=k" + module:                "token: it is there twice",
		"pkcs11:token=t;object=" + module:                                   "object: want a value",
		"pkcs11:token=t;object=k%00" + pin + module:                         "object: want text, without zero bytes",
		"pkcs11:token=t;object=%4" + module + pin:                           "object: a % that escapes nothing",
		"pkcs11:token=t;" + pin + module:                                    "attribute 2: want NAME=VALUE",
		"pkcs11:token=t;;object=k" + module:                                 "attribute 2: want NAME=VALUE",
		"pkcs11:slot-id=-" + pin + ";object=k" + module:                     "slot-id: want a number",
		"pkcs11:token=t;object=k;type=" + pin + module:                      "type: want private",
		"pkcs11:token=t;object=k;model=" + pin + module:                     "model: want token, serial or slot-id",
		"pkcs11:token=t;object=k;pin-value=" + pin + module:                 "pin-value: want token, serial or slot-id",
		"pkcs11:token=t;object=k" + module + "&pin-value=" + pin:            "pin-value: others can read it there",
		"pkcs11:token=t;object=k" + module + "&pin-value=%z" + pin:          "pin-value: a % that escapes nothing",
		"pkcs11:token=t;object=k" + module + "&pin-source=%7Cecho%20" + pin: "pin-source: want a file, and no program",
		"pkcs11:token=t;object=k?module-name=" + pin:                        "module-name: want module-path, pin-source",
		"pkcs11:token=" + strings.Repeat("t", maxURI):                       "of at most 4096 bytes",
	} {
		k, err := ParsePKCS11(uri)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %+v, %v; want %q", uri, k, err, want)
		} else if strings.Contains(err.Error(), pin) {
			t.Errorf("%s: %v repeats a value", uri, err)
		}
	}
}

func FuzzPKCS11(f *testing.F) {
	f.Add("pkcs11:token=release;object=kubelet?module-path=/m.so&pin-source=file:/pin")
	f.Add("pkcs11:slot-id=3;id=%00%01?module-path=/m.so")
	f.Add("pkcs11:token=t;object=k?module-path=/m.so&pin-value=1234")
	f.Fuzz(func(t *testing.T, uri string) {
		k, err := ParsePKCS11(uri)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Fatalf("more than one line: %q", err)
			}
			return
		}
		again, err := ParsePKCS11(k.String() + "?module-path=" + escape(k.Module))
		if err != nil {
			t.Fatalf("%s: its own name %s: %v", uri, k, err)
		}
		if again.String() != k.String() || again.Module != k.Module || !bytes.Equal(again.ID, k.ID) {
			t.Fatalf("got %+v and %+v", k, again)
		}
	})
}
