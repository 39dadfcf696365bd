//go:build !cgo || !pcsc

package pcsc

// Available says whether this program was built with PC/SC.
const Available = false

func newLibrary() (library, error) { return nil, ErrNotBuilt }
