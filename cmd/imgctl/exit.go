package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/imgctl/imgctl/internal/deb"
	"github.com/imgctl/imgctl/internal/download"
	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/build"
	"github.com/imgctl/imgctl/pkg/build/buildkit"
	"github.com/imgctl/imgctl/pkg/build/inspect"
	"github.com/imgctl/imgctl/pkg/build/layer"
	"github.com/imgctl/imgctl/pkg/bundle/content"
	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/upstream"
	"github.com/imgctl/imgctl/pkg/verify"
)

// The exit codes. 10 to 13 are those of cosign, so that scripts carry over.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitDiffers     = 3
	exitDenied      = 4
	exitNotFound    = 5
	exitUnreachable = 6
	exitPartial     = 7
	exitMismatch    = 8
	exitChanged     = 9
	exitUnsigned    = 10
	exitWrongSigner = 12
	exitPolicy      = 14
	exitExpired     = 15
	exitUnsafe      = 16
	exitInterrupted = 130
)

// exitCode is a line of the table in docs/exit-codes.md, which is made from this one.
type exitCode struct {
	Code    int    `json:"code"`
	Name    string `json:"name"`
	Meaning string `json:"meaning"`
}

var exitCodes = []exitCode{
	{exitOK, "ok", "everything that was asked for is done"},
	{exitFailure, "failure", "something else went wrong: the disk is full, a file cannot be written"},
	{exitUsage, "usage", "a flag, an argument or a configuration file is wrong; nothing was done"},
	{exitDiffers, "differs", "two things that were compared differ, a lock is missing or no longer answers its spec, a secret its cluster file, or a converted policy would be weaker"},
	{exitDenied, "denied", "a registry refuses the credentials, an API server to say what everybody may know, or no key given opens what is sealed"},
	{exitNotFound, "not-found", "the place answered that it does not have it"},
	{exitUnreachable, "unreachable", "nobody who could answer could be asked: an outage, not a verdict"},
	{exitPartial, "partial", "what is required is done; a destination lags, or something could not be removed"},
	{exitMismatch, "mismatch", "bytes have another digest or size than the lock or the reference says, or a certificate authority another key than its pin"},
	{exitChanged, "changed", "a tag points at other bytes than it should, or an API server says something else when it is asked again"},
	{exitUnsigned, "unsigned", "everybody answered and there is no signature"},
	{exitWrongSigner, "wrong-signer", "there are signatures, none by a signer that the policy names or under the token"},
	{exitPolicy, "policy", "the policy does not admit it: no rule, an attestation missing; the gates of a spec do not admit the image; lint finds an error in a bundle; or a cluster-info says what it must not"},
	{exitExpired, "expired", "signed metadata, a token or the key of a signature is past its date, or metadata older than what was seen before"},
	{exitUnsafe, "unsafe", "an archive or bundle has an entry that is not safe to write"},
	{exitInterrupted, "interrupted", "Ctrl-C or SIGTERM; run the same command again to go on"},
}

func exitName(code int) string { return exitLine(code).Name }

func exitMeaning(code int) string { return exitLine(code).Meaning }

// exitLine is the line of the table about a code, or that of any failure.
func exitLine(code int) exitCode {
	for _, e := range exitCodes {
		if e.Code == code {
			return e
		}
	}
	return exitLine(exitFailure)
}

var errInterrupted = errors.New("interrupted")

// usageError marks what the user can mend in what he typed or wrote.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

func usage(err error) error { return usageError{err} }

// hintedError carries the one line that says what to do.
type hintedError struct {
	error
	hint string
}

func (h hintedError) Unwrap() error { return h.error }

// Hint is the line that [app.fail] prints. Errors of the rooms that know what to do have one too.
func (h hintedError) Hint() string { return h.hint }

// hintOf returns what the outermost error that knows says to do.
func hintOf(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}

func hint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return hintedError{err, fmt.Sprintf(format, args...)}
}

// codedError carries its exit code: for verdicts that are no error of a room.
type codedError struct {
	error
	code int
}

func (c codedError) Unwrap() error { return c.error }

func coded(code int, err error) error { return codedError{err, code} }

// exitOf is the one place where an error becomes a number. The order matters:
// what was decided beats what could not be asked.
func exitOf(err error) int {
	var (
		ce       codedError
		ue       usageError
		se       *strict.Error
		refusal  *verify.Refusal
		unknown  *verify.Unknown
		changed  *oci.Changed
		digest   *oci.DigestError
		mismatch *download.Mismatch
		none     *content.NoBundle
	)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errInterrupted), errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &ce):
		return ce.code
	case errors.As(err, &changed):
		return exitChanged
	case errors.As(err, &refusal):
		return refusalExit(refusal.Reason)
	case errors.As(err, &unknown): // 401 for everyone, too
		return exitUnreachable
	case errors.As(err, &digest), errors.As(err, &mismatch):
		return exitMismatch
	case errors.As(err, &none) && none.Want.Family != "" && none.Want.Role != "":
		return exitNotFound
	case errors.As(err, &none):
		return exitUsage
	case bootstrapExit(err) != exitOK:
		return bootstrapExit(err)
	case inputExit(err) != exitOK:
		return inputExit(err)
	case errors.As(err, &ue), errors.As(err, &se):
		return exitUsage
	case oci.Denied(err):
		return exitDenied
	case oci.Unreachable(err), download.Unreachable(err), buildkit.Unreachable(err):
		return exitUnreachable
	case oci.NotFound(err), download.NotFound(err), errors.Is(err, fs.ErrNotExist):
		return exitNotFound
	}
	return exitFailure
}

