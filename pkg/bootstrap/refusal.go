package bootstrap

import "fmt"

// Reason says why a cluster-info is not believed.
type Reason string

// The reasons. All but [Unsigned] mean that somebody answers who should not.
const (
	Unsigned     Reason = "unsigned"      // no signature under this token, or not yet
	BadSignature Reason = "bad-signature" // signed by somebody who does not have the token's secret
	WrongContent Reason = "wrong-content" // it says more or something else than where the API server is
	WrongCA      Reason = "wrong-ca"      // none of the pins is of this authority
	WrongServer  Reason = "wrong-server"  // the server's certificate is by another authority
	Changed      Reason = "changed"       // it says something else to those who check the server
)

// Refusal is the error for a cluster-info that was read and is not believed.
type Refusal struct {
	Reason Reason
	err    error
}

// Error is one line.
func (r *Refusal) Error() string { return r.err.Error() }

// Unwrap returns the cause.
func (r *Refusal) Unwrap() error { return r.err }

func refuse(reason Reason, format string, args ...any) error {
	return &Refusal{reason, fmt.Errorf(format, args...)}
}
