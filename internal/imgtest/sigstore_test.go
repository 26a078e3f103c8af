package imgtest_test

import (
	"strings"
	"testing"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/upstream"
)

func TestEntriesOfALogOfAnySizeParse(t *testing.T) {
	s, err := imgtest.NewSigstore(nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 9 {
		signed, err := s.Sign(strings.NewReader("file"), imgtest.Signing{})
		if err != nil {
			t.Fatal(err)
		}
		e, err := upstream.ParseLogEntry(signed.Entry)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.HashedRekord(); err != nil {
			t.Error(err)
		}
	}
}