// inputExit is the code of what can be wrong with a build's inputs; exitOK when
// err is about something else.
func inputExit(err error) int {
	var (
		incomplete *upstream.Incomplete
		unproven   *upstream.Unproven
		older      *upstream.Older
		signature  *deb.SignatureError
		expired    *deb.ExpiredError
		olderSuite *build.OlderSuite
		entry      *deb.EntryError
		stale      *build.StaleError
		changed    *layer.ChangedError
		gate       *build.GateError
		odd        *inspect.EntryError
	)
	switch {
	case errors.As(err, &gate):
		return exitPolicy
	case errors.As(err, &odd):
		return exitUnsafe
	case errors.As(err, &incomplete): // some files of a release are there: worth another try
		return exitUnreachable
	case errors.Is(err, upstream.ErrNoSignature):
		return exitUnsigned
	case errors.As(err, &unproven), errors.As(err, &signature):
		return exitWrongSigner
	case errors.As(err, &older), errors.As(err, &expired), errors.As(err, &olderSuite):
		return exitExpired
	case errors.As(err, &entry):
		return exitUnsafe
	case errors.As(err, &stale):
		return exitDiffers
	case errors.As(err, &changed): // a cached layer was changed on disk
		return exitMismatch
	}
	return exitOK
}

// fail prints the error, its hint, and returns its code. With --output json the
// error is on stdout too, as a document.
func (a *app) fail(cmd *cobra.Command, err error) int {
	if strings.HasPrefix(err.Error(), "unknown command") {
		err = hint(usage(err), "imgctl --help")
	}
	code := exitOf(err)
	advice := hintOf(err)
	var shown errShown
	if !errors.As(err, &shown) {
		fmt.Fprintf(a.stderr, "imgctl: %s\n", oneLine(err.Error()))
	}
	if advice != "" {
		fmt.Fprintf(a.stderr, "hint: %s\n", oneLine(advice))
	}
	var reported errReported
	if (a.json || a.output == "json" || a.output == "yaml") && !errors.As(err, &shown) && !errors.As(err, &reported) {
		printDocument(a.stdout, a.output, errorDocument{Header: header("Error"), Code: code, Name: exitName(code), Message: oneLine(err.Error()), Hint: advice})
	}
	return code
}

// errShown marks an error whose text is in the result that was printed already.
type errShown struct{ error }

func (e errShown) Unwrap() error { return e.error }

// errReported marks an error that the document on stdout tells too: there is
// never a second document.
type errReported struct{ error }

func (e errReported) Unwrap() error { return e.error }

// reported marks err, unless it is nil.
func reported(err error) error {
	if err == nil {
		return nil
	}
	return errReported{err}
}

type errorDocument struct {
	strict.Header
	Code    int    `json:"code"`
	Name    string `json:"name"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

func header(kind string) strict.Header {
	return strict.Header{APIVersion: strict.APIVersion, Kind: kind}
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// printDocument prints v as YAML if that is the form, else as JSON.
func printDocument(w io.Writer, form string, v any) error {
	if form != "yaml" {
		return printJSON(w, v)
	}
	var b bytes.Buffer
	if err := printJSON(&b, v); err != nil {
		return err
	}
	doc, err := yaml.JSONToYAML(b.Bytes())
	if err != nil {
		return fmt.Errorf("write YAML: %w", err)
	}
	_, err = w.Write(doc)
	return err
}

// oneLine keeps an error on its line and a terminal's escape sequences out of it.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case r < ' ' || r == 0x7f:
			return -1
		}
		return r
	}, strings.TrimSpace(s))
}

// newExitCodes prints the table.
func newExitCodes(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "Print what each exit code means",
		Example: `  imgctl exit-codes
  imgctl exit-codes --json`,
		Args: exactArgs(0, "none"),
		RunE: func(*cobra.Command, []string) error {
			if a.output == "json" {
				return printJSON(a.stdout, struct {
					strict.Header
					Codes []exitCode `json:"codes"`
				}{header("ExitCodes"), exitCodes})
			}
			for _, e := range exitCodes {
				fmt.Fprintf(a.stdout, "%3d  %-13s %s\n", e.Code, e.Name, e.Meaning)
			}
			return nil
		},
	}
}

// refusalExit maps what a verifier refused for to cosign's codes and ours.
func refusalExit(r verify.Reason) int {
	switch r {
	case verify.Unsigned:
		return exitUnsigned
	case verify.WrongSigner, verify.TooFewSigners, verify.Malformed:
		return exitWrongSigner
	case verify.Mismatch:
		return exitMismatch
	case verify.Expired, verify.RolledBack, verify.Stale, verify.FastForward:
		return exitExpired
	}
	return exitPolicy
}
