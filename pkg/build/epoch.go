package build

import (
	"fmt"
	"strconv"
	"time"
)

// maxEpoch is the last second that an archive can hold without extensions and
// that RFC 3339 can write: tar has 33 bits for it, JSON's time four digits for the year.
const maxEpoch = 1<<33 - 1

// ParseEpoch reads the value of SOURCE_DATE_EPOCH: seconds since 1970, in
// decimal digits and nothing else (https://reproducible-builds.org/specs/source-date-epoch/).
// A value that cannot be used is an error: falling back to the clock would hide it.
func ParseEpoch(s string) (time.Time, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: got %.40q, want seconds since 1970 in decimal digits", s)
	}
	if n > maxEpoch {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: got %s, want at most %d", s, int64(maxEpoch))
	}
	return time.Unix(int64(n), 0).UTC(), nil
}
