package attest

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/spdx/tools-golang/spdx/v2/common"
)

// identifiers hands out the element identifiers of one SPDX document. Each is
// made of what the element is, not of its place in the list, so that a package
// that two documents share has one identifier in both.
type identifiers map[common.ElementID]bool

// take returns the identifier for the element that the parts name. It holds
// only what SPDX 2.3 allows, letters, digits, dots and dashes; where that loses
// something, or the identifier is taken, a hash of the parts makes up for it.
func (ids identifiers) take(parts ...string) common.ElementID {
	exact := strings.Join(parts, "-")
	id := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' {
			return r
		}
		return '-'
	}, exact)
	candidate := common.ElementID(id)
	for n := 0; ids[candidate] || n == 0 && id != exact; n++ {
		sum := sha256.Sum256(fmt.Appendf(nil, "%q %d", parts, n))
		candidate = common.ElementID(fmt.Sprintf("%.100s-%x", id, sum[:6]))
	}
	ids[candidate] = true
	return candidate
}
