package verify

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/imgctl/imgctl/pkg/oci"
)

// sentence says the verdict to somebody who has been woken up for it.
func (in *Inspection) sentence(ref oci.Reference) string {
	unknown := in.with(VerdictUnknown)
	var asides string
	if len(unknown) > 0 {
		asides = fmt.Sprintf(" %s could not be asked; nothing says that it changed.", join(unknown))
	}
	switch in.Verdict {
	case VerdictVerified:
		return fmt.Sprintf("Verified through %s (%s).%s", in.Through, in.Report.summary(), asides)
	case VerdictChanged:
		use := "Nothing may be used."
		if in.Verified != nil {
			use = fmt.Sprintf("Use the verified copy by digest: %s@%s.", in.Through, in.Digest)
		}
		return fmt.Sprintf("%s does not point at what is signed. Do not pull it from there. %s%s", at(ref, in.with(VerdictChanged)), use, asides)
	case VerdictRefused:
		if in.Reason == Denied {
			return fmt.Sprintf("No rule of the policy names the repository, so nobody was asked. Do not use %s.", ref)
		}
		return fmt.Sprintf("Every source has answered, and the policy accepts none of it: %s. Do not use %s.", reasonText[in.Reason], ref)
	case VerdictAbsent:
		return fmt.Sprintf("Every source has answered: there is no %s.", ref)
	}
	return fmt.Sprintf("Whether %s may be used is not known: %s could not be asked.", ref, join(unknown))
}

// reasonText says what a refusal is for.
var reasonText = map[Reason]string{
	Mismatch:           "the bytes are not those of the digest",
	Incomplete:         "a part of it is nowhere",
	Unsigned:           "nobody has signed it",
	WrongSigner:        "nobody whom the policy names has signed it",
	Expired:            "the key that signed it does not count at this time",
	RolledBack:         "it is older than the policy allows",
	Malformed:          "no signature can be read",
	TooFewSigners:      "too few of those whom the policy names have signed it",
	MissingAttestation: "an attestation that the policy asks for is missing",
	NoStatement:        "no statement says which releases are current",
	Stale:              "what says which releases are current is too old: somebody may be holding back the new",
	FastForward:        "what says which releases are current is from the future",
	Mixed:              "it is of no release that is current",
	Revoked:            "whoever released it has revoked it",
}

const unaffected = "Running nodes keep working: their images are local."

// next says what to do now. It never is to skip a check.
func (in *Inspection) next(ref oci.Reference) string {
	unknown := in.with(VerdictUnknown)
	switch in.Verdict {
	case VerdictVerified:
		if len(unknown) == 0 {
			return ""
		}
		return fmt.Sprintf("%s A new one can take %s@%s; --override DIR writes what makes it.", unaffected, in.Through, in.Digest)
	case VerdictUnknown:
		if in.locked() {
			return unaffected + " Wait if the repository is public: its sign-in is down. If it is private, see that --authfile has credentials for it."
		}
		return unaffected + " Wait, or name another source in the policy: a mirror, or a directory (oci:DIR)."
	case VerdictChanged:
		return fmt.Sprintf("Treat the credentials of %s as stolen, and what was pulled from there by tag as not verified.", join(in.with(VerdictChanged)))
	case VerdictAbsent:
		return "Compare the tag with those that were released (release.lock.json)."
	}
	switch in.Reason {
	case Denied:
		return "Ask for a repository that the policy names, or have its owner add a rule."
	case Expired:
		return "Compare this machine's clock with another; if it is right, a release with a key that counts is needed."
	case RolledBack:
		return "Somebody may have put an old release in the place of a new one: ask for the version that the policy allows."
	case Stale:
		return "Compare this machine's clock with another; if it is right, ask the publisher for a new statement (imgctl release), and why the sources have none."
	case FastForward:
		return "Compare this machine's clock with another; if it is right, somebody may hold a key of the publisher: ask."
	case Revoked:
		return "Use a later release, and replace this one where it runs."
	case NoStatement, MissingAttestation:
		return "Ask the publisher for what is missing; the copy may be older than the policy, or not whole."
	}
	return fmt.Sprintf("Compare the digest with release.lock.json, and ask the publisher whether %s was released.", ref)
}

// locked reports whether all that could not be asked want credentials.
func (in *Inspection) locked() bool {
	return !slices.ContainsFunc(in.Sources, func(s SourceVerdict) bool {
		return s.Verdict == VerdictUnknown && s.Outage != oci.OutageDenied
	})
}

// Answer says in a few words whether the source answers, and if not, in which way.
func (s *SourceVerdict) Answer() string {
	if s.Outage != "" {
		return "no: " + outageText[s.Outage]
	}
	if !s.Answers {
		return "no"
	}
	return "yes"
}

// outageText is the shape of an outage as a table has it.
var outageText = map[oci.Outage]string{
	oci.OutageDNS:       "its name does not resolve",
	oci.OutageRefused:   "connection refused",
	oci.OutageBlackHole: "no connection",
	oci.OutageTLS:       "TLS fails",
	oci.OutageStall:     "silence",
	oci.OutageCut:       "connection cut",
	oci.OutageDenied:    "not without sign-in",
	oci.OutageRateLimit: "rate limit",
	oci.OutageServer:    "server error",
	oci.OutageBlobs:     "blobs do not come",
	oci.OutageUnread:    "cannot be read",
	oci.OutageOther:     "it could not be asked",
}

// with lists the sources that have the verdict.
func (in *Inspection) with(v Verdict) []string {
	var list []string
	for _, s := range in.Sources {
		if s.Verdict == v {
			list = append(list, s.Source)
		}
	}
	return list
}

// at names the reference at each of the sources.
func at(ref oci.Reference, sources []string) string {
	for i := range sources {
		sources[i] = oci.Reference{Repository: sources[i], Tag: ref.Tag}.String()
	}
	return join(sources)
}

// summary says in a few words what was verified: "index, 2 platforms, 3 attestations".
func (r *Report) summary() string {
	attestations := 0
	for _, p := range r.Parts {
		attestations += len(p.Attestations)
	}
	words := []string{r.Parts[0].Name}
	if n := len(r.Parts) - 1; n > 0 {
		words = append(words, count(n, "platform"))
	}
	if attestations > 0 {
		words = append(words, count(attestations, "attestation"))
	}
	if r.Release != nil {
		words = append(words, fmt.Sprintf("current by release statement %d until %s", r.Release.Sequence, r.Release.Expires.UTC().Format(time.DateOnly)))
	}
	return strings.Join(words, ", ")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// join lists names as a sentence does.
func join(names []string) string {
	if n := len(names); n > 1 {
		return strings.Join(names[:n-1], ", ") + " and " + names[n-1]
	}
	return strings.Join(names, "")
}
