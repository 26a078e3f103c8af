package main

import (
	"errors"
	"os"

	"github.com/spf13/pflag"

	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/verify"
)

// policyFlags say what is demanded before an artifact may be used.
type policyFlags struct {
	policy string
	key    string

	seen map[string]int64 // by repository: the highest release statement that was seen; no flag
}

func (pf *policyFlags) register(f *pflag.FlagSet) {
	f.StringVar(&pf.policy, "policy", "", "policy `file`: who must have signed what")
	f.StringVar(&pf.key, "key", "", "public key `file`: one signature by it is demanded, and nothing else")
}

// file is the one that decides.
func (pf *policyFlags) file() string {
	if pf.policy != "" {
		return pf.policy
	}
	return pf.key
}

// words are the flags as they would be typed again.
func (pf *policyFlags) words() string {
	if pf.policy != "" {
		return " --policy " + pf.policy
	}
	return " --key " + pf.key
}

// verifier makes the verifier of the flags; repositories are those that a bare key is for.
func (a *app) verifier(pf policyFlags, reg *oci.Client, repositories ...string) (*verify.Verifier, error) {
	policy, err := pf.load(repositories)
	if err != nil {
		return nil, err
	}
	return &verify.Verifier{Policy: policy, Registry: reg, Now: a.now, Seen: pf.seen}, nil
}

func (pf *policyFlags) load(repositories []string) (*verify.Policy, error) {
	switch {
	case pf.policy != "" && pf.key != "":
		return nil, usage(errors.New("got --policy and --key, want one of them"))
	case pf.policy != "":
		return verify.LoadPolicy(pf.policy)
	case pf.key != "":
		pem, err := os.ReadFile(pf.key)
		if err != nil {
			return nil, err
		}
		return verify.KeyPolicy(pf.key, pem, repositories...)
	}
	return nil, hint(usage(errors.New("no policy")), "give --policy FILE, or --key FILE for one signer")
}
