package keystore

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func newVault(t *testing.T, uuid string, epoch uint64) *vault {
	t.Helper()
	r, err := newRegion(rootLength)
	must(t, err)
	for i := range r.b {
		r.b[i] = byte(i)
	}
	return &vault{root: r, uuid: uuid, epoch: epoch}
}

// TestASealedValueOpensOnlyInItsPlace has one root key in all cases, so that
// nothing but the binding keeps the values apart.
func TestASealedValueOpensOnlyInItsPlace(t *testing.T) {
	t.Parallel()
	here := newVault(t, "store-1", 1)
	p := place{"bucket", "name", []byte("aad")}
	sealed, err := here.seal(p, 5, []byte("plain"))
	must(t, err)
	if plain, version, err := here.open(nil, p, sealed); err != nil || version != 5 || string(plain) != "plain" {
		t.Fatalf("in its place: %q %d %v", plain, version, err)
	}
	tests := []struct {
		name   string
		vault  *vault
		place  place
		sealed []byte
	}{
		{"other name", here, place{"bucket", "nam", p.aad}, sealed},
		{"other bucket", here, place{"bucke", "name", p.aad}, sealed},
		{"a letter moved from bucket to name", here, place{"bucke", "tname", p.aad}, sealed},
		{"a letter moved from name to bucket", here, place{"bucketn", "ame", p.aad}, sealed},
		{"a letter moved from name to aad", here, place{"bucket", "nam", []byte("eaad")}, sealed},
		{"no aad", here, place{"bucket", "name", nil}, sealed},
		{"other store", newVault(t, "store-2", 1), p, sealed},
		{"a letter moved from store to bucket", newVault(t, "store-", 1), place{"1bucket", "name", p.aad}, sealed},
		{"other epoch", newVault(t, "store-1", 2), p, sealed},
		{"other algorithm", here, p, edit(sealed, 3, 3)},
		{"other generation", here, p, edit(sealed, 7, 3)},
		{"other version", here, p, edit(sealed, 15, 3)},
		{"other epoch inside", here, p, edit(sealed, 23, 3)},
		{"other nonce", here, p, edit(sealed, fixedPart, 1)},
		{"other text", here, p, edit(sealed, fixedPart+nonceLength, 1)},
		{"other tag", here, p, edit(sealed, len(sealed)-1, 1)},
		{"cut short", here, p, sealed[:len(sealed)-1]},
		{"nothing", here, p, nil},
	}
	for _, test := range tests {
		if plain, _, err := test.vault.open(nil, test.place, test.sealed); !errors.Is(err, ErrUnseal) || plain != nil {
			t.Errorf("%s: %q %v", test.name, plain, err)
		}
	}
	if _, _, err := here.open(nil, p, edit(sealed, 2, '1'^'2')); !errors.Is(err, ErrNewer) {
		t.Errorf("newer format: %v", err)
	}
}

func TestSealForOthers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustOpen(t, dir)
	sealed, err := s.Seal("psc", []byte("record 1"), []byte("A5A5A5"))
	must(t, err)
	if bytes.Contains(sealed, []byte("A5A5A5")) || len(sealed) != overhead+6 {
		t.Errorf("sealed: %q", sealed)
	}
	must(t, s.Close())
	s = mustOpen(t, dir)
	plain, err := s.Open("psc", []byte("record 1"), sealed)
	if err != nil || string(plain) != "A5A5A5" {
		t.Fatalf("open after a restart: %q %v", plain, err)
	}
	second := mustOpen(t, t.TempDir())
	for i, open := range []func() ([]byte, error){
		func() ([]byte, error) { return s.Open("psc", []byte("record 2"), sealed) },
		func() ([]byte, error) { return s.Open("psc", nil, sealed) },
		func() ([]byte, error) { return s.Open("image", []byte("record 1"), sealed) },
		func() ([]byte, error) { return s.Open("psc", []byte("record 1"), nil) },
		func() ([]byte, error) { return second.Open("psc", []byte("record 1"), sealed) },
	} {
		if _, err := open(); !errors.Is(err, ErrUnseal) {
			t.Errorf("case %d: %v", i, err)
		}
	}
	// What the store keeps for itself is not to be had by this door.
	for _, purpose := range []string{"", "Psc", "a/b", "ä", strings.Repeat("a", 33)} {
		if _, err := s.Seal(purpose, nil, nil); err == nil {
			t.Errorf("purpose %q taken", purpose)
		}
	}
	must(t, s.Stage(keyText(1), "a", digestOf(1)), s.Close())
	rec := records(t, dir)[recPending]
	s = mustOpen(t, dir)
	for _, purpose := range []string{"record", "pending"} {
		if _, err := s.Open(purpose, nil, rec); !errors.Is(err, ErrUnseal) {
			t.Errorf("a stored key opened as %q: %v", purpose, err)
		}
	}
}
