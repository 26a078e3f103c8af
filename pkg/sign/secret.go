package sign

import "log/slog"

const redacted = "REDACTED"

// Secret is a password that does not print itself: every way to turn it into
// text or JSON gives "REDACTED". Its bytes are reached by conversion only.
type Secret []byte

// String returns "REDACTED".
func (Secret) String() string { return redacted }

// GoString returns "REDACTED", so that %#v does not print the bytes.
func (Secret) GoString() string { return redacted }

// LogValue returns "REDACTED" for package slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON returns the JSON string "REDACTED".
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText returns "REDACTED" for encodings other than JSON.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
