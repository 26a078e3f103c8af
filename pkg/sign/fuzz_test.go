package sign

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"
)

// FuzzLogEntry: an answer of Rekor is an entry or an error of one line.
func FuzzLogEntry(f *testing.F) {
	f.Add([]byte(`{"ab":{"body":"eyJraW5kIjoiZHNzZSIsImFwaVZlcnNpb24iOiIwLjAuMSJ9","integratedTime":1,"logID":"ab","logIndex":1,"verification":{"signedEntryTimestamp":"AA==","inclusionProof":{"hashes":["ab"],"rootHash":"ab","treeSize":1,"checkpoint":"x"}}}}`))
	f.Add([]byte(`{}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		e, err := parseEntryV1(doc)
		if (e == nil) == (err == nil) || err != nil && strings.Contains(err.Error(), "\n") {
			t.Fatalf("%v, %v", e, err)
		}
	})
}

// FuzzCertificate: an answer of Fulcio is a certificate or an error of one line.
func FuzzCertificate(f *testing.F) {
	f.Add([]byte(`{"signedCertificateEmbeddedSct":{"chain":{"certificates":["-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]}}}`))
	f.Add([]byte(`{"signedCertificateDetachedSct":{"chain":{"certificates":[]}}}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		c, err := parseCertificate(doc)
		if (c == nil) == (err == nil) || err != nil && strings.Contains(err.Error(), "\n") {
			t.Fatalf("%v, %v", c, err)
		}
	})
}

// FuzzToken: no error about a token quotes it.
func FuzzToken(f *testing.F) {
	f.Add("e30.eyJhdWQiOiJzaWdzdG9yZSIsInN1YiI6ImEifQ.c2ln")
	f.Add("e30.eyJhdWQiOlsic2lnc3RvcmUiXSwiZW1haWwiOiJhQGIiLCJlbWFpbF92ZXJpZmllZCI6InRydWUifQ.c2ln")
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, token string) {
		_, err := tokenSubject(Secret(token), time.Unix(1, 0))
		if err != nil && (strings.Contains(err.Error(), "\n") || len(token) > 200 && strings.Contains(err.Error(), token)) {
			t.Fatal(err)
		}
	})
}

// FuzzSigningConfig: a signing config that is accepted sends no token in clear.
func FuzzSigningConfig(f *testing.F) {
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.signingconfig.v0.2+json","caUrls":[{"url":"https://a","majorApiVersion":1,"operator":"a","validFor":{"start":"2020-01-01T00:00:00Z"}}],"rekorTlogConfig":{"selector":"ANY"},"tsaConfig":{"selector":"ANY"}}`))
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.signingconfig.v0.2+json","caUrls":[{"url":"http://a","majorApiVersion":1,"operator":"a","validFor":{"start":"2020-01-01T00:00:00Z"}}]}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		s, err := ParseSigningConfig(doc, time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC))
		if err == nil && checkEndpoint(s.Fulcio) != nil {
			t.Fatalf("accepted %+v", s)
		}
	})
}

// FuzzLook: what is no signature is an error of one line.
func FuzzLook(f *testing.F) {
	f.Add([]byte(`{"mediaType":"x","verificationMaterial":{"certificate":{"rawBytes":"AAAA"}}}`), "application/vnd.dsse.envelope.v1+json", "-----BEGIN")
	f.Add([]byte(`{}`), "", "")
	f.Fuzz(func(t *testing.T, doc []byte, mediaType, certificate string) {
		if _, err := LookAt(doc); err != nil && strings.Contains(err.Error(), "\n") {
			t.Fatal(err)
		}
		if _, err := LookAtLegacy(mediaType, map[string]string{CertificateAnnotation: certificate}, doc); err != nil && strings.Contains(err.Error(), "\n") {
			t.Fatal(err)
		}
	})
}

func TestTokensOfEveryIssuerAreRead(t *testing.T) {
	for claims, want := range map[string]string{
		`{"aud":"sigstore","sub":"a"}`:                                             "a",
		`{"aud":["x","sigstore"],"sub":"a"}`:                                       "a",
		`{"aud":"sigstore","sub":"a","email":"b@c","email_verified":true}`:         "b@c",
		`{"aud":"sigstore","sub":"a","email":"b@c","email_verified":"true"}`:       "b@c",
		`{"aud":"sigstore","sub":"a","email":"b@c","email_verified":true,"exp":3}`: "b@c",
	} {
		token := "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
		if got, err := tokenSubject(Secret(token), time.Unix(2, 0)); got != want || err != nil {
			t.Errorf("%s: got %q, %v", claims, got, err)
		}
	}
}

func TestMissingServiceNamesItsBuildTag(t *testing.T) {
	for uri, want := range map[string]string{"awskms:///alias/a": "kms_aws", "azurekms://v/k": "kms_azure", "gcpkms://p": "kms_gcp", "hashivault://k": "kms_hashivault", "other://k": ""} {
		if got := missingTag(uri, nil); got != want {
			t.Errorf("%s: got %q, want %q", uri, got, want)
		}
	}
	if got := missingTag("awskms:///alias/a", []string{"awskms://"}); got != "" {
		t.Errorf("built in: got %q", got)
	}
}
