package attest

import (
	"slices"
	"testing"
)

// The lists are searched by halving, which finds nothing reliably in a list out of order.
func TestTheLicenceListsAreSorted(t *testing.T) {
	for _, list := range [][]string{licenseIDs(), licenseExceptions()} {
		if !slices.IsSorted(list) || len(slices.Compact(slices.Clone(list))) != len(list) {
			t.Errorf("not sorted, or something twice: %q", list)
		}
		for _, id := range list {
			if !known(list, id) {
				t.Errorf("%s is not found", id)
			}
		}
	}
}
