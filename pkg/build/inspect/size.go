package inspect

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes. As text it is a whole number, of bytes or with one
// of the units KiB, MiB and GiB: "90MiB".
type Size int64

// units are those of a [Size], from large to small.
var units = []struct {
	name  string
	bytes Size
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// String is the size for people, rounded: "131.2 MiB".
func (s Size) String() string {
	for _, u := range units {
		if s >= u.bytes || s <= -u.bytes {
			return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(s)/float64(u.bytes)), ".0") + " " + u.name
		}
	}
	return fmt.Sprintf("%d B", int64(s))
}

// MarshalText is the size with nothing rounded.
func (s Size) MarshalText() ([]byte, error) {
	for _, u := range units {
		if s != 0 && s%u.bytes == 0 {
			return fmt.Appendf(nil, "%d%s", s/u.bytes, u.name), nil
		}
	}
	return strconv.AppendInt(nil, int64(s), 10), nil
}

// UnmarshalText accepts sizes above zero.
func (s *Size) UnmarshalText(text []byte) error {
	number, unit := string(text), Size(1)
	for _, u := range units {
		if n, ok := strings.CutSuffix(number, u.name); ok {
			number, unit = n, u.bytes
			break
		}
	}
	n, err := strconv.ParseUint(number, 10, 63)
	if err != nil || n == 0 || Size(n) > math.MaxInt64/unit {
		return fmt.Errorf("size %.40q: want a whole number above zero of bytes, KiB, MiB or GiB, such as 90MiB", text)
	}
	*s = Size(n) * unit
	return nil
}
